"""``recbench speed rank``, ``train`` and ``lrd``: models in the Trainer of a run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import EarlyStopping

from benchmarks.callbacks import RunRecord
from benchmarks.environment import peak_memory
from benchmarks.speed.memory import MemoryAbove
from common.data.datamodule import SequenceDataModule
from common.models.sasrec import SASRec
from common.types import PAD, SequenceBatch
from lrd.backbones.kda import KDA
from lrd.data import RelationalDataModule
from lrd.discovery import LatentRelationDiscovery
from lrd.module import LRD


def measure_rank(data: Mapping[str, Any], repeats: int, test_users: int | None) -> dict[str, Any]:
    """Seconds of a full-ranking test with the Trainer of a run, and peak memory above model and data."""
    module = SequenceDataModule(**data, test_users=test_users)
    model = _sasrec(module)
    trainer = _trainer([])
    seconds, above = [], []
    for _ in range(repeats):
        with MemoryAbove() as memory:
            started = time.perf_counter()
            trainer.test(model, module, verbose=False)
            seconds.append(time.perf_counter() - started)
        above.append(memory.bytes)
    users = len(model.case_ranks["full"].table()["case_id"])
    return {
        "users": users,
        "items": module.num_items,
        "seconds": min(seconds),
        "users_per_second": users / min(seconds),
        "peak_bytes_above_model": max(above),
        "all_seconds": seconds,
    }


def measure_train(data: Mapping[str, Any], max_epochs: int, patience: int) -> dict[str, Any]:
    """Target positions per second of pure training, and seconds to the best validation, including validations."""
    L.seed_everything(0, verbose=False)
    module = SequenceDataModule(**data)
    model = _sasrec(module)
    clock, record = PositionClock(), RunRecord("val/ndcg@10", "max", {})
    stop = EarlyStopping("val/ndcg@10", mode="max", patience=patience)
    trainer = _trainer([clock, record, stop], max_epochs=max_epochs)
    trainer.fit(model, module)
    rates = [positions / seconds for positions, seconds in clock.epochs[1:]] or [0.0]
    return {
        "positions_per_second": sum(p for p, _ in clock.epochs) / sum(s for _, s in clock.epochs),
        "best_epoch_positions_per_second": max(rates),
        "epochs": trainer.current_epoch,
        "seconds": record.train_seconds,
        "seconds_to_best": record.seconds_to_best,
        "best_epoch": record.best_epoch,
        "best_val_ndcg@10": record.best,
    }


def measure_lrd(data: Mapping[str, Any], repeats: int, test_users: int | None) -> dict[str, Any]:
    """Seconds of a training epoch and of a sampled-99 test of KDA_LRD in its released settings, and peak memory.

    The first epoch and the first test include one-time costs, and are ignored if there are more. ``peak_bytes`` is the
    peak memory of the process so far, ``peak_bytes_above_model`` what training and tests add to it.
    """
    L.seed_everything(0, verbose=False)
    protocol = "sampled-99"
    module = RelationalDataModule(
        **data,
        max_history=20,
        batch_size=256,
        negatives="complete",
        val_protocol=protocol,
        test_protocols=[protocol],
        test_users=test_users,
    )
    model = LRD(
        module.num_users,
        module.num_items,
        module.num_entities,
        module.num_relations,
        module.text_width,
        backbone=KDA(spectrum="random"),
        discovery=LatentRelationDiscovery(8, "released", skip_virtual=True),
        lr=1e-3,
    )
    model.attach(module.catalogue)
    clock, record = PositionClock(), RunRecord("val/ndcg@5", "max", {})
    trainer = _trainer([clock, record], max_epochs=repeats + 1, limit_val_batches=0)
    tests = []
    with MemoryAbove() as memory:
        trainer.fit(model, module)
        for _ in range(repeats):
            trainer.test(model, module, verbose=False)
            tests.append(record.test_seconds)
    epochs = [seconds for _, seconds in clock.epochs]
    return {
        "epoch_seconds": min(epochs[1:]),
        "score_seconds": min(tests),
        "users": len(model.case_ranks[protocol].table()["case_id"]),
        "peak_bytes_above_model": memory.bytes,
        "peak_bytes": peak_memory()["host"],
        "all_epochs": epochs,
        "all_tests": tests,
    }


class PositionClock(L.Callback):
    """Counts the trained positions and the seconds of each epoch, without its validation."""

    def __init__(self) -> None:
        self.epochs: list[tuple[int, float]] = []

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Starts counting."""
        self.positions, self.started = 0, time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: object, batch: SequenceBatch, batch_idx: int
    ) -> None:
        """Counts the batch; the epoch ends with its last batch."""
        self.positions += int((batch["targets"] != PAD).sum())
        if trainer.is_last_batch:
            self.epochs.append((self.positions, time.perf_counter() - self.started))


def _sasrec(module: SequenceDataModule) -> SASRec:
    model = SASRec(module.num_items, max_history=module.max_history, width=64, num_blocks=2)
    model.attach(module.catalogue)
    return model


def _trainer(callbacks: list[L.Callback], max_epochs: int = 1, limit_val_batches: float = 1.0) -> L.Trainer:
    return L.Trainer(
        callbacks=callbacks,
        max_epochs=max_epochs,
        limit_val_batches=limit_val_batches,
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
