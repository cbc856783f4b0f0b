import gzip
import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from common.data import amazon
from common.errors import DataError
from tests.fixtures import amazon as raw
from tests.fixtures.events import events

Writer = Callable[[Path], tuple[Path, Path]]
WRITERS: list[Writer] = [raw.write_2014, raw.write_2018, raw.write_2023]


def rewrite(path: Path, line: int, text: str) -> None:
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    lines[line - 1] = text
    with gzip.open(path, "wt") as stream:
        stream.write("\n".join(lines) + "\n")


@pytest.mark.parametrize("write", WRITERS)
def test_each_dialect_yields_the_same_events(tmp_path: Path, write: Writer) -> None:
    write(tmp_path)
    source = amazon.read("amazon", tmp_path)
    expected = [(f"A{user}", raw.asin(item), time, rating) for user, item, rating, time in events()]
    assert source.interactions.rows() == expected
    assert source.time == "real"


@pytest.mark.parametrize("write", WRITERS)
def test_each_dialect_yields_the_fields_of_items(tmp_path: Path, write: Writer) -> None:
    write(tmp_path)
    items = amazon.read("amazon", tmp_path).items
    fifth = items.row(by_predicate=pl.col("item") == raw.asin("5"), named=True)
    assert fifth["title"] in ("It's product 5", "Product 5")
    assert (fifth["description"], fifth["first_paragraph"]) in (('A "good" one',) * 2, ("One. Two.", "One."))
    assert (fifth["brand"], fifth["category"]) == ("Brand 2", "Shelf 1")
    assert fifth["category_leaf"] in ("Leaf 5", "Leaf", "Shelf 1")
    assert sorted(items["item"]) == [raw.asin(str(number)) for number in range(1, 16)]


@pytest.mark.parametrize("write", [raw.write_2014, raw.write_2018])
def test_relations_run_between_reviewed_items(tmp_path: Path, write: Writer) -> None:
    write(tmp_path)
    relations = amazon.read("amazon", tmp_path).relations
    bought, viewed = (tails[0] for tails in raw.related("5"))
    rows = relations.filter(pl.col("head") == raw.asin("5")).rows()
    assert rows == [(raw.asin("5"), "complement", bought), (raw.asin("5"), "substitute", viewed)]
    assert set(relations["tail"]) <= {raw.asin(str(number)) for number in range(1, 16)}


def test_2014_items_without_fields_and_with_fields_in_another_order(tmp_path: Path) -> None:
    raw.write_2014(tmp_path)
    items = amazon.read("amazon", tmp_path).items
    assert set(items.row(by_predicate=pl.col("item") == raw.asin("2"))[1:]) == {""}
    assert items.row(by_predicate=pl.col("item") == raw.asin("3"), named=True)["title"] == "Late id"


def test_2014_literals_run_no_code(tmp_path: Path) -> None:
    _, metadata = raw.write_2014(tmp_path)
    rewrite(metadata, 4, f"{{'asin': '{raw.asin('4')}', 'title': print('run')}}")
    with pytest.raises(
        DataError, match=r"meta_Office_Products\.json\.gz, line 4: expected one record .* \(malformed node"
    ):
        amazon.read("amazon", tmp_path)


def test_2018_first_description_of_a_product_counts(tmp_path: Path) -> None:
    raw.write_2018(tmp_path)
    items = amazon.read("amazon", tmp_path).items
    assert items.filter(pl.col("item") == raw.asin("1"))["title"].to_list() == ["Product 1"]


def test_half_surrogates_in_titles_are_replaced(tmp_path: Path) -> None:
    _, metadata = raw.write_2018(tmp_path)
    rewrite(metadata, 4, json.dumps({"asin": raw.asin("4"), "title": "Half \ud83d"}))
    items = amazon.read("amazon", tmp_path).items
    assert items.filter(pl.col("item") == raw.asin("4"))["title"].item() == "Half ?"


def test_metadata_are_optional_and_gzip_too(tmp_path: Path) -> None:
    reviews, metadata = raw.write_2018(tmp_path)
    (tmp_path / "Plain.json").write_bytes(gzip.decompress(reviews.read_bytes()))
    for packed in (reviews, metadata):
        packed.unlink()
    source = amazon.read("amazon", tmp_path)
    assert source.interactions.height == len(events())
    assert source.items.height == 15
    assert source.relations.is_empty()


def test_blocks_of_lines_join_without_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw.write_2018(tmp_path)
    whole = amazon.read("amazon", tmp_path)
    monkeypatch.setattr(amazon, "_BLOCK", 500)
    blocks = amazon.read("amazon", tmp_path)
    assert blocks.interactions.equals(whole.interactions)
    assert blocks.items.equals(whole.items)


@pytest.mark.parametrize("write", WRITERS)
def test_folders_are_recognised(tmp_path: Path, write: Writer) -> None:
    assert not amazon.matches(tmp_path)
    write(tmp_path)
    assert amazon.matches(tmp_path)


def test_two_categories_in_one_folder_are_refused(tmp_path: Path) -> None:
    raw.write_2014(tmp_path)
    raw.write_2018(tmp_path)
    assert amazon.matches(tmp_path)
    with pytest.raises(DataError, match=r"expected one file of reviews .* found Video_Games\.json\.gz, reviews_Office"):
        amazon.read("amazon", tmp_path)


def test_json_lines_of_something_else_do_not_match(tmp_path: Path) -> None:
    (tmp_path / "notes.jsonl").write_text('{"note": 1}\n')
    assert not amazon.matches(tmp_path)
    with pytest.raises(DataError, match=r"line 1: expected a review with reviewerID"):
        amazon.read("amazon", tmp_path)


@pytest.mark.parametrize("block", [1 << 26, 300])
@pytest.mark.parametrize(
    ("change", "column", "found"),
    [
        ({"unixReviewTime": "soon"}, "unixReviewTime", "expected a whole number of 64 bits, found 'soon'"),
        (
            {"unixReviewTime": 10**20},
            "unixReviewTime",
            "expected a whole number of 64 bits, found 100000000000000000000",
        ),
        ({"overall": 10**400, "unixReviewTime": None}, "overall", "expected a number, found 1000"),
        ({"unixReviewTime": None}, "unixReviewTime", "found None"),
        ({"overall": "five"}, "overall", "expected a number, found 'five'"),
        ({"asin": None}, "asin", "expected some text, found None"),
        ({"asin": ""}, "asin", "expected some text, found ''"),
        ({"reviewerID": ""}, "reviewerID", "expected some text, found ''"),
    ],
)
def test_malformed_reviews_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, object], column: str, found: str, block: int
) -> None:
    monkeypatch.setattr(amazon, "_BLOCK", block)
    reviews, _ = raw.write_2018(tmp_path)
    record = {"reviewerID": "A1", "asin": "B1", "overall": 5.0, "unixReviewTime": 1}
    rewrite(reviews, 9, json.dumps(record | change))
    with pytest.raises(DataError) as caught:
        amazon.read("amazon", tmp_path)
    assert f"Video_Games.json.gz, line 9, column {column!r}" in caught.value.what
    assert found in caught.value.what


def test_times_that_are_no_seconds_are_refused(tmp_path: Path) -> None:
    reviews, _ = raw.write_2018(tmp_path)
    record = {"reviewerID": "A1", "asin": "B1", "overall": 5.0, "unixReviewTime": 1_600_000_000_000}
    rewrite(reviews, 9, json.dumps(record))
    with pytest.raises(DataError, match="column 'unixReviewTime': expected Unix seconds"):
        amazon.read("amazon", tmp_path)


def test_times_in_a_unit_that_is_too_long_are_a_warning(tmp_path: Path) -> None:
    reviews, _ = raw.write_2023(tmp_path)
    record = {"user_id": "A1", "parent_asin": raw.asin("1"), "rating": 5.0, "timestamp": 1_600_000_000}
    assert amazon.read("amazon", tmp_path).warnings == {}
    with gzip.open(reviews, "wt") as stream:
        stream.write(json.dumps(record) + "\n")
    assert "latest review is of 1970-01-19" in amazon.read("amazon", tmp_path).warnings["early-times"]


@pytest.mark.parametrize("text", ['{"reviewerID": "A1", "asi', "A1,B1,5.0,1", "[1, 2]"])
def test_lines_that_are_no_record_are_named(tmp_path: Path, text: str) -> None:
    reviews, _ = raw.write_2014(tmp_path)
    rewrite(reviews, 3, text)
    with pytest.raises(DataError, match="line 3: expected one record as an object in braces"):
        amazon.read("amazon", tmp_path)


def test_missing_field_is_named(tmp_path: Path) -> None:
    reviews, _ = raw.write_2014(tmp_path)
    rewrite(reviews, 2, '{"reviewerID": "A1", "asin": "B1", "overall": 5.0}')
    with pytest.raises(DataError, match=r"line 2, column 'unixReviewTime': .* found no such field"):
        amazon.read("amazon", tmp_path)


@pytest.mark.parametrize("which", [0, 1])
def test_truncated_gzip_is_named_with_its_cure(tmp_path: Path, which: int) -> None:
    paths = raw.write_2014(tmp_path)
    content = paths[which].read_bytes()
    paths[which].write_bytes(content[: len(content) // 2])
    assert amazon.matches(tmp_path)
    with pytest.raises(DataError, match="expected a whole gzip file, found damage") as caught:
        amazon.read("amazon", tmp_path)
    assert str(paths[which]) in caught.value.what
    assert "fetch it again" in caught.value.cure


def test_plain_text_under_a_gzip_name_is_named(tmp_path: Path) -> None:
    path = tmp_path / "Office.json.gz"
    path.write_text("<html>Not found</html>")
    with pytest.raises(DataError, match="expected a whole gzip file"):
        amazon.read("amazon", tmp_path)


def test_empty_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "empty.json"
    path.touch()
    with pytest.raises(DataError, match=r"empty\.json: expected a file of reviews, found an empty file"):
        amazon.read("amazon", tmp_path)
    with gzip.open(path.rename(tmp_path / "void.json.gz"), "wb"):
        pass
    with pytest.raises(DataError, match="expected at least one review, found none"):
        amazon.read("amazon", tmp_path)


def test_metadata_of_another_category_are_refused(tmp_path: Path) -> None:
    _, metadata = raw.write_2018(tmp_path)
    with gzip.open(metadata, "wt") as stream:
        stream.write('{"asin": "B777777777", "title": "Elsewhere"}\n')
    with pytest.raises(DataError, match="expected metadata of products that are reviewed, found none"):
        amazon.read("amazon", tmp_path)


def test_reviewed_products_without_metadata_are_counted(tmp_path: Path) -> None:
    _, metadata = raw.write_2018(tmp_path)
    assert amazon.read("amazon", tmp_path).warnings == {}
    with gzip.open(metadata, "wt") as stream:
        stream.write(json.dumps({"asin": raw.asin("4"), "title": "Alone"}) + "\n")
    assert "14 of 15 items" in amazon.read("amazon", tmp_path).warnings[f"not-in-{metadata.name}"]


def test_addresses_take_the_category() -> None:
    reviews, metadata = amazon.URLS["2014-5core"]
    assert reviews.format(category="Beauty").endswith("/categoryFiles/reviews_Beauty_5.json.gz")
    assert metadata.format(category="Beauty").endswith("/categoryFiles/meta_Beauty.json.gz")
