from pathlib import Path

import polars as pl
import pytest

from common.data import recbole
from common.errors import DataError
from tests.fixtures import recbole as raw
from tests.fixtures.events import events


def test_events_keep_times_and_ratings(tmp_path: Path) -> None:
    source = recbole.read("small", raw.write(tmp_path))
    assert recbole.matches(tmp_path)
    assert not recbole.matches(tmp_path.parent)
    expected = {(f"u{user}", f"i{item}", time, rating) for user, item, rating, time in events()}
    assert set(source.interactions.rows()) == expected
    assert source.time == "real"


def test_rating_is_optional(tmp_path: Path) -> None:
    source = recbole.read("small", raw.write(tmp_path, rating=False))
    assert source.interactions["rating"].null_count() == source.interactions.height


def test_positions_make_time_ordinal(tmp_path: Path) -> None:
    assert recbole.read("small", raw.write(tmp_path, ordinal=True)).time == "ordinal"


def test_items_get_the_names_of_the_schema(tmp_path: Path) -> None:
    items = recbole.read("small", raw.write(tmp_path)).items
    first = items.row(0, named=True)
    assert (first["item"], first["title"], first["category"]) == ("i1", 'Item 1 5" wide', "1")
    assert (first["year"], first["size"]) == ("1995", "L")
    assert (first["genre_drama"], first["genre_sci_fi"], first["genre_comedy"]) == ("1", "1", "")
    assert "price" not in items.columns
    assert items.filter(pl.col("item") == "i3")["title"].item() == ""
    assert items.filter(pl.col("item") == "i15")["title"].item() == ""


def with_items(folder: Path, header: str, *rows: str) -> Path:
    path = raw.write(folder) / "small.item"
    path.write_text("\n".join([header, *rows]) + "\n", "utf-8")
    return folder


def test_the_first_usual_name_counts_and_other_columns_stay_as_they_are(tmp_path: Path) -> None:
    header = "item_id:token\tname:token\ttitle:token_seq\tclass:token_seq\tgenre:token_seq\tcategories:token"
    items = recbole.read("small", with_items(tmp_path, header, "i1\tN\tT\tA B\tDrama\tC")).items
    first = {name: value for name, value in items.row(0, named=True).items() if value}
    assert first == {"item": "i1", "title": "T", "name": "N", "class": "A B", "genre_drama": "1", "category": "C"}


def test_items_of_another_spelling_are_refused_and_lacking_ones_counted(tmp_path: Path) -> None:
    source = recbole.read("small", raw.write(tmp_path))
    assert source.warnings == {
        "not-in-small.item": "1 of 15 items of the interactions have no row, the first is 'i15'."
    }
    with pytest.raises(DataError, match=r"small\.item: expected a row .* such as 'i\d+', found '1' instead"):
        recbole.read("small", with_items(tmp_path, "item_id:token\ttitle:token_seq", "1\tT"))


def test_genres_spelt_in_two_ways_share_a_column(tmp_path: Path) -> None:
    rows = ["i1\tSci-Fi Drama", "i2\tsci-fi", "i3\tDrama"]
    items = recbole.read("small", with_items(tmp_path, "item_id:token\tgenre:token_seq", *rows)).items
    assert [name for name in items.columns if name.startswith("genre_")] == ["genre_drama", "genre_sci_fi"]
    assert items["genre_sci_fi"].to_list()[:3] == ["1", "1", ""]


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"small\.item, column 'item': expected one column for 'item', found 'item_id'"):
        recbole.read("small", with_items(tmp_path, "item_id:token\titem:token", "i1\tx"))


def test_relations_get_the_names_of_the_suite(tmp_path: Path) -> None:
    relations = recbole.read("small", raw.write(tmp_path)).relations
    assert dict(relations["relation"].value_counts().rows()) == {"complement": 14, "substitute": 14, "made_of": 1}
    assert ("i1", "complement", "i2") in relations.rows()
    assert ("i2", "substitute", "i1") in relations.rows()


def test_links_map_entities_to_items_and_leave_the_others_out(tmp_path: Path) -> None:
    plain = recbole.read("small", raw.write(tmp_path / "plain")).relations
    linked = recbole.read("small", raw.write(tmp_path / "linked", link=True)).relations
    assert set(linked.rows()) == {row for row in plain.rows() if row[1] != "made_of"}


def test_content_hash_covers_the_graph(tmp_path: Path) -> None:
    first = recbole.read("small", raw.write(tmp_path)).content_hash
    graph = tmp_path / "small.kg"
    graph.write_text(graph.read_text().replace("i1\talso_buy\ti2", "i1\talso_buy\ti3", 1))
    assert recbole.read("small", tmp_path).content_hash != first


@pytest.mark.parametrize(
    ("suffix", "old", "new", "message"),
    [
        ("inter", "user_id:token", "user_id", r"line 1, column 'user_id': expected name:type"),
        ("inter", "timestamp:float", "time:float", r"line 1, column 'timestamp:token': expected a header"),
        (
            "inter",
            "rating:float",
            "item_id:token",
            r"small\.inter, line 1, column 'item_id:token': expected one column",
        ),
        ("item", "price:float", "size:float", r"small\.item, line 1, column 'size:token': expected one column 'size'"),
        ("inter", "\t11", "\tsoon", r"line 2, column 'timestamp': expected a finite number, found 'soon"),
        ("inter", ".0\t", "000000.0\t", r"small\.inter, column 'timestamp': expected Unix seconds"),
        ("inter", "\ti", " i", r"line 1|line 2"),
        ("item", "\ni2\t", "\ni1\t", r"line 3, column 'item_id': expected a value that no earlier line has"),
        ("kg", "\talso_view", " also_view", r"line 3: expected 3 columns separated by tabs, found 2"),
    ],
)
def test_malformed_files_are_named(tmp_path: Path, suffix: str, old: str, new: str, message: str) -> None:
    path = raw.write(tmp_path) / f"small.{suffix}"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(DataError, match=message) as caught:
        recbole.read("small", tmp_path)
    assert str(path) in caught.value.what


def test_two_data_sets_in_one_folder_are_refused(tmp_path: Path) -> None:
    raw.write(raw.write(tmp_path), "other")
    with pytest.raises(DataError, match=r"expected one \.inter file, found other\.inter, small\.inter"):
        recbole.read("small", tmp_path)


@pytest.mark.real_data
def test_beauty_has_its_published_counts(real_data: Path) -> None:
    source = recbole.read("amazon-beauty", real_data / "recbole" / "amazon-beauty")
    events = source.interactions
    assert (events.n_unique("user"), events.n_unique("item"), events.height) == (22_363, 12_101, 198_502)
    assert source.items.height == 12_101
    assert source.items.filter(pl.col("title") != "").height == 12_094
    assert source.relations.height == 394_695
    assert set(source.relations["relation"]) == {"complement", "substitute"}


@pytest.mark.real_data
def test_video_games_has_its_published_counts_and_ordinal_time(real_data: Path) -> None:
    source = recbole.read("amazon-games", real_data / "recbole" / "amazon-videogames-2018")
    events = source.interactions
    assert (events.n_unique("user"), events.n_unique("item"), events.height) == (50_546, 16_859, 452_989)
    assert source.items.filter(pl.col("title") != "").height == 16_859
    assert source.time == "ordinal"
