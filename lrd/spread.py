"""How far a discovery spreads item pairs over relations."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from common.metrics.cases import first_of_each
from lrd.discovery import entropy

COLLAPSED = 0.99
"""Share of pairs with one relation from which on nothing counts as discovered."""


def spread_of(total_entropy: Float[Tensor, ""], counts: Int[Tensor, "r"]) -> dict[str, float]:
    """``q_entropy`` in nats, between 0 and the logarithm of the number of relations, and ``q_largest_share``.

    Args:
        total_entropy: Sum of the entropies of all pairs.
        counts: Pairs that each relation is the most probable of.
    """
    pairs = max(1, int(counts.sum()))
    return {"q_entropy": float(total_entropy) / pairs, "q_largest_share": int(counts.max()) / pairs}


class RelationSpread(Metric):
    """Mean entropy of ``q``, and the largest share of pairs that have the same most probable relation.

    A share of 1 means that every pair has the same relation, and nothing was discovered. A case counts once, however
    often batches are repeated to make the shares of processes equal, and sums run over cases in the order of their ids.

    Args:
        num_relations: Number of relations.
    """

    full_state_update = False
    cases: list[Tensor]
    entropies: list[Tensor]
    counts: list[Tensor]

    def __init__(self, num_relations: int) -> None:
        super().__init__()
        self.num_relations = num_relations
        for name in ("cases", "entropies", "counts"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(
        self, case_id: Int[Tensor, "b"], probabilities: Float[Tensor, "b l r"], real: Bool[Tensor, "b l"]
    ) -> None:
        """Adds the pairs of a batch of cases.

        Args:
            case_id: Index of each case in its stored split.
            probabilities: ``q`` of the target with each slot of the history.
            real: Whether a slot holds an event.
        """
        favourites = F.one_hot(probabilities.argmax(-1), self.num_relations) * real[..., None]
        self.cases.append(case_id)
        self.entropies.append((entropy(probabilities).sum(-1) * real).sum(1))
        self.counts.append(favourites.sum(1))

    def compute(self) -> dict[str, float]:
        """The figures of :func:`spread_of` over the cases of all processes."""
        # On the CPU, because not every accelerator has float64.
        cases, entropies, counts = (dim_zero_cat(part).cpu() for part in (self.cases, self.entropies, self.counts))
        rows = first_of_each(cases)
        return spread_of(entropies.double()[rows].sum(), counts[rows].sum(0))
