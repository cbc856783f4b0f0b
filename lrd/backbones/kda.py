"""KDA: relational attention whose relations fade, or return, with time."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from common.models.floors import Clock, clock_information, query_time
from common.types import PAD, Catalogue, SequenceBatch
from lrd.aggregation import FourierDecay, Pooling
from lrd.backbones.rcf import RCF
from lrd.graph import Graph
from lrd.spectrum import fourier_coefficients, interval_histograms, log_age


class KDA(RCF):
    """RCF with a learnt weight of each event by relation and age, multiplied after the attention's softmax.

    Ages tell the ``order`` of the history, too.

    Source: C. Wang et al., "Toward Dynamic User Intention: Temporal Evolutionary Effects of Item Relations in
    Sequential Recommendation", TOIS 39(2), 2021, https://doi.org/10.1145/3432244.

    Args:
        width: Width of user, entity and relation vectors.
        rounds: Rounds of self-attention across relations, all with the same weights.
        heads: Heads of that attention.
        pooling: How the relations of a candidate become one vector.
        dropout: Rate in those rounds.
        include_values: Whether the candidate's attribute value is added to the attribute's relation vector.
        item_text: Whether a projection of its text vector is added to every item vector.
        num_points: Length of the Fourier transform.
        spectrum: What the curves start from: histograms of the intervals between training events (``data``, the
            authors of KDA; latent relations start from the virtual one's), or N(0, 0.01²) (``random``, the authors of
            LRD), where about half of each curve is clamped to 0 and learns nothing there.
        clock: What an age is measured to: the time of the query, or the user's last event.
    """

    def __init__(
        self,
        width: int = 64,
        rounds: int = 5,
        heads: int = 4,
        pooling: Pooling = "mean",
        dropout: float = 0.0,
        include_values: bool = True,
        item_text: bool = False,
        num_points: int = 64,
        spectrum: Literal["data", "random"] = "data",
        clock: Clock = "query",
    ) -> None:
        super().__init__(width, rounds, heads, pooling, dropout, include_values, item_text)
        self.num_points = num_points
        self.spectrum = spectrum
        self.clock: Clock = clock
        self.starts_from_graph = spectrum == "data"
        self.information_set = self.information_set | {"order", "event_times"} | clock_information(clock)

    def build(self, num_users: int, num_items: int, num_entities: int, num_relations: int, text_width: int = 0) -> None:
        """Makes the tables and one decay curve per relation; sizes as in :meth:`RCF.build`."""
        self.curves = FourierDecay(num_relations, self.num_points)
        super().build(num_users, num_items, num_entities, num_relations, text_width)

    @torch.no_grad()
    def attach(self, catalogue: Catalogue, graph: Graph, learns_triplets: bool = True) -> None:
        """Starts the curves from the intervals of the training events."""
        super().attach(catalogue, graph, learns_triplets)
        if self.spectrum == "random":
            return
        parts = fourier_coefficients(interval_histograms(catalogue, self.num_points))
        for curves, start in zip((self.curves.real, self.curves.imaginary), parts, strict=True):
            curves[: len(start)] = start
            curves[len(start) :] = start[0]

    def decay(self, batch: SequenceBatch) -> Float[Tensor, "b r l"]:
        """Weight of each event by relation and age."""
        now = query_time(batch, self.clock)[:, None].expand_as(batch["history"])
        age = log_age(now, batch["history_time"]).masked_fill(batch["history"] == PAD, 0)
        weights: Tensor = self.curves(age)
        return weights
