"""RCF as the LRD paper runs it: relational attention over the history, mixed across relations."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import ceil

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from common.nn.embedding import UserEmbedding
from common.types import PAD, Catalogue, SequenceBatch
from lrd.aggregation import Pooling, RelationEncoder, RelationPooling, relational_attention
from lrd.corruptions import Corruptions
from lrd.entities import EntityEmbedding, TextItemEmbedding
from lrd.graph import Graph
from lrd.workers import in_threads


class RCF(nn.Module):
    """Scores ``y = (u + m_c) · v_c + b_c`` with ``m_c`` pooled over relation-specific views of the history.

    For relation ``r`` and candidate ``c`` the history is summarised by attention with DistMult weights,
    ``s_r = Σ_i softmax_i((x_r + e_value(c, r)) ⊙ v_c · v_i) v_i``; rounds of self-attention mix the ``s_r``, pooling
    makes ``m_c``. Relation 0 is *virtual* ("no relation"); item relations, attributes and latent relations follow.

    Source: X. Xin et al., "Relational Collaborative Filtering", SIGIR 2019, https://arxiv.org/abs/1904.12796, in
    the form that S. Yang et al., SIGIR 2024, https://arxiv.org/abs/2403.18348 attach latent relations to: one level
    of attention over the ordered history instead of two over the user's whole positive set, and a dot product
    instead of an MLP on top. It is KDA without time. Attention has no positions, so that of the history only matters
    which items are the newest ones that it is shown: it reads the ``history``, not its ``order`` (PROTOCOL P9).

    Args:
        width: Width of user, entity and relation vectors.
        rounds: Rounds of self-attention across relations, all with the same weights.
        heads: Heads of that attention.
        pooling: How the relations of a candidate become one vector.
        dropout: Rate in those rounds.
        include_values: Whether the candidate's attribute value is added to the attribute's relation vector.
        item_text: Whether a projection of its text vector is added to every item vector, a control that uses texts
            without relations.
    """

    information_set = frozenset({"history", "user_id", "graph", "attributes"})
    starts_from_graph = False
    value_of: Tensor
    trained: Tensor

    def __init__(
        self,
        width: int = 64,
        rounds: int = 5,
        heads: int = 4,
        pooling: Pooling = "mean",
        dropout: float = 0.0,
        include_values: bool = True,
        item_text: bool = False,
    ) -> None:
        super().__init__()
        self.width = width
        self.item_text = item_text
        self.include_values = include_values
        self.encoder = RelationEncoder(width, rounds, heads, dropout)
        self.pooling = RelationPooling(width, pooling)

    def build(self, num_users: int, num_items: int, num_entities: int, num_relations: int, text_width: int = 0) -> None:
        """Makes the tables, whose sizes only the data know; every weight starts from N(0, 0.01²).

        Args:
            num_users: Users, ids from 1.
            num_items: Items, ids from 1.
            num_entities: Items and attribute values with their offsets, padding included.
            num_relations: Virtual, item, attribute and latent relations.
            text_width: Width of the text vectors.
        """
        self.users = UserEmbedding(num_users, self.width)
        if self.item_text:
            self.entities: EntityEmbedding = TextItemEmbedding(num_items, self.width, text_width, None, num_entities)
        else:
            self.entities = EntityEmbedding(num_items, self.width, None, num_entities)
        self.relations = nn.Parameter(torch.empty(num_relations, self.width))
        self.item_bias = nn.Parameter(torch.empty(num_items + 1))
        value_of = torch.zeros(num_items + 1, num_relations, dtype=torch.long)
        self.register_buffer("value_of", value_of, persistent=False)
        self.register_buffer("trained", torch.ones(num_items + 1, dtype=torch.bool), persistent=False)
        norms = {id(parameter) for parameter in self.encoder.norm.parameters()}
        for parameter in self.parameters():
            if id(parameter) not in norms:
                nn.init.normal_(parameter, std=0.01)

    def attach(self, catalogue: Catalogue, graph: Graph, learns_triplets: bool = True) -> None:
        """Receives the graph: the value that each relation adds, and the items that anything is known of.

        Args:
            catalogue: What is known of items and training events.
            graph: The catalogue's relations and entities.
            learns_triplets: Whether vectors learn from triplets, so that an item may be known by these alone.
        """
        trained = catalogue["train_count"] > 0
        learnt = Corruptions(graph).usable()[: None if learns_triplets else 0]
        self.trained.copy_(trained)
        self.entities.mark_known(graph.known(trained, learnt), graph.relation_of)
        self.value_of[:, : len(graph.relations)] = graph.value_of
        if isinstance(self.entities, TextItemEmbedding):
            self.entities.attach(catalogue)

    def relation_vectors(self, items: Int[Tensor, "*n"]) -> Float[Tensor, "*n r d"]:
        """Relation vectors as seen from each candidate, its attribute values added."""
        if not self.include_values:
            return self.relations.expand(*items.shape, -1, -1)
        values: Tensor = self.entities(self.value_of[items])
        return self.relations + values

    def queries(self, items: Int[Tensor, "*n"]) -> Float[Tensor, "*n r d"]:
        """Relation vectors times candidate vectors: all that attention asks of the history."""
        candidates: Tensor = self.entities(items)
        return self.relation_vectors(items) * candidates[..., None, :]

    def decay(self, batch: SequenceBatch) -> Float[Tensor, "b r l"] | None:
        """Weight of each event by its age; RCF knows no time."""
        return None

    def forward(self, batch: SequenceBatch, items: Int[Tensor, "b c"]) -> Float[Tensor, "b c"]:
        """Scores ``items`` for the users and histories of ``batch``, shape ``(b, c)``."""
        history, mask = self.entities(batch["history"]), batch["history"] != PAD
        user, decay = self.users(batch["user_id"]), self.decay(batch)
        return self.match(user, history, mask, decay, self.entities(items), self.queries(items)) + self.biases()[items]

    def match(
        self,
        user: Float[Tensor, "b d"],
        history: Float[Tensor, "b l d"],
        mask: Bool[Tensor, "b l"],
        decay: Float[Tensor, "b r l"] | None,
        candidates: Float[Tensor, "b c d"],
        queries: Float[Tensor, "b c r d"],
    ) -> Float[Tensor, "b c"]:
        """Scores candidates without their biases, from vectors that have been looked up."""
        views = relational_attention(queries, history, mask, decay)
        mixed = self.encoder(views.flatten(0, 1)).view(views.shape)
        scores: Tensor = ((user[:, None] + self.pooling(mixed, user)) * candidates).sum(-1)
        return scores

    def biases(self) -> Float[Tensor, "i_plus_1"]:
        """Item biases; outside training that of an item never trained on is the mean of the others'."""
        if self.training:
            return self.item_bias
        return torch.where(self.trained, self.item_bias, self.item_bias[self.trained].mean())

    def score(self, batch: SequenceBatch, at_a_time: int) -> Float[Tensor, "b c"]:
        """Scores ``batch["candidates"]`` in pieces of ``at_a_time`` candidates of few rows.

        What depends on the item or on the history alone is looked up once for the whole batch.
        """
        distinct, place = torch.unique(batch["candidates"], return_inverse=True)
        vectors, queries = self.entities(distinct), self.queries(distinct)
        history, mask = self.entities(batch["history"]), batch["history"] != PAD
        user, decay = self.users(batch["user_id"]), self.decay(batch)
        scores = self.biases()[batch["candidates"]]

        def add(piece: tuple[slice, slice]) -> None:
            own, part = piece[0], place[piece]
            fading = None if decay is None else decay[own]
            scores[piece] += self.match(user[own], history[own], mask[own], fading, vectors[part], queries[part])

        in_threads(add, list(_grid(place, at_a_time)), place.device)
        return scores


def _grid(place: Tensor, size: int) -> Iterator[tuple[slice, slice]]:
    """Blocks of a matrix with at most ``size`` entries each, of as few rows as that takes, and of like widths."""
    height, width = place.shape
    rows, columns = max(1, size // width), ceil(width / ceil(width / size))
    for row, column in product(range(0, height, rows), range(0, width, columns)):
        yield slice(row, row + rows), slice(column, column + columns)
