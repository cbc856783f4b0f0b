"""What a loss needs of the negatives that a batch holds."""

from __future__ import annotations

from jaxtyping import Int
from torch import Tensor

from common.errors import UserError
from common.types import SequenceBatch


def drawn_negatives(batch: SequenceBatch) -> Int[Tensor, "b q k"]:
    """The negatives of a training batch.

    Raises:
        UserError: If there are none.
    """
    drawn = batch.get("negatives")
    if drawn is None or not drawn.size(-1):
        raise UserError(
            "the training loss compares targets with negatives, but --data.num_negatives is 0.",
            "Give 1 or more or, for a model with this option, --model.objective ce.",
        )
    return drawn
