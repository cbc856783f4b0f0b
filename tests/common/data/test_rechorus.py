from pathlib import Path

import polars as pl
import pytest

from common.data import rechorus
from common.errors import DataError
from tests.fixtures import rechorus as raw


def rows(path: Path) -> list[list[str]]:
    return [line.split("\t") for line in path.read_text().splitlines()[1:]]


def test_split_and_negatives_are_kept_as_shipped(tmp_path: Path) -> None:
    source = rechorus.read("small", raw.write(tmp_path))
    assert rechorus.matches(tmp_path)
    assert source.split is not None
    train = source.interactions.select("user", "item", "timestamp").rows()
    assert train == [(u, i, int(t)) for u, i, t in rows(tmp_path / "train.csv")]
    for part, table, negatives in (
        ("dev", source.split.val, source.split.val_negatives),
        ("test", source.split.test, source.split.test_negatives),
    ):
        shipped = rows(tmp_path / f"{part}.csv")
        assert table.rows() == [(u, i, int(t)) for u, i, t, _ in shipped]
        assert negatives == [n.strip("[]").split(", ") for *_, n in shipped]
    assert any(len(set(negatives)) < raw.NUM_NEGATIVES for negatives in source.split.test_negatives)


def test_attributes_and_relations_come_by_name(tmp_path: Path) -> None:
    source = rechorus.read("small", raw.write(tmp_path))
    item = source.items.row(by_predicate=pl.col("item") == "5", named=True)
    assert (item["category"], item["brand"], item["size"]) == ("2", "3", "2")
    bare = source.items.row(by_predicate=pl.col("item") == "7", named=True)
    assert (bare["category"], bare["brand"], bare["size"]) == ("", "", "")
    triplets = source.relations.filter(pl.col("head") == "5").rows()
    assert triplets == [("5", "complement", "6"), ("5", "complement", "10"), ("5", "substitute", "8")]
    assert source.relations.filter(pl.col("head") == "7").is_empty()


def test_texts_become_titles_of_the_right_items(tmp_path: Path) -> None:
    items = rechorus.read("small", raw.write(tmp_path)).items
    assert items["item"].to_list() == [str(item) for item in range(15, 0, -1)]
    assert items["title"].to_list() == [f'Text of {item}, 5" wide' for item in range(15, 0, -1)]


def test_texts_of_items_without_meta_are_kept_if_they_occur(tmp_path: Path) -> None:
    folder = raw.write(tmp_path)
    meta, index, texts = folder / "item_meta.csv", folder / "Small.item2index", folder / "Small.text"
    kept = [line for line in meta.read_text().splitlines(keepends=True) if not line.startswith("9\t")]
    meta.write_text("".join(kept))
    index.write_text(f"{index.read_text()}B099\t99\n")
    texts.write_text(f"{texts.read_text()}B099\tNever bought\n")
    items = rechorus.read("small", folder).items
    item = items.row(by_predicate=pl.col("item") == "9", named=True)
    assert (item["title"], item["raw_id"], item["brand"]) == ('Text of 9, 5" wide', "B009", "")
    assert "99" not in items["item"].to_list()


def test_items_without_text_or_meta_are_counted(tmp_path: Path) -> None:
    folder = raw.write(tmp_path)
    assert rechorus.read("small", folder).warnings == {}
    for name in ("item_meta.csv", "Small.text"):
        lines = (folder / name).read_text().splitlines(keepends=True)
        (folder / name).write_text("".join(lines[:1] + lines[2:]))
    assert set(rechorus.read("small", folder).warnings) == {"not-in-item_meta.csv", "not-in-Small.text"}


def test_folder_without_negatives_meta_and_texts(tmp_path: Path) -> None:
    source = rechorus.read("small", raw.write(tmp_path, negatives=False, meta=False, texts=False))
    assert source.split is not None
    assert (source.split.val_negatives, source.split.test_negatives) == ([], [])
    assert source.relations.is_empty()
    assert set(source.items["item"]) == {str(item) for item in range(1, 16)}


def test_texts_without_meta_name_the_items(tmp_path: Path) -> None:
    items = rechorus.read("small", raw.write(tmp_path, meta=False)).items
    assert items.row(by_predicate=pl.col("item") == "9", named=True)["title"].startswith("Text of 9,")


def test_comma_separated_folder_reads_alike(tmp_path: Path) -> None:
    tabs = rechorus.read("small", raw.write(tmp_path / "tabs"))
    commas = rechorus.read("small", raw.write(tmp_path / "commas", separator=","))
    assert commas.interactions.equals(tabs.interactions)
    assert commas.items.equals(tabs.items)
    assert commas.relations.equals(tabs.relations)
    assert commas.split is not None
    assert tabs.split is not None
    assert commas.split.test_negatives == tabs.split.test_negatives


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("dev.csv", "[", "{", r"dev\.csv, line 2, column 'neg_items': expected a list of item ids"),
        ("dev.csv", "neg_items", "negatives\tneg_items", r"dev\.csv, line 2: expected 5 columns .* found 4"),
        ("dev.csv", "\n2\t", "\n1\t", r"dev\.csv, line 3, column 'user_id': expected a value that no .* found '1'"),
        ("test.csv", "]\n3", ", 1]\n3", r"test\.csv, line 3, column 'neg_items': expected 5 ids .* found 6"),
        ("train.csv", "time", "day", r"train\.csv, line 1, column 'time': expected a header"),
        ("train.csv", "\t11", "\tx11", r"train\.csv, line 2, column 'time': expected a finite number, found 'x11"),
        ("train.csv", "\t11", "\t11000", r"train\.csv, column 'time': expected Unix seconds"),
        ("test.csv", "\t11", "\t11000", r"test\.csv, column 'time': expected Unix seconds"),
        ("item_meta.csv", "\n14\t", "\n15\t", r"item_meta\.csv, line 3, column 'item_id': .* found '15'"),
        ("item_meta.csv", "[9, ", "[9, B0", r"item_meta\.csv, line 9, column 'r_complement': expected a list"),
        ("item_meta.csv", "i_brand", "i_category", r"item_meta\.csv, line 1, column 'i_category': expected one column"),
        ("item_meta.csv", "i_Size", "i_BRAND", r"item_meta\.csv, column 'i_BRAND': .* found 'i_brand' as well"),
        ("item_meta.csv", "i_Size", "i_title", r"item_meta\.csv, column 'i_title': .* beside the texts of Small\.text"),
        ("Small.text", "\nB014", "\nB015", r"Small\.text, line 3, column 'id': .* found 'B015'"),
    ],
)
def test_malformed_files_are_named(tmp_path: Path, name: str, old: str, new: str, message: str) -> None:
    path = raw.write(tmp_path) / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(DataError, match=message):
        rechorus.read("small", tmp_path)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [("item_meta.csv", "\n", "\nx"), ("Small.item2index", "\t", "\tx"), ("Small.text", "\n", "\nx")],
)
def test_files_of_other_items_are_refused(tmp_path: Path, name: str, old: str, new: str) -> None:
    path = raw.write(tmp_path) / name
    path.write_text(path.read_text().rstrip("\n").replace(old, new))
    with pytest.raises(DataError, match=f"{name}: expected a row for items of the interactions"):
        rechorus.read("small", tmp_path)


@pytest.mark.parametrize("suffix", ["text", "item2index"])
def test_one_of_several_texts_is_not_chosen(tmp_path: Path, suffix: str) -> None:
    text = (raw.write(tmp_path) / f"Small.{suffix}").read_text()
    (tmp_path / f"Large.{suffix}").write_text(text)
    with pytest.raises(DataError, match=f"one file .*, found Large.{suffix}, Small.{suffix}.\nKeep one"):
        rechorus.read("small", tmp_path)


def test_missing_part_is_named(tmp_path: Path) -> None:
    (raw.write(tmp_path) / "dev.csv").unlink()
    assert not rechorus.matches(tmp_path)
    with pytest.raises(DataError, match=r"dev\.csv: expected the dev part of a split, found no such file"):
        rechorus.read("small", tmp_path)


@pytest.mark.real_data
def test_office_has_its_published_counts(real_data: Path) -> None:
    source = rechorus.read("amazon-office", real_data / "rechorus" / "Office")
    assert source.split is not None
    parts = [source.interactions, source.split.val, source.split.test]
    assert [len(part) for part in parts] == [43_448, 4_905, 4_905]
    assert pl.concat([part["user"] for part in parts]).n_unique() == 4_905
    assert source.items.height == 2_420
    assert dict(source.relations["relation"].value_counts().rows()) == {"complement": 38_071, "substitute": 18_345}
    assert source.items.filter(pl.col("category") != "").height == 2_351
    assert source.items.filter(pl.col("brand") != "").height == 1_939
    assert {len(negatives) for negatives in source.split.val_negatives + source.split.test_negatives} == {99}
    assert source.time == "real"
    title = source.items.row(by_predicate=pl.col("item") == "6", named=True)["title"]
    assert title == "HP 12C Financial Calculator Scientific HP"
