"""Triplets of the graph as training batches, with corruptions that are never true."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from common.data.datasets import EpochDataset
from common.data.epoch import SharedEpoch
from common.data.negatives import Complement, seeded
from lrd.corruptions import Corruptions
from lrd.graph import Graph
from lrd.types import TripletBatch


class TripletDataset(EpochDataset[TripletBatch]):
    """Each epoch a fresh random subset of the triplets, each beside corruptions of its head or tail.

    A triplet ``(item, attribute, value)`` becomes ``(item, attribute, another item with that value)``, with the value
    to be added to the relation, as in the authors' code. A corruption replaces head or tail, each with probability
    1/2, by an item drawn uniformly from those that make no true triplet: for an attribute, from the items without the
    value. (The released check compares items with values there and so finds nothing.) Triplets that allow no other
    item or no corruption are left out: a value that one item or every item has.

    Args:
        graph: Relations and entities.
        length: Triplets of an epoch: without replacement while they last, then all over again.
        num_corruptions: Corruptions of each triplet.
        seed: Seed of everything random; with the epoch it decides what is drawn.
    """

    def __init__(self, graph: Graph, length: int, num_corruptions: int = 1, seed: int = 0) -> None:
        self.graph = graph
        self.length = length
        self.num_corruptions = num_corruptions
        self.seed = seed
        self._epoch = SharedEpoch()
        self.corruptions = Corruptions(graph)
        self.usable = self.corruptions.usable()
        self._group_items()
        self._outside = Complement(self.corruptions.members(), self.corruptions.num_groups, graph.num_items)
        self._order = (-1, torch.empty(0, dtype=torch.long))

    def __len__(self) -> int:
        """Triplets of an epoch; 0 where the graph has none that is usable."""
        return self.length if len(self.usable) else 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the subset and the corruptions."""
        self._epoch.set(epoch)

    def __getitems__(self, indices: Sequence[int]) -> TripletBatch:
        """The triplets at places ``indices`` of the epoch's draw."""
        epoch = int(self._epoch)
        rows = self._drawn(epoch)[torch.as_tensor(indices)]
        generator = seeded(self.seed, epoch, *indices)
        head, relation, tail = self.graph.triplets[rows].unbind(1)
        value = self.corruptions.value[rows]
        tail = torch.where(value > 0, self._another_holder(rows, generator), tail)
        replaces_tail = torch.rand(len(rows), self.num_corruptions, generator=generator) < 0.5
        tail_group, head_group = self.corruptions.tail_group[rows], self.corruptions.head_group[rows]
        groups = torch.where(replaces_tail, tail_group[:, None], head_group[:, None])
        drawn = self._outside.draw(groups.flatten(), 1, generator).view_as(groups)
        heads = torch.where(replaces_tail, head[:, None], drawn)
        tails = torch.where(replaces_tail, drawn, tail[:, None])
        return {
            "head": torch.cat([head[:, None], heads], dim=1),
            "relation": relation,
            "tail": torch.cat([tail[:, None], tails], dim=1),
            "value": value,
        }

    def __getitem__(self, index: int) -> TripletBatch:
        """The triplet at one place of the epoch's draw."""
        return self.__getitems__([index])

    def _drawn(self, epoch: int) -> Int[Tensor, "n"]:
        if self._order[0] != epoch:
            generator = seeded(self.seed, epoch, -1)
            passes = -(-self.length // len(self.usable))
            order = torch.cat([torch.randperm(len(self.usable), generator=generator) for _ in range(passes)])
            self._order = (epoch, self.usable[order[: self.length]])
        return self._order[1]

    def _group_items(self) -> None:
        """Lines up the items of each value, and notes each triplet's place among those of its value."""
        entities, held = self.corruptions.value, self.corruptions.held
        order = entities.argsort(stable=True)
        self._first = held.cumsum(0) - held
        self._holders = self.graph.triplets[order, 0]
        self._place = torch.empty_like(order)
        self._place[order] = torch.arange(len(order))
        self._place -= self._first[entities]

    def _another_holder(self, rows: Int[Tensor, "n"], generator: torch.Generator) -> Int[Tensor, "n"]:
        """Another item with the value of each triplet; no meaning for triplets of item relations."""
        value = self.corruptions.value[rows]
        others = (self.corruptions.held[value] - 1).clamp(min=1)
        drawn = torch.randint(2**62, (len(rows),), generator=generator) % others
        other = drawn + (drawn >= self._place[rows])
        return self._holders[(self._first[value] + other).clamp(max=len(self._holders) - 1)]
