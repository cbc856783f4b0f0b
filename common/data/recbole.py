"""RecBole atomic files: ``.inter``, ``.item``, ``.kg`` and ``.link`` with typed headers ``name:type``.

Format: https://recbole.io/docs/user_guide/data/atomic_files.html.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from common.data import conform
from common.data.delimited import Delimited, Kind, malformed, require
from common.data.movielens import genre_column
from common.data.schema import Source

_USUAL = {
    "title": ("title", "movie_title", "name"),
    "category": ("category", "categories"),
    "year": ("year", "release_year"),
}
_GENRES = ("genres", "genre", "class")
_TYPES = {"token", "token_seq", "float", "float_seq"}


def matches(folder: Path) -> bool:
    """Whether the folder holds an ``.inter`` file."""
    return any(folder.glob("*.inter"))


def read(key: str, folder: Path) -> Source:
    """Reads atomic files that share one stem.

    Token columns of items are attributes or, under the usual names, title, category, brand and description; of several
    columns with usual names for one thing, the others are attributes. Genres become one column each as in MovieLens;
    numbers are left out. Relations come from ``.kg``, whose entities are items
    themselves or are mapped by ``.link``; triplets that touch another entity are left out.

    Args:
        key: Name of the data set.
        folder: Folder with one ``.inter`` file.

    Raises:
        DataError: If a file is missing or malformed.
    """
    found = sorted(folder.glob("*.inter"))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        malformed(folder, "one .inter file", names, "Name a folder that holds one RecBole data set.")
    stem = found[0].with_suffix("")
    files = [path for suffix in (".inter", ".item", ".kg", ".link") if (path := stem.with_suffix(suffix)).is_file()]
    by_suffix = {path.suffix: path for path in files}
    events = conform.interactions(_read_events(found[0]))
    items, warnings = None, {}
    if ".item" in by_suffix:
        items = _read_items(by_suffix[".item"])
        warnings = conform.unlisted(by_suffix[".item"], items["item"], events["item"])
    relations = [_read_graph(by_suffix[".kg"], by_suffix.get(".link"))] if ".kg" in by_suffix else []
    return Source(
        name=key,
        interactions=events,
        items=conform.items(items, events["item"]),
        relations=conform.relations(*relations),
        time=conform.time_kind(events),
        content_hash=conform.content_hash(files),
        warnings=warnings,
    )


def _header(path: Path) -> dict[str, str]:
    """The type of each column by name."""
    require(path, "a typed header such as user_id:token")
    with path.open(encoding="utf-8", errors="replace") as stream:
        fields = stream.readline().rstrip("\r\n").split("\t")
    types = {}
    for entry in fields:
        name, _, kind = entry.partition(":")
        if kind not in _TYPES:
            cure = "Write each column of the first line as name:type, separated by tabs."
            expected = f"name:type with a type of {', '.join(sorted(_TYPES))}"
            malformed(path, expected, repr(entry), cure, line=1, column=entry)
        if name in types:
            cure = "Rename one of the two, or leave it out."
            malformed(path, f"one column {name!r}", "another one", cure, line=1, column=entry)
        types[name] = kind
    return types


def _table(path: Path, types: dict[str, str], columns: dict[str, Kind], unique: str | None = None) -> pl.DataFrame:
    names = {name: f"{name}:{types.get(name, 'token')}" for name in columns}
    return Delimited(columns, header_names=names, unique=unique).read(path)


def _read_events(path: Path) -> pl.DataFrame:
    types = _header(path)
    columns: dict[str, Kind] = {"user_id": "text", "item_id": "text", "timestamp": "number"}
    if "rating" in types:
        columns["rating"] = "number"
    table = _table(path, types, columns)
    conform.require_seconds(path, table["timestamp"])
    return table.rename({"user_id": "user", "item_id": "item"})


def _read_items(path: Path) -> pl.DataFrame:
    types = _header(path)
    columns: dict[str, Kind] = {"item_id": "text"}
    # A year is a number in RecBole and an attribute here; other numbers are left out.
    wanted = [name for name, kind in types.items() if kind.startswith("token") or name in ("year", "release_year")]
    columns.update({name: "optional text" for name in wanted if name != "item_id"})
    genres = next((name for name in _GENRES if name in columns), None)
    names = conform.item_names(path, _named([name for name in columns if name != genres]))
    table = _table(path, types, columns, unique="item_id")
    if genres is not None:
        table = table.with_columns(_genre_columns(table[genres])).drop(genres)
    return table.rename(names)


def _named(columns: list[str]) -> dict[str, str]:
    """What each column is called here; the first of several usual names stands for the thing itself."""
    names = {name: name for name in columns} | {"item_id": "item"}
    for ours, usual in _USUAL.items():
        first = next((name for name in usual if name in columns), None)
        if first is not None:
            names[first] = ours
    return names


def _genre_columns(genres: pl.Series) -> list[pl.Series]:
    spelt = genres.str.split(" ").explode().drop_nulls().unique().sort()
    # Genres that are spelt in two ways share a column.
    columns = {genre: genre_column(genre) for genre in spelt if genre}
    lists = genres.str.split(" ").list.eval(pl.element().replace(columns))
    yes, no = pl.lit("1"), pl.lit("")
    return [
        pl.select(pl.when(lists.list.contains(name)).then(yes).otherwise(no)).to_series().alias(name)
        for name in dict.fromkeys(columns.values())
    ]


def _read_graph(path: Path, link: Path | None) -> pl.DataFrame:
    columns: dict[str, Kind] = {"head_id": "text", "relation_id": "text", "tail_id": "text"}
    table = _table(path, _header(path), columns)
    graph = table.select(head="head_id", relation="relation_id", tail="tail_id")
    if link is None:
        return graph
    pairs = _table(link, _header(link), {"item_id": "text", "entity_id": "text"})
    for end in ("head", "tail"):
        graph = graph.join(pairs, left_on=end, right_on="entity_id").drop(end).rename({"item_id": end})
    return graph
