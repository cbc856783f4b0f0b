"""Which checkpoint a run may go on from, and how it does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
from torch import Tensor

from benchmarks.callbacks import STAMP
from benchmarks.configuration import Plan, models_named
from benchmarks.experiments import read_yaml
from benchmarks.memory import ROWS
from benchmarks.runs import CONFIG, LAST, flat, identity
from common.errors import UserError
from common.models.finished import WEIGHTS, load_checkpoint

LIMITS = ("name", "data.test_", "data.eval_batch_size")
"""Options, or their beginnings, in which a run may differ from one whose checkpoint it continues."""
LENGTH = "trainer.max_"
"""Another one, unless the learning rate depends on it."""
GRADIENTS = "gradients"
"""Key of a checkpoint for the gradients of a step that has had some of its batches."""


class Resumed(NamedTuple):
    """A checkpoint to go on from."""

    path: Path
    stamp: dict[str, str]
    """What it says about its training."""


def checkpoint_to_resume(given: str | None, plan: Plan) -> Resumed | None:
    """What ``--ckpt_path`` means.

    Raises:
        UserError: If it does not exist, is not a checkpoint, or was trained on other data.
    """
    if given is None:
        return None
    path = plan.folder / LAST if given == "last" else Path(given)
    cure = "Leave --ckpt_path out to start from scratch." if given == "last" else "Name a .ckpt file of a run."
    stamp = load_checkpoint(path, cure).get(STAMP, {})
    if stamp.get("fingerprint") != plan.manifest.fingerprint:
        raise UserError(
            f"{path} was trained on other data: {stamp.get('dataset')} "
            f"({str(stamp.get('fingerprint'))[:12]}), not {plan.manifest.dataset} ({plan.manifest.fingerprint[:12]}).",
            "Name a checkpoint trained on this store, or leave --ckpt_path out to start from scratch.",
        )
    if path.parent.resolve() != plan.folder.resolve():
        for name in (CONFIG, WEIGHTS):
            if not (path.parent / name).is_file():
                raise UserError(f"There is no {name} beside {path}.", "Name a checkpoint in its run folder.")
        require_same_training(path, plan)
    return Resumed(path, stamp)


def require_same_training(checkpoint: Path, plan: Plan) -> None:
    """Checks that another run's checkpoint is one that this run could have written: only limits may differ.

    A learning rate that falls towards the end of a training would not be that of a longer one.

    Raises:
        UserError: If it is not.
    """
    kinds = models_named(plan.config["model"]["class_path"])
    limits = LIMITS if any(kind.rate_needs_length for kind in kinds) else (*LIMITS, LENGTH)
    own, theirs = map(settings_of, (plan.config, read_yaml(checkpoint.parent / CONFIG)))
    for name in sorted(own.keys() | theirs.keys()):
        if not name.startswith(limits) and own.get(name) != theirs.get(name):
            raise UserError(
                f"{checkpoint} was trained with {name} {theirs.get(name)}, not {own.get(name)}.",
                "Name a checkpoint of the same training, or leave --ckpt_path out to start from scratch.",
            )


def settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that decides what a run computes, by dotted name: its settings, and the ids of its predecessors."""
    earlier = {f"predecessors.{role}": Path(folder).name for role, folder in (config.get("predecessors") or {}).items()}
    return flat(identity(config)) | earlier


class Continuation(L.Callback):
    """Goes on exactly where a checkpoint was made, in four places where Lightning alone would not.

    * Behind an epoch of a training with ``max_steps``, whose epochs Lightning takes for unfinished: it would end the
      next one before its first batch.
    * Within an epoch that a limit has cut off, which Lightning takes for finished.
    * Within a step: gradients of the batches that it has had are kept, of several processes those of the first.
    * Within an epoch of larger batches, where memory had them halved since.

    Args:
        rows: Rows of a batch.
    """

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.gradients: dict[str, Tensor] = {}

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Adds the gradients of a step that is not complete."""
        if trainer.fit_loop._should_accumulate():
            known = ((name, parameter.grad) for name, parameter in pl_module.named_parameters())
            checkpoint[GRADIENTS] = {name: gradient for name, gradient in known if gradient is not None}

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Takes up gradients, counts the epoch's batches as those of this run, and opens an epoch that was cut off."""
        self.gradients = checkpoint.get(GRADIENTS, {})
        loop, parts = checkpoint["loops"]["fit_loop"], int(checkpoint[STAMP].get(ROWS, self.rows)) // self.rows
        progress = loop["epoch_loop.batch_progress"]
        if parts > 1:
            for counts in (progress["total"], progress["current"]):
                counts.update({name: parts * count for name, count in counts.items()})
            for loader in loop["state_dict"].get("combined_loader", []):
                loader["given"] *= parts
        if not progress["is_last_batch"]:
            for counts in loop["epoch_progress"].values():
                counts["processed"] = counts["completed"]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Gives parameters their gradients back, and completes an epoch that is."""
        for name, parameter in pl_module.named_parameters():
            if name in self.gradients:
                parameter.grad = self.gradients[name].to(parameter.device)
        self.gradients = {}
        if (loop := trainer.fit_loop).restarted_on_epoch_end:
            loop.epoch_progress.increment_completed()
            loop.reset_restart_stage()
            loop._restarting = loop.epoch_loop.restarting = False
