"""The three tables that every source yields, and the manifest that describes a store."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import polars as pl
from numpy.typing import NDArray

from common.types import TimeKind

INTERACTIONS = pl.Schema({"user": pl.String, "item": pl.String, "timestamp": pl.Int64, "rating": pl.Float32})
"""One row per event, in file order. ``timestamp`` in Unix seconds (a position where time is ordinal)."""

ITEMS = pl.Schema(
    {
        "item": pl.String,
        "title": pl.String,
        "description": pl.String,
        "category": pl.String,
        "brand": pl.String,
    }
)
"""One row per item, empty strings where unknown. Further string columns are attributes with a single value."""

RELATIONS = pl.Schema({"head": pl.String, "relation": pl.String, "tail": pl.String})
"""Item-item relations; attributes are in the items table."""


@dataclass(frozen=True)
class ReadySplit:
    """A split that a source ships ready-made: kept as it is.

    Attributes:
        val: ``user, item, timestamp`` of the validation targets, one row per user.
        test: The same for the test targets.
        val_negatives: Shipped negatives, item ids for each row of ``val``; empty where none are shipped.
        test_negatives: The same for ``test``.
    """

    val: pl.DataFrame
    test: pl.DataFrame
    val_negatives: list[list[str]] = field(default_factory=list)
    test_negatives: list[list[str]] = field(default_factory=list)


@dataclass(frozen=True)
class Source:
    """The contents of a source.

    Attributes:
        name: Key of the data set.
        interactions: :data:`INTERACTIONS`, training events only where ``split`` is given.
        items: :data:`ITEMS`.
        relations: :data:`RELATIONS`.
        time: Whether times are recorded, imputed or mere positions.
        content_hash: SHA-256 over the bytes of every file read.
        split: The source's own split, if it ships one.
        truth: Known truth of a synthetic world, kept beside the data. Arrays whose names begin with ``item_`` have
            one row for padding and then one for each row of ``items``, and are re-ordered with the items.
        arguments: Arguments of a generated source, for the manifest; empty for one that was read.
        warnings: Named warnings about the files, for the manifest.
    """

    name: str
    interactions: pl.DataFrame
    items: pl.DataFrame
    relations: pl.DataFrame
    time: TimeKind
    content_hash: str
    split: ReadySplit | None = None
    truth: dict[str, NDArray[Any]] | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    warnings: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """What a store contains and how it was made; ``manifest.json``, and what ``recbench prepare --json`` prints.

    Attributes:
        dataset: Key of the data set.
        recipe: Name of the recipe.
        recipe_version: Version of the recipe.
        store_version: Version of the store's format.
        fingerprint: SHA-256 over the source's content, every argument and the two versions.
        time: Whether times are recorded, imputed or mere positions.
        time_resolution: Coarsest unit that divides all times: ``day``, ``hour``, ``minute``, ``second``, ``position``.
        num_users: Users in the store.
        num_items: Items in the store.
        num_interactions: Events in the store.
        num_triplets: Item-item edges and known attribute values together.
        triplets: The same by relation and attribute.
        arguments: Every argument of the preparation, the recipe's own among them.
        stages: Statistics after every stage, in order.
        ties: Shares of events and of test targets that are tied in time, and the order found inside ties.
        splits: Cases, cuts and leakage of each split.
        graph: Recipe, snapshot and link rates of the relations.
        hashes: SHA-256 of every other file of the store.
        warnings: Message of each named warning.
    """

    dataset: str
    recipe: str
    recipe_version: int
    store_version: int
    fingerprint: str
    time: TimeKind
    time_resolution: str
    num_users: int
    num_items: int
    num_interactions: int
    num_triplets: int
    triplets: dict[str, int] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)
    stages: list[dict[str, Any]] = field(default_factory=list)
    ties: dict[str, Any] = field(default_factory=dict)
    splits: dict[str, dict[str, Any]] = field(default_factory=dict)
    graph: dict[str, Any] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    warnings: dict[str, str] = field(default_factory=dict)

    @property
    def store_id(self) -> str:
        """Name of the store's folder: the recipe and the first 12 digits of the fingerprint."""
        return f"{self.recipe}-{self.fingerprint[:12]}"

    @property
    def has_repeats(self) -> bool:
        """Whether a user has an item more than once; full ranking then excludes no item (PROTOCOL D5)."""
        return bool(self.stages) and self.stages[-1]["repeated_pairs"] > 0

    def to_json(self) -> str:
        """The manifest as indented JSON."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """The manifest in ``text``.

        Raises:
            ValueError: If the text is not a JSON object with exactly the manifest's keys.
        """
        values = json.loads(text)
        names = {entry.name for entry in fields(cls)}
        if not isinstance(values, dict) or set(values) != names:
            raise ValueError(f"a manifest has the keys {', '.join(sorted(names))}")
        return cls(**values)
