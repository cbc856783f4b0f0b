"""Brings the tables of a source into the schema: columns, dtypes, unique items, kind of time, content hash."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import polars as pl

from common.data.delimited import malformed
from common.data.progress import reading
from common.data.schema import INTERACTIONS, ITEMS, RELATIONS
from common.types import TimeKind

RELATION_NAMES = {
    "also_bought": "complement",
    "also_buy": "complement",
    "also_viewed": "substitute",
    "also_view": "substitute",
}
"""The suite's names for the relations of Amazon's dumps and their copies."""

_BLOCK = 1 << 20
# In seconds this is the year 5138, in milliseconds 1973.
_LAST_SECOND = 100_000_000_000
# Under these names an attribute would be lost: stores write the first themselves and read the others otherwise.
_OURS = ("text", "raw_id", "category_leaf", "first_paragraph")


def content_hash(paths: Iterable[Path]) -> str:
    """The SHA-256, in hex, over length and bytes of each file, in the order given.

    The lengths tell apart files that divide the same bytes differently. Names are not hashed: a moved or renamed
    folder is the same source.
    """
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.stat().st_size.to_bytes(8, "big"))
        with reading(path, "Hashing") as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()


def interactions(table: pl.DataFrame) -> pl.DataFrame:
    """The table with exactly the columns of ``INTERACTIONS``; the rating is null where there is none.

    Fractions of a second are truncated.
    """
    if "rating" not in table.columns:
        table = table.with_columns(rating=pl.lit(None))
    return table.select([pl.col(name).cast(dtype) for name, dtype in INTERACTIONS.items()])


def require_seconds(path: Path, times: pl.Series) -> None:
    """Refuses times of which one lies too far from 1970 for Unix seconds.

    Args:
        path: The file.
        times: Its column of times, under the name that it has there.

    Raises:
        DataError: If a time is too large.
    """
    too_far = times.filter(times.abs() >= _LAST_SECOND)
    if len(too_far):
        cure = "Divide milliseconds by 1,000 (microseconds by 1,000,000) before saving the file."
        found = f"{too_far[0]:.0f}, which lies over 3,000 years from 1970"
        malformed(path, "Unix seconds", found, cure, column=times.name)


def items(table: pl.DataFrame | None, occurring: pl.Series) -> pl.DataFrame:
    """The table with the columns of ``ITEMS`` first and a row for every item that occurs.

    Args:
        table: Known items, with at least a column ``item``; None if there are none.
        occurring: Item column of interactions; items absent from ``table`` follow in order of first appearance,
            with empty fields.
    """
    table = pl.DataFrame(schema={"item": pl.String}) if table is None else table
    absent = pl.DataFrame({"item": occurring}).unique(maintain_order=True).join(table, "item", "anti")
    table = pl.concat([table, absent], how="diagonal")
    missing = [pl.lit("").alias(name) for name in ITEMS if name not in table.columns]
    extra = [name for name in table.columns if name not in ITEMS]
    return table.with_columns(missing).select(pl.col(*ITEMS, *extra).cast(pl.String).fill_null(""))


def unlisted(path: Path, listed: pl.Series, occurring: pl.Series) -> dict[str, str]:
    """A warning, by its key, if a file of items lacks items that occur.

    Args:
        path: The file.
        listed: Items that it has.
        occurring: Item column of interactions.

    Raises:
        DataError: If it has none of the items that occur.
    """
    items = occurring.unique(maintain_order=True)
    absent = items.filter(~items.is_in(listed.implode()))
    if absent.is_empty():
        return {}
    if len(absent) == len(items):
        cure = "Spell the ids of items alike in all files."
        malformed(path, f"a row for items of the interactions, such as {absent[0]!r}", f"{listed[0]!r} instead", cure)
    what = f"{len(absent):,} of {len(items):,} items of the interactions have no row, the first is {absent[0]!r}."
    return {f"not-in-{path.name}": what}


def item_names(path: Path, names: Mapping[str, str]) -> dict[str, str]:
    """What each column of a file of items is called here, by its name in the file.

    A column ``text`` is the description where there is no other.

    Args:
        path: The file.
        names: What the file's reader calls each column, by its name in the file.

    Raises:
        DataError: If two columns get the same name, or one gets a name that has another meaning here.
    """
    text = "text" if "description" in names.values() else "description"
    chosen = {spelt: text if name == "text" else name for spelt, name in names.items()}
    earlier: dict[str, str] = {}
    for spelt, name in chosen.items():
        if not name.strip():
            # So pandas writes the index of a table.
            malformed(path, "a name for every column", "a column without one", "Name it, or leave it out.")
        if name in _OURS:
            expected, found = "an attribute under another name", f"{name!r}, which has a meaning of its own here"
            malformed(path, expected, found, "Rename that column, or leave it out.", column=spelt)
        if name in earlier:
            expected, found = f"one column for {name!r}", f"{earlier[name]!r} as well"
            malformed(path, expected, found, "Rename one of the two, or leave it out.", column=spelt)
        earlier[name] = spelt
    return chosen


def relations(*tables: pl.DataFrame) -> pl.DataFrame:
    """The tables concatenated, with the columns of ``RELATIONS`` and without duplicate triplets.

    Amazon's names become ``complement`` and ``substitute``.
    """
    whole = pl.concat([pl.DataFrame(schema=RELATIONS), *(table.select(list(RELATIONS)) for table in tables)])
    return whole.with_columns(pl.col("relation").replace(RELATION_NAMES)).unique(maintain_order=True)


def time_kind(interactions: pl.DataFrame) -> TimeKind:
    """Tells recorded times from positions: ordinal if each user's times are 0 … n-1, or 1 … n, in some order."""
    latest = interactions["timestamp"].max()
    # Positions never exceed the number of events, so most sources need no grouping.
    if not isinstance(latest, int) or latest > interactions.height:
        return "real"
    users = interactions.group_by("user").agg(
        first=pl.col("timestamp").min(),
        last=pl.col("timestamp").max(),
        distinct=pl.col("timestamp").n_unique(),
        events=pl.len(),
    )
    consecutive = (pl.col("last") - pl.col("first") + 1 == pl.col("events")) & (pl.col("distinct") == pl.col("events"))
    counted = users.select((pl.col("first").is_in([0, 1]) & consecutive).all()).item()
    return "ordinal" if counted else "real"
