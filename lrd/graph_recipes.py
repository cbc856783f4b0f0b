"""Graphs to set beside the released one: from training alone, and rewired (PROTOCOL D8)."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from common.data.splits import event_users
from common.types import Catalogue, Sequences

GraphRecipe = Literal["kg-released", "kg-train", "kg-rewired", "kg-attributes"]
"""The catalogue's graph; co-occurrence in training; the catalogue's, rewired; attributes without item relations."""
CO_OCCURRENCE = "co_occurrence"
WINDOW = 20
"""Events between two co-occurring items at most, the history length of the authors."""
_ROUNDS = 20


def item_relations(catalogue: Catalogue, recipe: GraphRecipe, seed: int = 0) -> dict[str, Int[Tensor, "m 2"]]:
    """Head and tail items of each item-item relation under a graph recipe.

    Args:
        catalogue: Items, training events and the released relations.
        recipe: Which graph. ``kg-train`` has one relation with as many edges as all released ones together, and none
            where these have none.
        seed: Seed of the rewiring, and of the order of pairs that co-occur equally often.
    """
    released, generator = catalogue["relations"], torch.Generator().manual_seed(seed)
    if recipe == "kg-attributes":
        return {}
    if recipe == "kg-rewired":
        return {name: rewired(edges, catalogue["num_items"], generator) for name, edges in released.items()}
    if recipe == "kg-train":
        size = sum(map(len, released.values()))
        edges = co_occurrence(catalogue["train"], catalogue["num_items"], size, generator)
        return {CO_OCCURRENCE: edges} if len(edges) else {}
    return released


def co_occurrence(train: Sequences, num_items: int, size: int, generator: torch.Generator) -> Int[Tensor, "m 2"]:
    """The ``size`` ordered item pairs that most training histories hold, the head at most 20 events earlier.

    Args:
        train: Training events.
        num_items: Number of items.
        size: Number of pairs; fewer where fewer co-occur.
        generator: Orders pairs of equal count.
    """
    items = train["items"].long()
    users, num_users = event_users(train), len(train["offsets"])
    found, whose = [], []
    for lag in range(1, WINDOW + 1):
        together = (users[lag:] == users[:-lag]) & (items[lag:] != items[:-lag])
        found.append((items[:-lag] * (num_items + 1) + items[lag:])[together])
        whose.append(users[lag:][together])
    pairs, place = torch.unique(torch.cat(found), return_inverse=True)
    # A pair counts once per user, however often the user repeats it.
    once = torch.unique(place * num_users + torch.cat(whose))
    counts = torch.bincount(once.div(num_users, rounding_mode="floor"), minlength=len(pairs))
    shuffled = torch.randperm(len(pairs), generator=generator)
    best = shuffled[counts[shuffled].argsort(descending=True, stable=True)][:size]
    keys = pairs[best].sort().values
    return torch.stack([keys.div(num_items + 1, rounding_mode="floor"), keys % (num_items + 1)], dim=1)


def rewired(edges: Int[Tensor, "m 2"], num_items: int, generator: torch.Generator) -> Int[Tensor, "m 2"]:
    """Swaps tails between edges at random: every item keeps its numbers of outgoing and incoming edges.

    In each of 20 rounds edges are paired at random and exchange their tails, unless that would make a loop or an edge
    that is there already.

    Args:
        edges: Distinct directed edges without loops.
        num_items: Number of items.
        generator: Source of randomness.
    """
    edges = edges.clone()
    for _ in range(_ROUNDS):
        order = torch.randperm(len(edges), generator=generator)
        first, second = order[: len(edges) // 2], order[len(edges) // 2 : len(edges) // 2 * 2]
        heads, tails = edges[:, 0], edges[:, 1]
        proposed = torch.stack(
            [_key(heads[first], tails[second], num_items), _key(heads[second], tails[first], num_items)]
        )
        loops = (heads[first] == tails[second]) | (heads[second] == tails[first])
        there = torch.isin(proposed, _key(heads, tails, num_items)).any(0)
        swapped = ~(loops | there | _repeated(proposed).any(0))
        one, other = first[swapped], second[swapped]
        edges[one, 1], edges[other, 1] = edges[other, 1], edges[one, 1]
    return edges[_key(edges[:, 0], edges[:, 1], num_items).argsort()]


def _key(heads: Tensor, tails: Tensor, num_items: int) -> Int[Tensor, "m"]:
    return heads * (num_items + 1) + tails


def _repeated(keys: Int[Tensor, "2 m"]) -> Bool[Tensor, "2 m"]:
    _, place, counts = torch.unique(keys, return_inverse=True, return_counts=True)
    repeated: Tensor = counts[place] > 1
    return repeated
