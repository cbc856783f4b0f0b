"""Ranking metrics of one relevant item, as expectations over the orders of ties."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor


def higher_equal(scores: Float[Tensor, "b c"], target: Int[Tensor, "b"]) -> tuple[Tensor, Tensor]:
    """Counts candidates scored above the target, and others scored the same; both ``(b,)``.

    Args:
        scores: Raw scores, ``-inf`` for columns that are no candidates.
        target: Column of the target.

    Raises:
        ValueError: If a score is NaN or ``+inf``, or the target's is not finite.
    """
    own = scores.gather(1, target[:, None])
    return (scores > own).sum(1), (scores == own).sum(1) - 1


def top_k(scores: Float[Tensor, "b c"], k: int) -> tuple[Tensor, Tensor]:
    """Columns and scores of the ``k`` best, ties broken by a seeded hash of the column."""
    best = scores.topk(k, dim=1)
    return best.indices, best.values
