"""Models that are complete once the catalogue is attached: they use counts, not gradients."""

from __future__ import annotations

from abc import abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

from common.errors import UserError
from common.models.base import Recommender
from common.types import DataModule, SequenceBatch


class NothingToTrain(Recommender):
    """A model without gradient training: ``fit`` ends before its first step, so that suites run it like any other."""

    closed_form = True

    def setup(self, stage: str) -> None:
        """Attaches the catalogue of the trainer's DataModule, and completes the model with its cases."""
        super().setup(stage)
        if self.data_module is not None:
            self.complete(self.data_module)

    def complete(self, data: DataModule) -> None:
        """Takes what the attached model needs beyond the catalogue, once; nothing by default."""

    def loss(self, batch: SequenceBatch) -> dict[str, Tensor]:
        """Not available: there is nothing to train.

        Raises:
            UserError: Always.
        """
        raise UserError(f"{type(self).__name__} has nothing to train.", "Test it without training.")

    def on_train_batch_start(self, batch: SequenceBatch, batch_idx: int) -> int:
        """Ends training before its first step."""
        self.trainer.should_stop = True
        return -1

    def configure_optimizers(self) -> torch.optim.Optimizer | None:
        """None: no parameter is trained."""
        return None


class ClosedFormRecommender(NothingToTrain):
    """A model of counts; a subclass implements ``attach`` and ``score_catalogue``.

    Args:
        num_items: Number of items.
    """

    def __init__(self, num_items: int) -> None:
        super().__init__(num_items)

    @abstractmethod
    def score_catalogue(self, batch: SequenceBatch) -> Float[Tensor, "b i_plus_1"]:
        """Scores every item, shape ``(b, num_items + 1)``, in a tensor that callers may overwrite."""

    def score(self, batch: SequenceBatch) -> Float[Tensor, "b c"]:
        """Picks the candidates' scores from those of the whole catalogue, which cost little here."""
        return self.score_catalogue(batch).gather(1, batch["candidates"].long())
