from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from common.data import movielens
from common.data.schema import INTERACTIONS, ITEMS
from common.errors import DataError
from tests.fixtures import movielens as raw
from tests.fixtures.events import events

WRITERS = [raw.write_100k, raw.write_1m, raw.write_10m, raw.write_csv]


@pytest.mark.parametrize("write", WRITERS)
def test_each_layout_yields_the_events_in_file_order(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    source = movielens.read("ml", write(tmp_path))
    assert movielens.matches(tmp_path)
    assert source.interactions.schema == INTERACTIONS
    assert source.interactions.select("user", "item", "rating", "timestamp").rows() == events()
    assert source.time == "real"
    assert source.relations.is_empty()


@pytest.mark.parametrize("write", WRITERS)
def test_each_layout_yields_the_same_items(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    items = movielens.read("ml", write(tmp_path)).items
    assert items.columns[: len(ITEMS)] == list(ITEMS)
    assert items["title"].to_list() == [title for _, title, _ in raw.movies()]
    assert items["year"].to_list()[:4] == ["1995", "1995", "1946", "1984"]
    for item, _, genres in raw.movies():
        if item != "4":
            row = items.row(by_predicate=pl.col("item") == item, named=True)
            has = {name for name in items.columns if name.startswith("genre_") and row[name] == "1"}
            assert has == {movielens.genre_column(genre) for genre in genres}


def test_100k_genres_stand_in_their_true_order_with_unknown_first(tmp_path: Path) -> None:
    raw.write_100k(tmp_path)
    lines = (tmp_path / "u.item").read_text("latin-1").splitlines()
    lines[4] = lines[4].rpartition("imdb.com/5|")[0] + "imdb.com/5|" + "|".join(["1", *["0"] * 18])
    (tmp_path / "u.item").write_text("\n".join(lines) + "\n", "latin-1")
    items = movielens.read("ml-100k", tmp_path).items
    genres = [name for name in items.columns if name.startswith("genre_")]
    occurring = [name for name in raw.GENRE_ORDER if name in {"unknown", *(g for _, _, gs in raw.movies() for g in gs)}]
    assert genres == [movielens.genre_column(name) for name in occurring]
    assert items["genre_unknown"].to_list() == ["", "", "", "", "1"] + [""] * 10


def test_no_genres_listed_is_no_genre(tmp_path: Path) -> None:
    items = movielens.read("ml", raw.write_csv(tmp_path)).items
    assert not any("listed" in name for name in items.columns)
    assert set(items.row(3)[ITEMS.len() + 1 :]) == {""}


def test_titles_without_year_take_the_release_year(tmp_path: Path) -> None:
    raw.write_100k(tmp_path)
    text = (tmp_path / "u.item").read_text("latin-1").replace("Movie 5 (1985)", "Movie 5")
    (tmp_path / "u.item").write_text(text, "latin-1")
    items = movielens.read("ml-100k", tmp_path).items
    assert items.row(4, named=True)["title"] == "Movie 5"
    assert items.row(4, named=True)["year"] == "1995"


def test_rated_movies_missing_from_the_list_get_empty_fields(tmp_path: Path) -> None:
    raw.write_1m(tmp_path)
    lines = (tmp_path / "movies.dat").read_text("latin-1").splitlines(keepends=True)
    (tmp_path / "movies.dat").write_text("".join(lines[:-1]), "latin-1")
    source = movielens.read("ml-1m", tmp_path)
    assert source.items["item"].to_list() == [str(number) for number in range(1, 16)]
    assert set(source.items.row(14)[1:]) == {""}
    assert "the first is '15'" in source.warnings["not-in-movies.dat"]


def test_content_hash_follows_the_bytes_of_every_file(tmp_path: Path) -> None:
    first = movielens.read("ml", raw.write_csv(tmp_path / "a")).content_hash
    assert movielens.read("other", raw.write_csv(tmp_path / "b")).content_hash == first
    movies = tmp_path / "b" / "movies.csv"
    movies.write_text(movies.read_text("utf-8").replace("Movie 9", "Movie 8"), "utf-8")
    assert movielens.read("ml", tmp_path / "b").content_hash != first


@pytest.mark.parametrize(
    ("write", "name", "line", "column", "found"),
    [
        (raw.write_100k, "u.data", "1\t2\t3", None, "found 3: '1\\t2\\t3'"),
        (raw.write_100k, "u.data", "1 2 3 4", None, "expected 4 columns separated by tabs, found 1"),
        (raw.write_100k, "u.data", "1\t2\t3\tsoon", "timestamp", "expected a finite number, found 'soon'"),
        (raw.write_100k, "u.data", "1\t2\t3\tnan", "timestamp", "found 'nan'"),
        (raw.write_100k, "u.data", "\t2\t3\t4", "user", "found ''"),
        (raw.write_1m, "ratings.dat", "1:2:3:4", None, "expected 4 columns separated by '::'"),
        (raw.write_1m, "movies.dat", "3::Twice::Drama", "item", "expected a value that no earlier line has, found '3'"),
        (raw.write_csv, "ratings.csv", "1,2,many,4", "rating", "found 'many'"),
        (raw.write_csv, "movies.csv", '3,"Twice, again",Drama', "item", "found '3'"),
    ],
)
def test_malformed_lines_are_named(
    tmp_path: Path, write: Callable[[Path], Path], name: str, line: str, column: str | None, found: str
) -> None:
    path = write(tmp_path) / name
    lines = path.read_text("latin-1").splitlines()
    path.write_text("\n".join([*lines[:7], line, *lines[7:]]) + "\n", "latin-1")
    # The repeated id is only known as such on its second line.
    where = len(lines[:7]) + 1
    with pytest.raises(DataError) as caught:
        movielens.read("ml", tmp_path)
    assert f"{path}, line {where}" in caught.value.what
    assert f"column {column!r}" in caught.value.what if column else "column '" not in caught.value.what
    assert found in caught.value.what
    assert caught.value.cure


def test_times_that_are_no_seconds_are_refused(tmp_path: Path) -> None:
    path = raw.write_100k(tmp_path) / "u.data"
    for time in ("1600000000000", "1e19"):
        path.write_text(f"1\t2\t3\t{time}\n", "latin-1")
        with pytest.raises(DataError, match=r"u\.data, column 'timestamp': expected Unix seconds"):
            movielens.read("ml", tmp_path)


def test_wrong_encoding_names_line_and_byte(tmp_path: Path) -> None:
    path = raw.write_csv(tmp_path) / "movies.csv"
    path.write_text(path.read_text("utf-8"), "latin-1")
    with pytest.raises(DataError, match=r"movies\.csv, line 2: expected utf-8 text, found byte 0xe9"):
        movielens.read("ml", tmp_path)


@pytest.mark.parametrize(("name", "found"), [("u.item", "no such file"), ("u.data", "found none of them")])
def test_missing_files_are_named(tmp_path: Path, name: str, found: str) -> None:
    (raw.write_100k(tmp_path) / name).unlink()
    with pytest.raises(DataError, match=found) as caught:
        movielens.read("ml-100k", tmp_path)
    assert name in caught.value.what


@pytest.mark.parametrize("name", ["u.data", "u.item"])
def test_empty_files_are_named(tmp_path: Path, name: str) -> None:
    (raw.write_100k(tmp_path) / name).write_bytes(b"")
    with pytest.raises(DataError, match=f"{name}: expected .*, found an empty file"):
        movielens.read("ml-100k", tmp_path)


def test_missing_column_names_the_header(tmp_path: Path) -> None:
    path = raw.write_csv(tmp_path) / "ratings.csv"
    path.write_text(path.read_text().replace("timestamp", "when", 1))
    with pytest.raises(DataError, match=r"line 1, column 'timestamp': expected a header with the columns userId"):
        movielens.read("ml", tmp_path)


def test_blank_lines_and_windows_line_ends_are_harmless(tmp_path: Path) -> None:
    path = raw.write_100k(tmp_path) / "u.data"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n") + b"\r\n\r\n")
    assert movielens.read("ml-100k", tmp_path).interactions.height == len(events())


def test_every_archive_has_an_address() -> None:
    assert all(archive.url.endswith(f"/{key}.zip") for key, archive in movielens.ARCHIVES.items())
    without = {key for key, archive in movielens.ARCHIVES.items() if len(archive.md5 or "") != 32}
    assert without == {"ml-latest-small"}


@pytest.mark.real_data
def test_ml_100k_has_its_published_counts(real_data: Path) -> None:
    source = movielens.read("ml-100k", real_data / "ml-100k")
    assert source.interactions.height == 100_000
    assert source.interactions.n_unique("user") == 943
    assert source.items.height == source.interactions.n_unique("item") == 1_682
    toy_story = source.items.row(0, named=True)
    assert (toy_story["title"], toy_story["year"]) == ("Toy Story (1995)", "1995")
    genres = [name for name in source.items.columns if name.startswith("genre_")]
    assert len(genres) == 19
    assert [name for name in genres if toy_story[name]] == ["genre_animation", "genre_children", "genre_comedy"]
