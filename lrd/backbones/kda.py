"""KDA: relational attention whose relations fade, or return, with time."""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float, Int
from torch import Tensor

from common.types import PAD, SequenceBatch
from lrd.aggregation import FourierDecay, Pooling
from lrd.backbones.rcf import RCF


def log_age(now: Int[Tensor, "b"], then: Int[Tensor, "b l"]) -> Float[Tensor, "b l"]:
    """Logarithmic age ``max(0, log₂(Δt / 60 s + 10⁻⁶))`` of events, shape ``(b, l)``."""
    minutes = (now[:, None] - then).double() / 60
    return (minutes + 1e-6).clamp_min(1e-12).log2().clamp_min(0).float()


class KDA(RCF):
    """RCF with a learnt weight of each event by relation and age, multiplied after the attention's softmax.

    Source: C. Wang et al., "Toward Dynamic User Intention: Temporal Evolutionary Effects of Item Relations in
    Sequential Recommendation", TOIS 39(2), 2021, https://doi.org/10.1145/3432244.

    Args:
        width: Width of user, entity and relation vectors.
        rounds: Rounds of self-attention across relations, all with the same weights.
        heads: Heads of that attention.
        pooling: How the relations of a candidate become one vector.
        dropout: Rate in those rounds.
        include_values: Whether the candidate's attribute value is added to the attribute's relation vector.
        num_points: Length of the Fourier transform.
        clock: What an age is measured to: the time of the query, or the user's last event.
    """

    information_set = RCF.information_set | {"event_times", "query_time"}

    def __init__(
        self,
        width: int = 64,
        rounds: int = 5,
        heads: int = 4,
        pooling: Pooling = "mean",
        dropout: float = 0.0,
        include_values: bool = True,
        num_points: int = 64,
        clock: Literal["query", "last_event"] = "query",
    ) -> None:
        super().__init__(width, rounds, heads, pooling, dropout, include_values)
        self.num_points = num_points
        self.clock = clock

    def build(self, num_users: int, num_items: int, num_entities: int, num_relations: int) -> None:
        """Makes the tables and one decay curve a relation; sizes as in :meth:`RCF.build`."""
        self.curves = FourierDecay(num_relations, self.num_points)
        super().build(num_users, num_items, num_entities, num_relations)

    def decay(self, batch: SequenceBatch) -> Float[Tensor, "b r l"]:
        """Weight of each event by relation and age."""
        now = batch["target_time"] if self.clock == "query" else batch["history_time"][:, -1]
        age = log_age(now, batch["history_time"]).masked_fill(batch["history"] == PAD, 0)
        weights: Tensor = self.curves(age.to(self.relations.dtype))
        return weights
