"""ReChorus folders: a ready-made split with its negatives, attributes ``i_*`` and relations ``r_*``.

Layout: https://github.com/THUwangcy/ReChorus. LRD's authors use this layout for their data, with item texts beside it.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from common.data import conform
from common.data.delimited import Delimited, Kind, malformed, require
from common.data.schema import ReadySplit, Source

_EVENTS: dict[str, Kind] = {"user_id": "text", "item_id": "text", "time": "number"}
_LIST = r"^\s*\[\s*(\d+\s*(,\s*\d+\s*)*)?\]\s*$"


def matches(folder: Path) -> bool:
    """Whether the folder holds a ReChorus data set."""
    return all((folder / f"{part}.csv").is_file() for part in ("train", "dev", "test"))


def read(key: str, folder: Path) -> Source:
    """Reads a folder and keeps its split as it is: file order, ids, and negatives with their duplicates.

    Attribute values are strings, ``""`` for 0. Attributes named category and brand fill those columns. The text of an
    item, if ``*.text`` and ``*.item2index`` contain one, becomes its title.

    Args:
        key: Name of the data set.
        folder: Folder with ``train.csv``, ``dev.csv``, ``test.csv`` and, if they exist, ``item_meta.csv``,
            ``*.text`` and ``*.item2index``.

    Raises:
        DataError: If a file is missing or malformed.
    """
    parts = {part: require(folder / f"{part}.csv", f"the {part} part of a split") for part in ("train", "dev", "test")}
    (train, _), (val, val_negatives), (test, test_negatives) = (
        _read_part(path, held_out=part != "train") for part, path in parts.items()
    )
    files = list(parts.values())
    occurring = pl.concat([train["item"], val["item"], test["item"]]).to_frame()
    meta, relations, warnings = None, None, {}
    if (folder / "item_meta.csv").is_file():
        files.append(folder / "item_meta.csv")
        meta, relations = _read_meta(files[-1])
        warnings = conform.unlisted(files[-1], meta["item"], occurring["item"])
    texts = _text_files(folder)
    if texts:
        if meta is not None and "title" in meta.columns:
            expected, found = f"no title beside the texts of {texts[0].name}", "one"
            malformed(files[-1], expected, found, "Rename that column, or leave it out.", column="i_title")
        files.extend(texts)
        titles, unlisted = _read_titles(*texts, occurring)
        warnings |= unlisted
        if meta is None:
            meta = titles
        else:
            # An index may know more items than the split, which are no candidates.
            others = titles.join(occurring, "item", "semi").join(meta, "item", "anti", maintain_order="left")
            meta = pl.concat([meta.join(titles, "item", "left", maintain_order="left"), others], how="diagonal")
    events = conform.interactions(train)
    return Source(
        name=key,
        interactions=events,
        items=conform.items(meta, occurring["item"]),
        relations=conform.relations(*([] if relations is None else [relations])),
        time=conform.time_kind(pl.concat([events.select(val.columns), val, test])),
        content_hash=conform.content_hash(files),
        warnings=warnings,
        split=ReadySplit(val, test, val_negatives, test_negatives),
    )


def _header(path: Path) -> tuple[str, list[str]]:
    with path.open(encoding="utf-8", errors="replace") as stream:
        line = stream.readline().rstrip("\r\n")
    # ReChorus writes tabs under the name .csv; forks of it write commas.
    separator = "," if "\t" not in line and "," in line else "\t"
    return separator, line.split(separator)


def _read_part(path: Path, held_out: bool) -> tuple[pl.DataFrame, list[list[str]]]:
    separator, header = _header(path)
    shipped: dict[str, Kind] = {"neg_items": "text"} if "neg_items" in header else {}
    unique = "user_id" if held_out else None
    layout = Delimited({**_EVENTS, **shipped}, separator=separator, quoted=separator == ",", unique=unique)
    table = layout.read(path)
    conform.require_seconds(path, table["time"])
    negatives: list[list[str]] = []
    if shipped:
        ids = _ids(path, layout, table, "neg_items")
        lengths = ids.list.len()
        odd = (lengths != lengths[0]).arg_true()
        if len(odd):
            layout.refuse(path, odd[0], "neg_items", f"{lengths[0]} ids as in the first row", str(lengths[odd[0]]))
        negatives = ids.to_list()
    return table.select(user="user_id", item="item_id", timestamp=pl.col("time").cast(pl.Int64)), negatives


def _read_meta(path: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    separator, header = _header(path)
    attributes = [name for name in header if name.startswith("i_")]
    related = [name for name in header if name.startswith("r_")]
    names = {name: name.removeprefix("i_").lower() for name in attributes}
    names = conform.item_names(path, {"item_id": "item"} | names)
    columns: dict[str, Kind] = {"item_id": "text"}
    columns.update(dict.fromkeys(attributes, "optional text"))
    columns.update(dict.fromkeys(related, "text"))
    layout = Delimited(columns, separator=separator, quoted=separator == ",", unique="item_id")
    table = layout.read(path)
    items = table.select(
        pl.col("item_id").alias("item"),
        *(pl.col(name).replace("0", "").alias(names[name]) for name in attributes),
    )
    triplets = [
        table.select(
            pl.col("item_id").alias("head"),
            pl.lit(name.removeprefix("r_")).alias("relation"),
            _ids(path, layout, table, name).alias("tail"),
        )
        .explode("tail")
        .drop_nulls("tail")
        for name in related
    ]
    return items, conform.relations(*triplets)


def _ids(path: Path, layout: Delimited, table: pl.DataFrame, column: str) -> pl.Series:
    """The lists of ids that a column holds as Python literals."""
    wrong = (~table[column].str.contains(_LIST)).arg_true()
    if len(wrong):
        layout.refuse(path, wrong[0], column, "a list of item ids such as [3, 14]", repr(table[column][wrong[0]]))
    return table[column].str.extract_all(r"\d+")


def _text_files(folder: Path) -> tuple[Path, Path] | None:
    texts, indices = sorted(folder.glob("*.text")), sorted(folder.glob("*.item2index"))
    for kind, found in (("*.text", texts), ("*.item2index", indices)):
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            malformed(folder, f"one file {kind}", names, "Keep one of them and move the others away.")
    return (texts[0], indices[0]) if texts and indices else None


def _read_titles(texts: Path, index: Path, occurring: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, str]]:
    """``item, title, raw_id``, and warnings: texts have raw ids, which the index maps to the split's ids."""
    titles = Delimited({"id": "text", "text": "optional text"}, unique="id").read(texts)
    ids = Delimited({"id": "text", "item": "text"}, header=False, unique="item").read(index)
    warnings = conform.unlisted(index, ids["item"], occurring["item"])
    warnings |= conform.unlisted(texts, titles["id"], ids.join(occurring, "item", "semi", maintain_order="left")["id"])
    return ids.join(titles, "id", "left").select("item", title="text", raw_id="id"), warnings
