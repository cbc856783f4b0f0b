"""What the manifest says about the data: statistics of stages, ties, resolution, printed figures (PROTOCOL D4, D5)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from common.types import Split, TimeKind

_UNITS = {"day": 86400, "hour": 3600, "minute": 60}
_QUANTILES = {"min": 0.0, "p25": 0.25, "median": 0.5, "p75": 0.75, "p95": 0.95, "max": 1.0}
UNFAIR = 0.05
"""Distance of the share of ascending ids inside ties from one half that is more than chance, if pairs are many."""


def describe(stage: str, events: pl.DataFrame, has_text: NDArray[np.bool_]) -> dict[str, Any]:
    """The statistics of one stage.

    Args:
        stage: Its name.
        events: ``user`` and ``item`` as codes from 0, ``timestamp``.
        has_text: Whether an item has a text, by item code.
    """
    users, items, times = (events[name].to_numpy() for name in ("user", "item", "timestamp"))
    lengths = np.bincount(users) if len(users) else np.zeros(0, dtype=np.int64)
    lengths = lengths[lengths > 0]
    present = np.flatnonzero(np.bincount(items)) if len(items) else np.zeros(0, dtype=np.int64)
    cells = len(lengths) * len(present)
    history: dict[str, float] = {}
    if len(lengths):
        values = np.quantile(lengths, list(_QUANTILES.values()))
        history = {"mean": round(float(lengths.mean()), 4), **dict(zip(_QUANTILES, values.tolist(), strict=True))}
    return {
        "stage": stage,
        "users": len(lengths),
        "items": len(present),
        "interactions": len(events),
        "density": len(events) / cells if cells else 0.0,
        "history_length": history,
        "tied_events": _repeated(users, times - times.min(initial=0)) if len(users) else 0,
        "repeated_pairs": _repeated(users, items) if len(users) else 0,
        "items_without_text": int((~has_text[present]).sum()),
    }


def _repeated(users: NDArray[Any], values: NDArray[Any]) -> int:
    """How many rows repeat the user and value of another row."""
    keys = users.astype(np.int64) * (int(values.max()) + 1) + values
    keys.sort()
    return int((keys[1:] == keys[:-1]).sum())


def tie_shares(split: Split, source_row: NDArray[np.int64], order: NDArray[np.int64]) -> dict[str, Any]:
    """The shares of ties, and the order of item ids inside them.

    Args:
        split: Sequences in the store's order, with their test cases.
        source_row: Position of each event in the source.
        order: Rank of each item, by id, in the order of the publisher's ids.

    Returns:
        ``tied_events`` (share of events at the time of their predecessor), ``tied_test_targets``, ``pairs``,
        ``id_ascending`` (share of tied neighbours in ascending id, as stored; None without ties) and
        ``id_ascending_in_source`` (the same in the source's order).
    """
    sequences = split["sequences"]
    offsets, items, times = (sequences[key].numpy() for key in ("offsets", "items", "times"))
    tied = np.zeros(len(items), dtype=bool)
    tied[1:] = times[1:] == times[:-1]
    tied[offsets[:-1][offsets[:-1] < len(items)]] = False
    second = np.flatnonzero(tied)
    second = second[items[second] != items[second - 1]]
    ascending = order[items[second]] > order[items[second - 1]]
    # Stored neighbours may come in the other order in the source, where their comparison is then reversed.
    in_source = ascending == (source_row[second] > source_row[second - 1])
    targets = split["test"]["position"].numpy()
    return {
        "tied_events": float(tied.mean()) if len(tied) else 0.0,
        "tied_test_targets": float(tied[targets].mean()) if len(targets) else 0.0,
        "pairs": len(second),
        "id_ascending": float(ascending.mean()) if len(second) else None,
        "id_ascending_in_source": float(in_source.mean()) if len(second) else None,
    }


def tie_warnings(ties: Mapping[str, Any]) -> dict[str, str]:
    """A warning if the stored order of ties follows item ids, by more than three standard errors."""
    share = ties["id_ascending"]
    if share is None or abs(share - 0.5) <= max(UNFAIR, 1.5 / math.sqrt(ties["pairs"])):
        return {}
    return {
        "tied-order": f"Of {ties['pairs']} neighbours tied in time, {share:.1%} are in ascending item id; chance gives "
        "about one half: the order inside ties reveals the target (slice `tied_in_time`)."
    }


def printed_warnings(printed: Mapping[str, int], measured: Mapping[str, int], where: str) -> dict[str, str]:
    """A warning for each figure that differs from the one a paper prints."""
    return {
        f"printed-{name}": f"{where} prints {value:,} {name}; this store has {measured[name]:,}."
        for name, value in printed.items()
        if measured[name] != value
    }


def time_resolution(times: NDArray[np.int64], kind: TimeKind) -> str:
    """The coarsest unit that divides all times.

    >>> time_resolution(np.array([86400, 172800]), "real")
    'day'
    """
    if kind == "ordinal":
        return "position"
    return next((name for name, seconds in _UNITS.items() if not (times % seconds).any()), "second")
