"""Which items may replace the head or the tail of a triplet, so that what comes out is not true."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from lrd.graph import Graph


class Corruptions:
    """For each triplet of a graph two groups of items: those that must not replace its tail, and not its head.

    For an attribute both are the items with the value; for an item relation, the tails of the head, and the heads of
    the tail.

    Args:
        graph: Relations and entities.

    Attributes:
        value: Attribute value of each triplet, 0 where it is of an item relation, shape ``(n,)``.
        tail_group: Group that a replaced tail avoids, shape ``(n,)``.
        head_group: Group that a replaced head avoids, shape ``(n,)``.
        num_groups: Number of groups, some of them empty.
        held: Triplets of each value, shape ``(num_entities,)``.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        head, relation, tail = graph.triplets.unbind(1)
        width, relations = graph.num_items + 1, len(graph.relations)
        self.value = tail.masked_fill(graph.is_item(tail), 0)
        self.num_groups = 2 * relations * width + graph.num_entities - width
        by_value = 2 * relations * width + tail - width
        self.tail_group = torch.where(self.value > 0, by_value, relation * width + head)
        self.head_group = torch.where(self.value > 0, by_value, (relations + relation) * width + tail)
        self.held = torch.bincount(self.value, minlength=graph.num_entities)

    def members(self) -> Int[Tensor, "m"]:
        """Sorted distinct ``group * num_items + item - 1`` of what each group holds."""
        head, _, tail = self.graph.triplets.unbind(1)
        avoided = torch.where(self.value > 0, head, tail)
        count = self.graph.num_items
        keys = torch.cat([self.tail_group * count + avoided - 1, self.head_group * count + head - 1])
        distinct: Tensor = torch.unique(keys)
        return distinct

    def usable(self) -> Int[Tensor, "k"]:
        """Rows of the triplets that are learnt: some item may corrupt either end, and another item has the value."""
        groups = self.members().div(self.graph.num_items, rounding_mode="floor")
        full = torch.bincount(groups, minlength=self.num_groups) == self.graph.num_items
        single = (self.value > 0) & (self.held[self.value] == 1)
        return (~(full[self.tail_group] | full[self.head_group] | single)).nonzero()[:, 0]
