"""MovieLens as GroupLens publishes it: 100K, 1M, 10M and the CSV layout of all later releases.

F. M. Harper and J. A. Konstan, "The MovieLens Datasets: History and Context", ACM TiiS 5(4), 2015,
https://doi.org/10.1145/2827872. Licence: research use under each archive's README, no redistribution.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from common.data import conform
from common.data.delimited import Delimited, Kind, is_utf8, require
from common.data.schema import Source
from common.errors import DataError


@dataclass(frozen=True)
class Archive:
    """Where GroupLens keeps a release.

    Attributes:
        url: Address of the zip archive.
        folder: Folder inside the archive that holds the files.
        md5: The publisher's own checksum, None if it publishes none.
        size: Bytes of the archive, if known.
    """

    url: str
    folder: str
    md5: str | None = None
    size: int | None = None


_HOST = "https://files.grouplens.org/datasets/movielens"
ARCHIVES: dict[str, Archive] = {
    "ml-100k": Archive(f"{_HOST}/ml-100k.zip", "ml-100k", "0e33842e24a9c977be4e0107933c0723", 4_924_029),
    "ml-1m": Archive(f"{_HOST}/ml-1m.zip", "ml-1m", "c4d9eecfca2ab87c1945afe126590906"),
    "ml-20m": Archive(f"{_HOST}/ml-20m.zip", "ml-20m", "cd245b17a1ae2cc31bb14903e1204af3", 198_702_078),
    "ml-32m": Archive(f"{_HOST}/ml-32m.zip", "ml-32m", "d472be332d4daa821edc399621853b57", 238_950_008),
    # GroupLens replaces this archive now and then, so it has no lasting checksum.
    "ml-latest-small": Archive(f"{_HOST}/ml-latest-small.zip", "ml-latest-small"),
}

GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip
"""The genre columns of ``u.item`` in their true order: ``unknown`` comes first."""

_GENRE = "genre_"
_NO_GENRE = "(no genres listed)"
_RATINGS: dict[str, Kind] = {"user": "text", "item": "text", "rating": "number", "timestamp": "number"}
_CSV_NAMES = {"user": "userId", "item": "movieId", "genres": "genres"}
_FILES = {"100k": ("u.data", "u.item"), "dat": ("ratings.dat", "movies.dat"), "csv": ("ratings.csv", "movies.csv")}


def matches(folder: Path) -> bool:
    """Whether the folder holds the ratings of a MovieLens release."""
    return _layout(folder) is not None


def read(key: str, folder: Path) -> Source:
    """Reads a release; its file names reveal its layout.

    Items have ``year`` and one column per occurring genre, ``genre_action`` and so on, in the order of ``GENRES``:
    ``"1"`` or ``""``. Titles keep their year.

    Args:
        key: Name of the data set.
        folder: Folder with ``u.data``, ``ratings.dat`` or ``ratings.csv``, and the movies beside it.

    Raises:
        DataError: If a file is missing or malformed.
    """
    layout = _layout(folder)
    if layout is None:
        raise DataError(
            f"{folder}: expected u.data, ratings.dat or ratings.csv, found none of them.",
            "Name the folder that holds the unpacked files of a MovieLens release.",
        )
    ratings, movies = (folder / name for name in _FILES[layout])
    require(movies, "the movies of the release")
    table = _ratings_layout(layout).read(ratings)
    conform.require_seconds(ratings, table["timestamp"])
    events = conform.interactions(table)
    titles, genres = _read_100k_movies(movies) if layout == "100k" else _read_movies(movies, layout)
    items = titles.with_columns(_genre_columns(genres))
    return Source(
        name=key,
        interactions=events,
        items=conform.items(items, events["item"]),
        relations=conform.relations(),
        time=conform.time_kind(events),
        content_hash=conform.content_hash([ratings, movies]),
        warnings=conform.unlisted(movies, items["item"], events["item"]),
    )


def genre_column(genre: str) -> str:
    """The column of a genre; the releases' two spellings of the children's genre share one.

    >>> genre_column("Film-Noir"), genre_column("Children's"), genre_column("Children")
    ('genre_film_noir', 'genre_children', 'genre_children')
    """
    return _GENRE + re.sub(r"\W+", "_", genre.lower().removesuffix("'s")).strip("_")


def genre_flags(items: pl.DataFrame) -> list[str]:
    """The columns of genres: those whose name begins as :func:`genre_column` says and that hold only yes or no.

    Args:
        items: Items table of any source; tables of one's own may also have ``"0"`` for no.
    """
    named = [name for name in items.columns if name.startswith(_GENRE)]
    return [name for name in named if items[name].is_in(["", "0", "1"]).all()]


def genre_name(column: str) -> str:
    """The genre of a column in lower case.

    >>> genre_name("genre_film_noir")
    'film noir'
    """
    return column.removeprefix(_GENRE).replace("_", " ")


def _layout(folder: Path) -> str | None:
    return next((name for name, (ratings, _) in _FILES.items() if (folder / ratings).is_file()), None)


def _ratings_layout(layout: str) -> Delimited:
    if layout == "csv":
        return Delimited(_RATINGS, separator=",", header_names=_CSV_NAMES)
    return Delimited(_RATINGS, separator="::" if layout == "dat" else "\t", header=False)


def _read_100k_movies(path: Path) -> tuple[pl.DataFrame, pl.Series]:
    texts = ("title", "released", "released on video", "imdb")
    columns: dict[str, Kind] = {"item": "text"}
    columns.update(dict.fromkeys(texts, "optional text"))
    layout = Delimited(
        {**columns, **dict.fromkeys(GENRES, "integer")},
        separator="|",
        header=False,
        encoding="utf-8" if is_utf8(path) else "latin-1",
        unique="item",
    )
    movies = layout.read(path)
    # A title without a year, of which there is one, takes it from the release date (01-Jan-1995).
    year = pl.coalesce(_year(), pl.col("released").str.extract(r"(\d{4})$")).fill_null("")
    named = [pl.when(pl.col(genre) == 1).then(pl.lit(genre)) for genre in GENRES]
    genres = movies.select(pl.concat_list(named).list.drop_nulls()).to_series()
    return movies.select("item", "title", year=year), genres


def _read_movies(path: Path, layout: str) -> tuple[pl.DataFrame, pl.Series]:
    columns: dict[str, Kind] = {"item": "text", "title": "optional text", "genres": "text"}
    delimited = (
        Delimited(columns, separator=",", quoted=True, header_names=_CSV_NAMES, unique="item")
        if layout == "csv"
        # 1M is Latin-1 and 10M is UTF-8 under the same file name; Latin-1 accents are never valid UTF-8.
        else Delimited(
            columns,
            separator="::",
            header=False,
            encoding="utf-8" if is_utf8(path) else "latin-1",
            unique="item",
        )
    )
    movies = delimited.read(path)
    return movies.select("item", "title", year=_year().fill_null("")), movies["genres"].str.split("|")


def _year() -> pl.Expr:
    # A series may span years, as in "Planet Earth (2006-2007)"; the first counts.
    return pl.col("title").str.extract(r"\((\d{4})(?:[–-]\d{0,4})?\)\s*$")


def _genre_columns(genres: pl.Series) -> list[pl.Series]:
    occurring = set(genres.explode().drop_nulls()) - {_NO_GENRE}
    later = {"Children"} | (occurring - set(GENRES))
    ordered = [*GENRES, *sorted(later)]
    columns: dict[str, pl.Series] = {}
    for genre in (name for name in ordered if name in occurring):
        has = genres.list.contains(genre)
        name = genre_column(genre)
        columns[name] = (columns[name] | has if name in columns else has).alias(name)
    return [pl.select(pl.when(has).then(pl.lit("1")).otherwise(pl.lit("")).alias(name)).to_series()
            for name, has in columns.items()]  # fmt: skip
