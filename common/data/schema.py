"""The three tables that every source yields, and the manifest that describes a store."""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl

from common.types import TimeKind

INTERACTIONS = pl.Schema({"user": pl.String, "item": pl.String, "timestamp": pl.Int64, "rating": pl.Float32})
"""One row an event, in file order. ``timestamp`` in Unix seconds (a position where time is ordinal)."""

ITEMS = pl.Schema(
    {
        "item": pl.String,
        "title": pl.String,
        "description": pl.String,
        "category": pl.String,
        "brand": pl.String,
    }
)
"""One row an item, empty strings where unknown. Further string columns are attributes of one value each."""

RELATIONS = pl.Schema({"head": pl.String, "relation": pl.String, "tail": pl.String})
"""Item-item relations; attributes stand in the items table."""


@dataclass(frozen=True)
class ReadySplit:
    """A split that a source ships ready-made: kept as it is.

    Attributes:
        val: ``user, item, timestamp`` of the validation targets, a row a user.
        test: The same of the test targets.
        val_negatives: Shipped negatives, item ids for each row of ``val``; empty where none are shipped.
        test_negatives: The same for ``test``.
    """

    val: pl.DataFrame
    test: pl.DataFrame
    val_negatives: list[list[str]] = field(default_factory=list)
    test_negatives: list[list[str]] = field(default_factory=list)


@dataclass(frozen=True)
class Source:
    """What a source yields.

    Attributes:
        name: Key of the data set.
        interactions: :data:`INTERACTIONS`, training events only where ``split`` is given.
        items: :data:`ITEMS`.
        relations: :data:`RELATIONS`.
        time: Whether times are recorded, imputed or mere positions.
        content_hash: SHA-256 over the bytes of every file read.
        split: The source's own split, if it ships one.
    """

    name: str
    interactions: pl.DataFrame
    items: pl.DataFrame
    relations: pl.DataFrame
    time: TimeKind
    content_hash: str
    split: ReadySplit | None = None
