"""The data sets that the suite knows, and the named, versioned recipes that turn their sources into stores.

A paper's recipe (``lrd``, ``allmrec``) and its released code's (``…-released``) are two recipes where they differ, and
neither is the default. Any change to what a recipe does is a new version of it.
"""

from __future__ import annotations

import difflib
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from common.data.templates import Template
from common.errors import UserError, nearest
from common.types import TimeKind

if TYPE_CHECKING:
    # Lists of data sets need none of this, and PyTorch takes seconds to import.
    from common.data.events import TieRule
    from common.data.filters import RepeatRule

Layout = Literal["movielens", "amazon", "rechorus", "recbole", "tables", "synthetic"]


NEAR = 0.92
"""Names more similar than this to a known key are refused: a typo must not create another data set."""
BEFORE_EVENTS = "before the first event"
"""Snapshot of a graph that cannot reflect any event."""


@dataclass(frozen=True)
class Recipe:
    """How a source becomes a store.

    Attributes:
        name: Its name.
        summary: What it is for, in one line.
        version: Raised with every change to what it does.
        filter: ``k_core`` to a fixed point, ``min_count`` in a single pass, or ``none``.
        threshold: Least number of events that a user and an item must have.
        rating_above: Only events rated above this are kept.
        uncounted_below: Events rated below this are kept, but do not count towards ``threshold`` (``min_count`` only).
        repeats: Which events of a repeated (user, item) pair are kept.
        ties: How events with equal times are ordered.
        relations: Recipe of the graph.
        text: Template of item texts.
        year: Exact years, or the buckets of LRD's released MovieLens notebook.
        items: Whether items without events are kept.
        negatives: Evaluation candidates: ``drawn``, or those that a ready-made split ships, ``shipped`` as they are or
            ``shipped-unique`` with repeated ones drawn anew.
        ready: Whether it keeps a ready-made split (and fits no other source).
    """

    name: str
    summary: str
    version: int = 1
    filter: Literal["none", "k_core", "min_count"] = "k_core"
    threshold: int = 5
    rating_above: float | None = None
    uncounted_below: float | None = None
    repeats: RepeatRule = "first"
    ties: TieRule = "hash"
    relations: Literal["kg-released"] = "kg-released"
    text: Template = "everything"
    year: Literal["exact", "lrd-buckets"] = "exact"
    items: Literal["occurring", "all"] = "occurring"
    negatives: Literal["drawn", "shipped", "shipped-unique"] = "drawn"
    ready: bool = False

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides what a store holds, and so its id: every field but the summary."""
        return {name: value for name, value in asdict(self).items() if name != "summary"}


@dataclass(frozen=True)
class PrintedSizes:
    """Numbers of users, items and interactions that a paper prints for a recipe."""

    where: str
    users: int
    items: int
    interactions: int


@dataclass(frozen=True)
class DataSet:
    """An entry of :data:`DATASETS`.

    Attributes:
        key: Its key on the command line.
        summary: What it is, in one line.
        licence: On what terms it may be used.
        recipes: Its recipes; the first that fits a source is the default.
        download: Release of MovieLens, or dialect of Amazon's dumps; ``""`` if nothing can be fetched.
        category: Amazon's name of the category.
        snapshot: When the relations were collected, as published (ISO 8601, possibly shortened).
        copies: Kind of time in well-known copies without recorded times, by layout.
        printed: Sizes that papers print, by recipe.
    """

    key: str
    summary: str
    licence: str
    recipes: tuple[Recipe, ...]
    download: str = ""
    category: str = ""
    snapshot: str = ""
    copies: dict[str, TimeKind] = field(default_factory=dict)
    printed: dict[str, PrintedSizes] = field(default_factory=dict)


FIVE_CORE = Recipe("5-core", "users and items with five events or more, to a fixed point")
_GENERIC = (
    FIVE_CORE,
    Recipe("5-core-repeats", "5-core with every repetition of a (user, item) pair kept", repeats="keep"),
    Recipe("whole", "every user and item, however few their events; repeats as in 5-core", filter="none"),
)
_READY = (
    Recipe(
        "released",
        "the ready-made split with its order, ids and negatives as they are",
        filter="none", repeats="keep", ties="file", text="title", items="all", negatives="shipped", ready=True,
    ),
    Recipe(
        "released-unique",
        "the ready-made split; negatives that repeat within a case drawn anew",
        filter="none", repeats="keep", ties="file", text="title", items="all", negatives="shipped-unique", ready=True,
    ),
)  # fmt: skip
_LRD = Recipe("lrd", "5-core with LRD's item text", text="lrd", version=2)
_LRD_MOVIELENS = Recipe(
    "lrd-released",
    "LRD's notebook for ML-100K: genre names shifted by one in the text, years in its buckets, ties in file order",
    ties="file", text="lrd-shifted-genres", year="lrd-buckets",
)  # fmt: skip
_LRD_AMAZON = Recipe(
    "lrd-released", "LRD's notebook for Amazon: ties in file order", ties="file", text="lrd", version=2
)


def _allmrec(threshold: int, rated: bool) -> tuple[Recipe, ...]:
    """A-LLMRec's recipes: as printed (its Table 2) and as released (one pass, on the raw counts)."""
    rule = "ratings above 3" if rated else "all ratings"
    paper = Recipe(
        "allmrec",
        f"A-LLMRec as printed: {rule}, {threshold} events or more",
        threshold=threshold, rating_above=3.0 if rated else None, repeats="keep", text="allmrec",
    )  # fmt: skip
    released = Recipe(
        "allmrec-released",
        "A-LLMRec's released code: one pass" + (", ratings below 3 kept but not counted" if rated else ""),
        filter="min_count", threshold=threshold, uncounted_below=3.0 if rated else None,
        repeats="keep", ties="file", text="allmrec-released", version=2,
    )  # fmt: skip
    return paper, released


_GROUPLENS = "GroupLens: research use, no redistribution without permission (README of the archive)"
_UCSD = "UCSD, McAuley lab: research use, no formal licence"


def _movielens(key: str, about: str, *recipes: Recipe, printed: dict[str, PrintedSizes] | None = None) -> DataSet:
    return DataSet(key, about, _GROUPLENS, (*_GENERIC, *_READY, *recipes), download=key, printed=printed or {})


def _amazon(
    key: str,
    category: str,
    year: str,
    *recipes: Recipe,
    copies: dict[str, TimeKind] | None = None,
    printed: dict[str, PrintedSizes] | None = None,
) -> DataSet:
    return DataSet(
        key,
        f"Amazon {year.partition('-')[0]}, {category.replace('_', ' ')}",
        _UCSD,
        (*_GENERIC, *_READY, *recipes),
        download=year,
        category=category,
        # The dumps' reviews end in 2014-07 and 2018-10; their also-bought lists were crawled no earlier.
        snapshot="2014-07" if year.startswith("2014") else "2018-10",
        copies=copies or {},
        printed=printed or {},
    )


_TABLE_2 = "A-LLMRec, Table 2 (https://arxiv.org/abs/2404.11343)"
_LRD_FIGURES = "LRD's notebook (https://github.com/ysh-1998/LRD)"
_LRD_OFFICE = dict.fromkeys(
    ("5-core", "lrd", "lrd-released", "released", "released-unique"), PrintedSizes(_LRD_FIGURES, 4905, 2420, 53258)
)
_LRD_ML = dict.fromkeys(("5-core", "lrd", "lrd-released"), PrintedSizes(_LRD_FIGURES, 943, 1349, 99287))


def _table_2(users: int, items: int, interactions: int) -> dict[str, PrintedSizes]:
    return dict.fromkeys(("allmrec", "allmrec-released"), PrintedSizes(_TABLE_2, users, items, interactions))


# Title and description only: category and brand would reveal the department where texts must reveal nothing.
_WORLD = Recipe("", "", filter="none", repeats="keep", items="all", text="allmrec")
_WORLDS = {
    "planted": "latent relations drive part of the choices, and most texts reveal them",
    "planted-half": "as planted, with half as many of those choices",
    "null-relations": "no latent relation drives a choice",
    "null-text": "texts permuted over items",
    "text-taste": "texts tell taste; there is no relation",
    "observed-only": "every relation stands in triplets",
}

DATASETS: dict[str, DataSet] = {
    entry.key: entry
    for entry in (
        _movielens("ml-100k", "MovieLens 100K", _LRD, _LRD_MOVIELENS, printed=_LRD_ML),
        _movielens("ml-1m", "MovieLens 1M"),
        _movielens("ml-latest-small", "MovieLens latest, small (changes over time)"),
        _movielens("ml-20m", "MovieLens 20M"),
        _movielens("ml-32m", "MovieLens 32M"),
        _amazon("amazon-office", "Office_Products", "2014-5core", _LRD, _LRD_AMAZON, printed=_LRD_OFFICE),
        _amazon("amazon-electronics", "Electronics", "2014-5core", _LRD, _LRD_AMAZON),
        _amazon("amazon-beauty", "Beauty", "2014-5core", copies={"recbole": "imputed"}),
        _amazon(
            "amazon-movies", "Movies_and_TV", "2018", *_allmrec(5, False), printed=_table_2(297498, 59944, 3409147)
        ),
        _amazon(
            "amazon-games", "Video_Games", "2018", *_allmrec(5, False),
            copies={"recbole": "ordinal"}, printed=_table_2(64073, 33614, 598509),
        ),
        _amazon(
            "amazon-luxury-beauty", "Luxury_Beauty", "2018", *_allmrec(4, True), printed=_table_2(9930, 6141, 63953)
        ),
        _amazon("amazon-toys", "Toys_and_Games", "2018", *_allmrec(4, True), printed=_table_2(30831, 61081, 282213)),
        DataSet(
            "synthetic",
            "an embedded world with known truth",
            "as the suite itself",
            tuple(replace(_WORLD, name=name, summary=about) for name, about in _WORLDS.items()),
            snapshot=BEFORE_EVENTS,
        ),
    )
}  # fmt: skip
"""Every data set by key."""


def find_data_set(key: str, own: bool = False) -> DataSet:
    """The entry of a data set.

    Args:
        key: Its key.
        own: Whether a new key may name the user's own data.

    Raises:
        UserError: If there is no such data set.
    """
    if key in DATASETS:
        return DATASETS[key]
    if own and (near := difflib.get_close_matches(key, DATASETS, n=1, cutoff=NEAR)):
        raise UserError(
            f"{key!r} is nearly {near[0]!r}, but would be another data set.",
            f"Write {near[0]!r}, or give your own data a less similar name.",
        )
    if own:
        if not key or not all(letter.isalnum() or letter in "-_" for letter in key):
            raise UserError(f"{key!r} cannot name a data set.", "Use letters, digits, - and _ only.")
        return DataSet(key, "own data", "the owner's", (*_GENERIC, *_READY))
    cure = f"{nearest(key, DATASETS)} Data of your own need `recbench prepare NAME --source DIR`."
    raise UserError(f"There is no data set {key!r}.", cure)


def choose_recipe(entry: DataSet, name: str | None, ready: bool) -> Recipe:
    """The recipe called ``name``, or the data set's default for the source at hand.

    Args:
        entry: The data set.
        name: Its recipe's name; None for the default.
        ready: Whether the source ships a ready-made split.

    Raises:
        UserError: If there is no such recipe, or it does not fit the source.
    """
    fitting = {recipe.name: recipe for recipe in entry.recipes if recipe.ready == ready}
    if name is None:
        return next(iter(fitting.values()))
    if name in fitting:
        return fitting[name]
    if name in {recipe.name for recipe in entry.recipes}:
        kind = "ships a ready-made split, which is left as it is" if ready else "ships no ready-made split"
        raise UserError(f"Recipe {name!r} does not fit: this source of {entry.key} {kind}.", nearest(name, fitting))
    raise UserError(f"Data set {entry.key} has no recipe {name!r}.", nearest(name, fitting))
