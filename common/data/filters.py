"""Filters on events: repeated pairs, ratings, and two rules that remove rare users and items."""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

RepeatRule = Literal["keep", "first", "last"]


def drop_repeats(events: pl.DataFrame, rule: RepeatRule) -> pl.DataFrame:
    """The events with all occurrences, the first or the last of each (user, item) pair.

    Args:
        events: ``user, item, timestamp, row``; equal times keep the source's order.
        rule: Which events of a pair stay.
    """
    if rule == "keep":
        return events
    pair = events["user"].to_numpy().astype(np.int64) << 32 | events["item"].to_numpy()
    if len(np.unique(pair)) == len(pair):
        return events
    newest_first = rule == "last"
    ordered = events.sort("timestamp", "row", descending=newest_first)
    return ordered.unique(["user", "item"], keep="first").sort("row")


def keep_above(events: pl.DataFrame, rating: float) -> pl.DataFrame:
    """The events whose rating is above ``rating``; unrated events are dropped."""
    return events.filter(pl.col("rating") > rating)


def k_core(events: pl.DataFrame, k: int) -> pl.DataFrame:
    """The largest subset in which every user and every item has at least ``k`` events.

    Rounds are repeated until nothing is removed, so the result does not depend on their order.

    Args:
        events: ``user`` and ``item`` as codes from 0.
        k: Least number of events.
    """
    users, items = events["user"].to_numpy(), events["item"].to_numpy()
    rows = np.arange(len(events))
    while True:
        kept = _frequent(users[rows], k) & _frequent(items[rows], k)
        if kept.all():
            return events if len(rows) == len(events) else events[rows]
        rows = rows[kept]


def min_count(events: pl.DataFrame, k: int, uncounted_below: float | None = None) -> pl.DataFrame:
    """The events whose user and item both have at least ``k`` events in the input: one pass only.

    This is the rule of the released A-LLMRec code: after it, users and items can have fewer than ``k`` events left.
    With ``uncounted_below``, events rated lower do not count but are kept if the others suffice.

    Args:
        events: ``user`` and ``item`` as codes from 0, ``rating``.
        k: Least number of counted events.
        uncounted_below: Ratings below are not counted.
    """
    users, items = events["user"].to_numpy(), events["item"].to_numpy()
    counted = np.ones(len(events), dtype=bool)
    if uncounted_below is not None:
        counted = (events["rating"].fill_null(np.inf) >= uncounted_below).to_numpy()
    return events.filter(pl.Series(_frequent(users, k, counted) & _frequent(items, k, counted)))


def _frequent(codes: NDArray[np.integer], k: int, counted: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
    if not len(codes):
        return np.ones(0, dtype=bool)
    total = np.bincount(codes if counted is None else codes[counted], minlength=int(codes.max()) + 1)
    frequent: NDArray[np.bool_] = (total >= k)[codes]
    return frequent
