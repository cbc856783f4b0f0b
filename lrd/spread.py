"""How far a discovery spreads item pairs over relations."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics import Metric

from lrd.discovery import entropy

COLLAPSED = 0.99
"""Share of pairs from which on one relation stands for all, so that nothing was discovered."""


class RelationSpread(Metric):
    """Mean entropy of ``q``, and the largest share of pairs that have the same most probable relation.

    One relation for every pair (a share of 1) tells pairs apart no more than none does.

    Args:
        num_relations: Number of relations.
    """

    full_state_update = False
    entropy: Tensor
    counts: Tensor

    def __init__(self, num_relations: int) -> None:
        super().__init__()
        self.add_state("entropy", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("counts", torch.zeros(num_relations, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, probabilities: Float[Tensor, "m r"]) -> None:
        """Adds pairs."""
        self.entropy += entropy(probabilities).sum()
        self.counts += torch.bincount(probabilities.argmax(1), minlength=len(self.counts))

    def compute(self) -> dict[str, Tensor]:
        """``q_entropy`` in nats, between 0 and the logarithm of the number of relations, and ``q_largest_share``."""
        pairs = self.counts.sum().clamp(min=1)
        return {"q_entropy": self.entropy / pairs, "q_largest_share": self.counts.max() / pairs}
