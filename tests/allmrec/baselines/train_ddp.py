"""Trains a method from one stage into the next with two processes, each on users of its own; writes what each has."""

import sys
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from allmrec.baselines.ctrl import CTRL
from allmrec.baselines.morec import MoRec
from allmrec.baselines.recformer import RecFormer
from common.models.base import Recommender
from common.types import SequenceBatch
from tests.common.models import toy


def small(method: str, sbert: str) -> Recommender:
    """A method with one epoch before its last stage."""
    torch.manual_seed(0)
    if method == "recformer":
        sizes: dict[str, Any] = {"window": 4, "width": 16, "layers": 1, "heads": 2, "vocabulary": 320, "dropout": 0.0}
        return RecFormer(toy.NUM_ITEMS, 8, None, ("title",), pretrain_epochs=1, refresh_epochs=1, lr=1e-2, **sizes)
    sizes = {"max_history": toy.MAX_HISTORY, "width": 8, "dropout": 0.0, "sbert": sbert}
    if method == "morec":
        return MoRec(toy.NUM_ITEMS, trained_layers=1, frozen_epochs=1, encoder_lr=1e-2, **sizes)
    return CTRL(toy.NUM_ITEMS, align_epochs=1, latent=8, encoder_lr=1e-2, **sizes)


class Course(L.Callback):
    """Notes the weights of each process after each epoch."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.course: list[dict[str, Tensor]] = []

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert trainer.num_training_batches == 1, "each process has one of two halves"
        self.course.append({name: value.clone() for name, value in pl_module.named_parameters()})

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        torch.save(self.course, self.folder / f"{type(pl_module).__name__.lower()}-{trainer.global_rank}.pt")


def half(batch: SequenceBatch, which: int) -> SequenceBatch:
    return {name: value[which::2] for name, value in batch.items()}  # type: ignore[return-value, index]  # a comprehension loses the keys


def main(folder: Path, sbert: str) -> None:
    torch.set_num_threads(1)
    for method in ("morec", "ctrl", "recformer"):
        model = small(method, sbert)
        model.attach(toy.catalogue())
        options: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
        trainer = L.Trainer(
            accelerator="cpu",
            devices=2,
            strategy="ddp_fork_find_unused_parameters_true",
            max_epochs=3,
            enable_checkpointing=False,
            callbacks=[Course(folder)],
            **options,
        )
        batch = next(toy.sequence_batches())
        trainer.fit(model, toy.loader(half(batch, 0), half(batch, 1)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
