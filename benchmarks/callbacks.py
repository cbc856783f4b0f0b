"""What a run records about itself: checkpoints, seconds, the best validation, per-case ranks."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason
from lightning.pytorch.plugins import TorchCheckpointIO
from torch import Tensor

from benchmarks.runs import LAST
from common.data.schema import Manifest
from common.files import replacing
from common.models.base import Recommender
from common.models.finished import WEIGHTS
from common.types import SequenceBatch

STAMP = "recbench"
"""Key under which a checkpoint stores the data it was trained on."""


def checkpoints(folder: Path, monitor: str, mode: str) -> list[L.Callback]:
    """Callbacks that keep the best and the last state of a run under fixed names.

    The best comes first, so that the file of the last state knows about it. There are two callbacks because one that
    monitors a metric updates its copy of the last state only together with the best.
    """
    best = RunCheckpoint(folder, Path(WEIGHTS).stem, monitor=monitor, mode=mode, enable_version_counter=False)
    last = RunCheckpoint(folder, Path(LAST).stem, enable_version_counter=False)
    return [best, last]


class RunCheckpoint(ModelCheckpoint):
    """A checkpoint of a run folder that may have moved since: a resumed run finds its files where it is now."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the best value so far, in this folder; Lightning would forget it if the folder were another."""

        def here(path: str) -> str:
            return str(Path(self.dirpath or "") / Path(path).name) if path else path

        paths = ("best_model_path", "kth_best_model_path", "last_model_path")
        moved: dict[str, Any] = {name: here(state_dict[name]) for name in paths if name in state_dict}
        moved["best_k_models"] = {here(path): value for path, value in state_dict.get("best_k_models", {}).items()}
        super().load_state_dict(state_dict | moved | {"dirpath": self.dirpath})

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Saves, unless the best is wanted and the epoch has not been validated."""
        if self.monitor is None or not cut_off(trainer):
            super().on_train_epoch_end(trainer, pl_module)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and renames it, so that a kill never leaves half of one.

    Lightning's own writes it into the folder of temporary files, which may lie on another disk.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None) -> None:
        """Writes ``path`` completely or not at all."""
        try:
            # A stream says why it cannot be written, where a path would not.
            with replacing(Path(path)) as part, part.open("wb") as stream:
                torch.save(checkpoint, stream)
        except RuntimeError as error:
            # PyTorch ends the file even then, and its complaint hides what stopped the writing.
            raise error.__context__ if isinstance(error.__context__, OSError | KeyboardInterrupt) else error from None


def stamp_of(manifest: Manifest) -> dict[str, str]:
    """What a checkpoint records about the data that it was trained on."""
    hashes = {name: manifest.hashes[f"{name}.parquet"] for name in ("items", "users")}
    return {"dataset": manifest.dataset, "fingerprint": manifest.fingerprint} | hashes


class NoiseSeed(L.Callback):
    """Seeds dropout and other noise of every batch, so that a resumed training equals an uninterrupted one.

    Args:
        seed: Seed of the run.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.begun = False
        """Whether a batch was trained on, so that the model itself fits."""

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: SequenceBatch, batch_idx: int
    ) -> None:
        """Seeds by run, epoch, batch and process."""
        self.begun = True
        place = f"{self.seed} {trainer.current_epoch} {batch_idx} {trainer.global_rank}"
        torch.manual_seed(int.from_bytes(hashlib.sha256(place.encode()).digest()[:4]))


class LastingEarlyStopping(EarlyStopping):
    """Early stopping that holds when a run is resumed which was interrupted after its training, in the test."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stops again where training had stopped; Lightning would train on."""
        if self.stopping_reason is not EarlyStoppingReason.NOT_STOPPED:
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Looks at the epoch's validation, where it has one; Lightning would count the one before again."""
        if not cut_off(trainer):
            super().on_train_epoch_end(trainer, pl_module)


def cut_off(trainer: L.Trainer) -> bool:
    """Whether ``max_steps`` has ended an epoch, which then has no validation."""
    return not (trainer.should_stop or trainer.fit_loop.epoch_loop._num_ready_batches_reached())


class RunRecord(L.Callback):
    """Times training and testing, remembers the best validation and keeps the ranks of the test.

    Its state is saved in checkpoints, so that a resumed run also counts the seconds before the interruption.

    Args:
        monitor: Metric that chooses the checkpoint.
        mode: Whether it should be maximised (``max``) or minimised (``min``).
        stamp: What checkpoints record about their data.
    """

    def __init__(self, monitor: str, mode: str, stamp: Mapping[str, str]) -> None:
        self.monitor, self.mode = monitor, mode
        self.stamp = dict(stamp)
        self.train_seconds = 0.0
        self.test_seconds = 0.0
        self.seconds_to_best = 0.0
        self.best: float | None = None
        self.best_epoch = 0
        self.ranks: dict[str, dict[str, Tensor]] = {}
        self.slices: dict[str, dict[str, Tensor]] = {}
        """For each protocol and slice, which cases belong to it."""
        self.values: dict[str, dict[str, Tensor]] = {}
        """For each protocol and metric, values of its cases that do not follow from ranks."""
        self.top_metrics: dict[str, float] = {}
        self._started = 0.0
        self._earlier = 0.0

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Starts the training clock."""
        self._started, self._earlier = time.perf_counter(), self.train_seconds

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Records the best value so far and the first epoch that reached it."""
        if trainer.sanity_checking or self.monitor not in trainer.callback_metrics:
            return
        value = float(trainer.callback_metrics[self.monitor])
        sign = 1 if self.mode == "max" else -1
        if self.best is None or sign * value > sign * self.best:
            self.best, self.best_epoch = value, trainer.current_epoch
            self.seconds_to_best = self._elapsed() if trainer.state.fn == "fit" else 0.0

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stops the training clock."""
        self.train_seconds = self._elapsed()

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Starts the test clock."""
        self._started = time.perf_counter()

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keeps the per-case ranks. Runs on every process, because gathering them needs all of them."""
        assert isinstance(pl_module, Recommender)
        for protocol, ranks in pl_module.case_ranks.items():
            self.ranks[protocol] = {name: column.cpu() for name, column in ranks.table().items()}
            # Metrics of the top lists cannot be computed from the stored ranks.
            self.top_metrics |= {
                f"test/{protocol}/overall/{name}": float(value)
                for name, value in ranks.metrics().items()
                if name.startswith(("coverage", "mean_popularity"))
            }
        self.top_metrics |= pl_module.extra_metrics()
        self.values = pl_module.case_values()

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stops the test clock."""
        self.test_seconds = time.perf_counter() - self._started

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Adds the stamp to the checkpoint."""
        checkpoint[STAMP] = dict(self.stamp)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to continue its counts."""
        return {
            "train_seconds": self._elapsed(),
            "seconds_to_best": self.seconds_to_best,
            "best": self.best,
            "best_epoch": self.best_epoch,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the counts from before the interruption."""
        for name, value in state_dict.items():
            setattr(self, name, value)
        self._earlier = self.train_seconds

    def _elapsed(self) -> float:
        return self._earlier + (time.perf_counter() - self._started if self._started else 0.0)


class Artifacts(L.Callback):
    """Lets the tested model write what later stages read, while it is still on its device.

    Args:
        folder: Run folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Writes on the first process."""
        assert isinstance(pl_module, Recommender)
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]  # Lightning sets it by name
            pl_module.write_artifacts(self.folder)


def training_summary(trainer: L.Trainer, record: RunRecord, closed_form: bool) -> dict[str, Any]:
    """How training went: monitored metric, epochs, stopping reason, and whether it was stopped while still improving.

    *Undertrained*: the budget ended it, not early stopping, and the last improvement was at most half the patience ago.
    """
    early = next((callback for callback in trainer.callbacks if isinstance(callback, EarlyStopping)), None)  # type: ignore[attr-defined]  # Lightning sets it by name
    reason = "closed_form" if closed_form else _stopping_reason(trainer, early)
    fresh = early is None or 2 * early.wait_count <= early.patience
    return {
        "monitor": record.monitor,
        "best": record.best,
        "best_epoch": record.best_epoch,
        # A run that goes on in its test has not completed the last one.
        "epochs": 0 if closed_form else trainer.fit_loop.epoch_progress.current.ready,
        "steps": trainer.global_step,
        "stopped": reason,
        "undertrained": reason in ("max_epochs", "max_steps", "max_time") and fresh,
    }


def _stopping_reason(trainer: L.Trainer, early: EarlyStopping | None) -> str:
    # A threshold stops it too, and a patience of 0 is over only at the first epoch without a gain.
    if early is not None and early.stopping_reason is not EarlyStoppingReason.NOT_STOPPED:
        return "early_stopping"
    if trainer.max_steps != -1 and trainer.global_step >= trainer.max_steps:
        return "max_steps"
    if trainer.max_epochs not in (None, -1) and trainer.current_epoch >= (trainer.max_epochs or 0):
        return "max_epochs"
    return "max_time"
