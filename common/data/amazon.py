"""Amazon reviews as UCSD publishes them: the 2014, 2018 and 2023 dialects, told apart by their content.

2014: R. He and J. McAuley, "Ups and Downs", WWW 2016, https://arxiv.org/abs/1602.01585, and J. McAuley et al.,
"Image-based Recommendations on Styles and Substitutes", SIGIR 2015, https://arxiv.org/abs/1506.04757.
2018: J. Ni, J. Li and J. McAuley, "Justifying Recommendations using Distantly-Labeled Reviews and Fine-Grained
Aspects", EMNLP 2019, https://aclanthology.org/D19-1018. 2023: Y. Hou et al., "Bridging Language and Items for Retrieval
and Recommendation", 2024, https://arxiv.org/abs/2403.03952. Licence: research use, none formal.
"""

from __future__ import annotations

import ast
import gzip
import io
import json
import re
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, NoReturn, cast

import polars as pl
from polars.exceptions import PolarsError

from common.data import conform
from common.data.delimited import malformed, require
from common.data.progress import reading
from common.data.schema import Source

_2014 = "http://snap.stanford.edu/data/amazon/productGraph/categoryFiles"
_2018 = "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_v2"
_2023 = "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023/raw"
_META_2018 = f"{_2018}/metaFiles2/meta_{{category}}.json.gz"
URLS: dict[str, tuple[str, str]] = {
    "2014-5core": (f"{_2014}/reviews_{{category}}_5.json.gz", f"{_2014}/meta_{{category}}.json.gz"),
    "2018": (f"{_2018}/categoryFiles/{{category}}.json.gz", _META_2018),
    "2018-5core": (f"{_2018}/categoryFilesSmall/{{category}}_5.json.gz", _META_2018),
    "2023": (f"{_2023}/review_categories/{{category}}.jsonl.gz", f"{_2023}/meta_categories/meta_{{category}}.jsonl.gz"),
}
"""Addresses of reviews and of metadata by year; ``{category}`` stands for a name such as ``Office_Products``.

The publisher gives no checksums."""

_SUFFIXES = (".json.gz", ".jsonl.gz", ".json", ".jsonl")
_BLOCK = 1 << 26
_ID = re.compile(rb"""asin["']\s*:\s*["']([^"']*)["']""")
_CATEGORY_LEVEL = 2
_Kind = Literal["some text", "a whole number of 64 bits", "a number"]
_DTYPES: dict[_Kind, pl.DataType] = {
    "some text": pl.String(),
    "a whole number of 64 bits": pl.Int64(),
    "a number": pl.Float64(),
}


@dataclass(frozen=True)
class _Dialect:
    """Field names of reviews, and how many ``ticks`` of the time field make a second."""

    user: str
    item: str
    rating: str
    time: str
    ticks: int

    @property
    def kinds(self) -> dict[str, _Kind]:
        """What each field must hold."""
        return {
            self.user: "some text",
            self.item: "some text",
            self.rating: "a number",
            self.time: "a whole number of 64 bits",
        }


_OLD = _Dialect("reviewerID", "asin", "overall", "unixReviewTime", 1)
# In 2023, reviews and metadata alike file variants of a product under one parent.
_NEW = _Dialect("user_id", "parent_asin", "rating", "timestamp", 1000)


def matches(folder: Path) -> bool:
    """Whether the folder holds reviews, judging by the first line of the first file."""
    reviews, _ = _candidates(folder)
    if not reviews:
        return False
    with gzip.open(reviews[0]) if reviews[0].suffix == ".gz" else reviews[0].open("rb") as stream:
        try:
            return _dialect_of(json.loads(stream.readline())) is not None
        except (ValueError, EOFError, OSError, zlib.error):
            # A damaged file of the right name still counts, and its reader reports what is wrong.
            return True


def read(key: str, folder: Path) -> Source:
    """Reads the reviews of a category, and the metadata of the reviewed items if there are any.

    ``category`` is the third level of the item's first category path, as in LRD (``""`` where the path is shorter),
    and the attribute ``category_leaf`` the last; ``first_paragraph`` is that of the description. If metadata describe
    an item twice, as in the 2018 dumps, the first entry counts. Relations connect reviewed items: ``complement``
    (also_bought, also_buy) and ``substitute`` (also_viewed, also_view); ``bought_together`` is not read, so the 2023
    dumps yield none.

    Args:
        key: Name of the data set.
        folder: Holds a file of reviews (JSON lines), and may hold one of metadata (JSON lines, or one Python literal
            per line in 2014); gzipped or plain.

    Raises:
        DataError: If there is not exactly one file of reviews, more than one of metadata, or a malformed file.
    """
    reviews, metadata = _located(folder)
    events = conform.interactions(_read_reviews(require(reviews, "a file of reviews")))
    files, items, relations, warnings = [reviews], None, conform.relations(), _too_early(events)
    if metadata is not None:
        files.append(require(metadata, "a file of metadata"))
        items, relations = _read_metadata(metadata, set(events["item"]))
        warnings |= conform.unlisted(metadata, items["item"], events["item"])
    return Source(
        name=key,
        interactions=events,
        items=conform.items(items, events["item"]),
        relations=relations,
        time="real",
        content_hash=conform.content_hash(files),
        warnings=warnings,
    )


def _candidates(folder: Path) -> tuple[list[Path], list[Path]]:
    files = sorted(path for suffix in _SUFFIXES for path in folder.glob(f"*{suffix}"))
    metadata = [path for path in files if path.name.startswith("meta_")]
    return [path for path in files if path not in metadata], metadata


def _located(folder: Path) -> tuple[Path, Path | None]:
    """The reviews and, if there are any, the metadata of a folder that holds one category."""
    reviews, metadata = _candidates(folder)
    for what, found in (("reviews", reviews), ("metadata", metadata)):
        if len(found) > 1 or (what == "reviews" and not found):
            names = ", ".join(path.name for path in found) or "none"
            expected = f"one file of {what} ending in {', '.join(_SUFFIXES)}"
            malformed(folder, expected, names, "Keep the files of one category in a folder of their own.")
    return reviews[0], metadata[0] if metadata else None


def _dialect_of(record: object) -> _Dialect | None:
    fields = set(record) if isinstance(record, dict) else set()
    return next((dialect for dialect in (_OLD, _NEW) if fields >= {dialect.user, dialect.item, dialect.time}), None)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    with reading(path, "Reading") as stream:
        if path.suffix == ".gz":
            with gzip.open(stream) as unpacked:
                yield cast("BinaryIO", unpacked)
        else:
            yield stream


def _blocks(path: Path) -> Iterator[tuple[int, list[bytes]]]:
    """Yields about 64 MiB of whole lines at a time, with the number of the first."""
    first = 1
    with _opened(path) as stream:
        while True:
            try:
                lines = stream.readlines(_BLOCK)
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                cure = "The file is cut off or damaged: delete it and fetch it again."
                malformed(path, "a whole gzip file", f"damage after line {first - 1} ({error})", cure)
            if not lines:
                return
            yield first, lines
            first += len(lines)


def _read_reviews(path: Path) -> pl.DataFrame:
    tables = []
    dialect: _Dialect | None = None
    for first, lines in _blocks(path):
        dialect = dialect or _dialect_of(_parsed(path, 1, lines[0], json.loads))
        if dialect is None:
            expected = "a review with reviewerID, asin, unixReviewTime or user_id, parent_asin, timestamp"
            found = repr(lines[0].decode(errors="replace"))
            malformed(path, expected, found, "Name the file of reviews.", line=1)
        schema = {name: _DTYPES[kind] for name, kind in dialect.kinds.items()}
        try:
            table = pl.read_ndjson(io.BytesIO(b"".join(lines)), schema=schema)
        except PolarsError as error:
            _blame(path, first, lines, dialect, str(error).splitlines()[0])
        ids = pl.col(dialect.user, dialect.item)
        if table.select(pl.any_horizontal(pl.all().is_null(), ids == "").any()).item():
            _blame(path, first, lines, dialect, "a field without value")
        table = table.with_columns(pl.col(dialect.time) // dialect.ticks)
        conform.require_seconds(path, table[dialect.time])
        names = {dialect.user: "user", dialect.item: "item", dialect.rating: "rating", dialect.time: "timestamp"}
        tables.append(conform.interactions(table.rename(names)))
    if not tables:
        malformed(path, "at least one review", "none", "Fetch an intact copy of the file.")
    return pl.concat(tables)


def _too_early(events: pl.DataFrame) -> dict[str, str]:
    """A warning about times that all lie before there were reviews."""
    latest = pl.from_epoch(pl.col("timestamp").max())
    early, date = events.select(latest.dt.year() < 1990, date=latest.dt.to_string("%Y-%m-%d")).row(0)
    if not early:
        return {}
    what = f"The latest review is of {date}: is its time in another unit?"
    return {"early-times": f"{what} The dumps of 2014 and 2018 count seconds, those of 2023 milliseconds."}


def _parsed(path: Path, number: int, line: bytes, parse: Callable[[str], object]) -> dict[str, Any]:
    try:
        record = parse(line.decode("utf-8"))
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        malformed(path, "one record as an object in braces", f"{line[:60]!r} ({reason})", line=number)
    if not isinstance(record, dict):
        malformed(path, "one record as an object in braces", repr(line[:60]), line=number)
    return record


def _blame(path: Path, first: int, lines: list[bytes], dialect: _Dialect, reason: str) -> NoReturn:
    """Raises for the first line that is not a review; ``reason`` is used if there is none."""
    for number, line in enumerate(lines, start=first):
        if not line.strip():
            continue
        record = _parsed(path, number, line, json.loads)
        for name, expected in dialect.kinds.items():
            if not _is(expected, record.get(name)):
                found = repr(record[name]) if name in record else "no such field"
                malformed(path, expected, found, line=number, column=name)
    malformed(path, "reviews as JSON lines", reason)


def _is(expected: _Kind, value: object) -> bool:
    if expected == "some text":
        return isinstance(value, str) and value != ""
    if expected == "a whole number of 64 bits":
        return type(value) is int and -(2**63) <= value < 2**63
    # An infinity is larger, and NaN does not compare.
    return type(value) in (int, float) and abs(cast("float", value)) <= sys.float_info.max


def _read_metadata(path: Path, wanted: set[str]) -> tuple[pl.DataFrame, pl.DataFrame]:
    raw_ids = {item.encode() for item in wanted}
    parse: Callable[[str], object] | None = None
    rows: dict[str, dict[str, str]] = {}
    links: list[tuple[str, str, list[str]]] = []
    for first, lines in _blocks(path):
        parse = parse or _metadata_parser(lines[0])
        for number, line in enumerate(lines, start=first):
            # Parsing takes most of the time, and most products of a category are not reviewed in its 5-core.
            named = _ID.findall(line)
            if not line.strip() or (named and raw_ids.isdisjoint(named)):
                continue
            record = _parsed(path, number, line, parse)
            item = record.get("parent_asin", record.get("asin"))
            if not isinstance(item, str) or not item:
                malformed(path, "a product id", repr(item), line=number, column="asin")
            if item in wanted and item not in rows:
                rows[item] = _item(item, record)
                links.extend((item, name, tails) for name, tails in _links(record))
    if not rows:
        cure = "Name the metadata of the same category and year as the reviews, and fetch them again if they are empty."
        malformed(path, "metadata of products that are reviewed", "none", cure)
    graph = pl.DataFrame(
        links, schema={"head": pl.String, "relation": pl.String, "tail": pl.List(pl.String)}, orient="row"
    )
    graph = graph.explode("tail").filter(pl.col("tail").is_in(list(wanted)))
    return pl.DataFrame(list(rows.values())), conform.relations(graph)


def _metadata_parser(line: bytes) -> Callable[[str], object]:
    try:
        json.loads(line)
    except ValueError:
        return ast.literal_eval
    return json.loads


def _item(item: str, record: dict[str, Any]) -> dict[str, str]:
    path, description = _category_path(record), record.get("description")
    return {
        "item": item,
        "title": _text(record.get("title")),
        "description": _text(description),
        "first_paragraph": _text(description[:1] if isinstance(description, list) else description),
        "category": path[_CATEGORY_LEVEL] if len(path) > _CATEGORY_LEVEL else "",
        "brand": _text(record.get("brand", record.get("store"))),
        "category_leaf": path[-1] if path else "",
    }


def _category_path(record: dict[str, Any]) -> list[str]:
    """The first of 2014's several paths, or the one path of later years, root first."""
    paths = record.get("categories", record.get("category")) or []
    path = paths[0] if paths and isinstance(paths[0], list) else paths
    return [str(level) for level in path] if isinstance(path, list) else [str(path)]


def _links(record: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Yields each relation with its products; 2014 nests them in ``related``."""
    related = record.get("related")
    for name in conform.RELATION_NAMES:
        tails = (related if isinstance(related, dict) else record).get(name)
        if isinstance(tails, list):
            yield name, [str(tail) for tail in tails]


def _text(value: object) -> str:
    """A string, or the paragraphs of a list joined by spaces; ``""`` for none."""
    text = " ".join(str(part) for part in value) if isinstance(value, list) else "" if value is None else str(value)
    # JSON escapes can leave half of a surrogate pair, which no table can hold.
    return text.encode("utf-8", "replace").decode()
