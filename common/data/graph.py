"""Item relations as integer triplets, and how often they link histories to targets (PROTOCOL D8)."""

from __future__ import annotations

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from common.data.events import encode
from common.data.splits import event_users, is_training
from common.errors import DataError
from common.types import Sequences, Split

HISTORY = 20
"""Number of newest history items that link rates consider, as in LRD's released analysis."""


def restrict(relations: pl.DataFrame, tokens: pl.Series) -> pl.DataFrame:
    """The triplets between kept items, with ids, sorted and distinct; self-loops are dropped.

    Args:
        relations: ``head, relation, tail`` with tokens.
        tokens: Tokens of the kept items; element ``i`` is item ``i + 1``.
    """
    ends = {end: encode(relations[end], tokens) + 1 for end in ("head", "tail")}
    edges = pl.DataFrame({"head": ends["head"], "relation": relations["relation"], "tail": ends["tail"]})
    return edges.drop_nulls().filter(pl.col("head") != pl.col("tail")).unique().sort("relation", "head", "tail")


def strangers(relations: pl.DataFrame, tokens: pl.Series) -> dict[str, str]:
    """A warning, by its key, if triplets name items that the source lacks."""
    head, tail = (encode(relations[end], tokens).is_null() for end in ("head", "tail"))
    if not (head | tail).any():
        return {}
    item = relations.select(pl.when(head).then("head").otherwise("tail")).to_series().filter(head | tail)[0]
    count = int((head | tail).sum())
    return {"unknown-relation-items": f"{count:,} triplets name an item that is in no table, the first is {item!r}."}


def value_ids(values: pl.Series) -> NDArray[np.int64]:
    """The rank of each item's value among the sorted values, from 1, by item id; 0 for padding and ``""``."""
    known = values.filter(values != "").unique().sort()
    return np.concatenate([[0], (encode(values, known).fill_null(-1) + 1).to_numpy().astype(np.int64)])


def count_triplets(relations: pl.DataFrame, attributes: pl.DataFrame) -> dict[str, int]:
    """The number of edges of each relation and of known values of each attribute.

    Raises:
        DataError: If a relation has the name of an attribute, from which nothing would tell it apart.
    """
    edges = relations["relation"].value_counts().sort("relation")
    counts = dict(zip(edges["relation"].to_list(), edges["count"].to_list(), strict=True))
    known = {name: count for name in attributes.columns if (count := int((attributes[name] != "").sum()))}
    if shared := sorted(counts.keys() & known.keys()):
        raise DataError(
            f"{shared[0]!r} is both a relation and a column of the items.", "Rename one of the two in the source."
        )
    return counts | known


def link_rates(
    sequences: Sequences,
    positions: NDArray[np.int64],
    relations: pl.DataFrame,
    attributes: dict[str, NDArray[np.int64]],
) -> dict[str, float]:
    """Returns, for each relation and attribute, the share of (history item, target) pairs that it connects.

    Edges count from history item to target. Histories are cut to the newest :data:`HISTORY` items. ``any_relation``
    counts pairs with an edge, ``any`` those with an edge or a shared value.

    Args:
        sequences: All events, by user.
        positions: Positions of the targets in ``sequences``.
        relations: ``head, relation, tail`` with ids.
        attributes: Value of each item by id, 0 where unknown, by name.
    """
    offsets, items = sequences["offsets"].numpy(), sequences["items"].numpy().astype(np.int64)
    start = offsets[np.searchsorted(offsets, positions, side="right") - 1]
    length = np.minimum(positions - start, HISTORY)
    target = np.repeat(positions, length)
    back = np.arange(len(target)) - np.repeat(np.cumsum(length) - length, length)
    heads, tails = items[target - 1 - back], items[target]
    found: dict[str, NDArray[np.bool_]] = {}
    for (name,), edges in sorted(relations.partition_by("relation", as_dict=True).items()):
        keys = np.sort(edges["head"].to_numpy().astype(np.int64) << 32 | edges["tail"].to_numpy())
        pairs = heads << 32 | tails
        found[str(name)] = keys[np.minimum(np.searchsorted(keys, pairs), len(keys) - 1)] == pairs
    nothing = np.zeros(len(heads), dtype=bool)
    related = np.logical_or.reduce([nothing, *found.values()])
    shared = {name: (values[heads] == values[tails]) & (values[heads] > 0) for name, values in attributes.items()}
    either = np.logical_or.reduce([related, *shared.values()])
    masks = found | {"any_relation": related} | shared | {"any": either}
    return {name: float(mask.mean()) if len(mask) else 0.0 for name, mask in masks.items()}


def training_targets(split: Split, limit: int, seed: int) -> NDArray[np.int64]:
    """The positions of training events with a history, or a seeded sample of ``limit`` of them."""
    users = event_users(split["sequences"])
    place = torch.arange(len(users))
    places = place[(place > split["sequences"]["offsets"][users]) & is_training(split)].numpy()
    if len(places) <= limit:
        return places
    # NumPy takes no negative seeds.
    return np.sort(np.random.default_rng(seed % 2**64).choice(places, limit, replace=False))
