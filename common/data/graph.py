"""Item relations as integer triplets, and how often they link histories to targets (PROTOCOL D8)."""

from __future__ import annotations

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from common.data.events import encode
from common.types import Sequences

HISTORY = 20
"""Newest history items that a link rate looks at, as in LRD's released analysis."""


def restrict(relations: pl.DataFrame, tokens: pl.Series) -> pl.DataFrame:
    """Returns the triplets whose items are kept, with ids, sorted and distinct; loops from an item to itself go.

    Args:
        relations: ``head, relation, tail`` with tokens.
        tokens: Tokens of the kept items; element ``i`` is item ``i + 1``.
    """
    ends = {end: encode(relations[end], tokens) + 1 for end in ("head", "tail")}
    edges = pl.DataFrame({"head": ends["head"], "relation": relations["relation"], "tail": ends["tail"]})
    return edges.drop_nulls().filter(pl.col("head") != pl.col("tail")).unique().sort("relation", "head", "tail")


def count_triplets(relations: pl.DataFrame, attributes: pl.DataFrame) -> dict[str, int]:
    """Returns the number of edges of each relation and of known values of each attribute."""
    edges = relations["relation"].value_counts().sort("relation")
    counts = dict(zip(edges["relation"].to_list(), edges["count"].to_list(), strict=True))
    known = {name: int((attributes[name] != "").sum()) for name in attributes.columns}
    return counts | {name: count for name, count in known.items() if count}


def link_rates(
    sequences: Sequences, positions: NDArray[np.int64], relations: pl.DataFrame, num_items: int
) -> dict[str, float]:
    """Returns, for each relation and for any, the share of (history item, target) pairs that an edge joins.

    Edges count from history item to target. Histories are cut to the newest :data:`HISTORY` items.

    Args:
        sequences: All events, by user.
        positions: Places of the targets.
        relations: ``head, relation, tail`` with ids.
        num_items: Highest item id.
    """
    offsets = sequences["offsets"].numpy()
    items = sequences["items"].numpy()
    start = offsets[np.searchsorted(offsets, positions, side="right") - 1]
    length = np.minimum(positions - start, HISTORY)
    total, linked = int(length.sum()), {}
    either = np.zeros(total, dtype=bool)
    target = np.repeat(positions, length)
    place = target - 1 - (np.arange(total) - np.repeat(np.cumsum(length) - length, length))
    pairs = items[place] * (num_items + 1) + items[target]
    for (name,), edges in sorted(relations.partition_by("relation", as_dict=True).items()):
        keys = np.sort(edges["head"].to_numpy().astype(np.int64) * (num_items + 1) + edges["tail"].to_numpy())
        found = keys[np.minimum(np.searchsorted(keys, pairs), len(keys) - 1)] == pairs
        linked[str(name)] = float(found.mean()) if total else 0.0
        either |= found
    return linked | {"any": float(either.mean()) if total else 0.0}


def training_targets(sequences: Sequences, train_end: torch.Tensor, limit: int, seed: int) -> NDArray[np.int64]:
    """Returns the places of training events with a history, or a seeded sample of ``limit`` of them."""
    offsets = sequences["offsets"]
    place = torch.arange(sequences["items"].numel())
    first = torch.repeat_interleave(offsets[:-1], offsets.diff())
    end = torch.repeat_interleave(train_end, offsets.diff())
    places = place[(place > first) & (place < end)].numpy()
    if len(places) <= limit:
        return places
    return np.sort(np.random.default_rng(seed).choice(places, limit, replace=False))
