"""The user's own tables: ``interactions`` and, optionally, ``items`` and ``relations``; CSV, TSV or Parquet."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import polars as pl
from polars.exceptions import PolarsError

from common.data import conform
from common.data.delimited import Delimited, Kind, malformed, require
from common.data.schema import Source
from common.errors import DataError

_SUFFIXES = (".parquet", ".csv", ".tsv")
_INTERACTIONS: dict[str, Kind] = {"user": "text", "item": "text", "timestamp": "number"}
_RELATIONS: dict[str, Kind] = {"head": "text", "relation": "text", "tail": "text"}
_OTHER_NAMES = {"user_id": "user", "item_id": "item"}


def matches(folder: Path) -> bool:
    """Whether the folder holds a table of interactions."""
    return _find(folder, "interactions") is not None


def read(key: str, folder: Path) -> Source:
    """Reads the user's own tables.

    * ``interactions``: ``user`` (or ``user_id``), ``item`` (or ``item_id``), ``timestamp`` and, if there is one,
      ``rating``. Times are Unix seconds, or dates in Parquet; positions 0, 1, 2, … of a user make the time ordinal.
    * ``items``, optional: ``item`` and any of ``title``, ``description`` (or ``text``), ``category``, ``brand``; each
      further column is an attribute.
    * ``relations``, optional: ``head``, ``relation``, ``tail``.

    Args:
        key: Name of the data set.
        folder: Folder with ``interactions.csv``, ``.tsv`` or ``.parquet`` and the other tables.

    Raises:
        DataError: If a table is missing or malformed.
    """
    events_path = _find(folder, "interactions")
    if events_path is None:
        raise DataError(
            f"{folder}: expected interactions.csv, .tsv or .parquet, found none of them.",
            "Put a table with the columns user, item, timestamp there under one of these names.",
        )
    items_path, relations_path = _find(folder, "items"), _find(folder, "relations")
    rating: dict[str, Kind] = {"rating": "number"} if "rating" in _columns(events_path) else {}
    events = _read(events_path, _INTERACTIONS | rating)
    conform.require_seconds(events_path, events["timestamp"])
    events = conform.interactions(events)
    items, warnings = None, {}
    if items_path:
        items = _read_items(items_path)
        warnings = conform.unlisted(items_path, items["item"], events["item"])
    relations = [_read(relations_path, _RELATIONS)] if relations_path else []
    return Source(
        name=key,
        interactions=events,
        items=conform.items(items, events["item"]),
        relations=conform.relations(*relations),
        time=conform.time_kind(events),
        content_hash=conform.content_hash(path for path in (events_path, items_path, relations_path) if path),
        warnings=warnings,
    )


def _find(folder: Path, name: str) -> Path | None:
    found = [path for suffix in _SUFFIXES if (path := folder / f"{name}{suffix}").is_file()]
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        malformed(folder, f"one table of {name}", names, "Keep one of them and move the others away.")
    return found[0] if found else None


def _separator(path: Path) -> str:
    return "\t" if path.suffix == ".tsv" else ","


def _columns(path: Path) -> list[str]:
    """The names of a table's columns as the file spells them."""
    require(path, "a table")
    if path.suffix == ".parquet":
        with _whole(path):
            return list(pl.read_parquet_schema(path))
    with path.open(encoding="utf-8-sig", errors="replace") as stream:
        return next(csv.reader([stream.readline().rstrip("\r\n")], delimiter=_separator(path)), [])


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    """Says of a damaged Parquet file which one it is."""
    try:
        yield
    except (PolarsError, OSError) as error:
        malformed(path, "a whole Parquet file", str(error).splitlines()[0], "Write the table again.")


def _read(path: Path, columns: Mapping[str, Kind], unique: str | None = None) -> pl.DataFrame:
    spelt = _columns(path)
    names = {plain: other for other, plain in _OTHER_NAMES.items() if other in spelt and plain not in spelt}
    for other, plain in _OTHER_NAMES.items():
        # Among items, user and user_id are two attributes.
        if {other, plain} <= set(spelt) and plain in columns and other not in columns:
            expected, found = f"one column for {plain!r}", f"{other!r} as well"
            line = None if path.suffix == ".parquet" else 1
            malformed(path, expected, found, "Rename one of the two, or leave it out.", line=line, column=plain)
    if path.suffix == ".parquet":
        return _read_parquet(path, columns, names, unique)
    return Delimited(columns, _separator(path), quoted=True, header_names=names, unique=unique).read(path)


def _read_items(path: Path) -> pl.DataFrame:
    columns: dict[str, Kind] = {"item": "text"}
    # The item column has two possible names and is not an attribute under either.
    attributes = [name for name in _columns(path) if name not in ("item", "item_id")]
    columns.update(dict.fromkeys(attributes, "optional text"))
    names = conform.item_names(path, {name: name for name in columns})
    return _read(path, columns, unique="item").rename(names)


def _read_parquet(
    path: Path, columns: Mapping[str, Kind], names: Mapping[str, str], unique: str | None
) -> pl.DataFrame:
    schema = pl.read_parquet_schema(path)
    for name in columns:
        if names.get(name, name) not in schema:
            found = ", ".join(schema)
            malformed(path, "such a column", f"columns {found}", f"Name a column {name!r}.", column=name)
        if (stored := schema[names.get(name, name)]).is_nested() or stored in (pl.Boolean, pl.Binary, pl.Object):
            malformed(path, "text, numbers or dates", f"values of type {stored}", "Convert the column.", column=name)
    with _whole(path):
        table = pl.read_parquet(path, columns=[names.get(name, name) for name in columns])
    table = table.rename({other: plain for plain, other in names.items() if plain in columns})
    converted = table.select(_conversion(table, name, kind) for name, kind in columns.items())
    for name, kind in columns.items():
        wrong = converted[name].is_null() | (~converted[name].is_finite() if kind == "number" else False)
        if wrong.any():
            row = int(wrong.arg_max() or 0)
            expected = "a finite number or a date" if kind == "number" else "some text"
            malformed(path, expected, f"{table[name][row]!r} in row {row + 1}", "Fix that row.", column=name)
    if unique and converted[unique].is_duplicated().any():
        row = int((~converted[unique].is_first_distinct()).arg_max() or 0)
        expected, found = "a value that no earlier row has", f"{converted[unique][row]!r} in row {row + 1}"
        malformed(path, expected, found, "Keep one row per item.", column=unique)
    if converted.is_empty():
        malformed(path, "at least one row", "none", "Write the table again.")
    return converted


def _conversion(table: pl.DataFrame, name: str, kind: Kind) -> pl.Expr:
    column = pl.col(name)
    if kind == "number":
        if table.schema[name] in (pl.Date, pl.Datetime):
            return column.dt.epoch("s").cast(pl.Float64)
        return column.cast(pl.Float64, strict=False)
    text = column.cast(pl.String)
    return text.fill_null("") if kind == "optional text" else pl.when(text != "").then(text).alias(name)
