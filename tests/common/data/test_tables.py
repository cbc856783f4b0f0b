from pathlib import Path
from typing import Literal

import polars as pl
import pytest

from common.data import tables
from common.errors import DataError
from tests.fixtures import tables as raw
from tests.fixtures.events import events


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet"])
@pytest.mark.parametrize("ids", ["user", "user_id"])
def test_every_format_and_spelling_reads_alike(
    tmp_path: Path, suffix: Literal["csv", "tsv", "parquet"], ids: Literal["user", "user_id"]
) -> None:
    source = tables.read("own", raw.write(tmp_path, suffix, ids))
    assert tables.matches(tmp_path)
    assert source.interactions.select("user", "item", "rating", "timestamp").rows() == events()
    third = source.items.row(2, named=True)
    assert third == {"item": "3", "title": 'Item 3, "new"', "description": "", "category": "", "brand": "", "size": "L"}
    assert set(source.items.row(14)[1:]) == {""}
    assert source.relations.rows() == [("1", "complement", "2"), ("2", "complement", "3")]


def test_items_relations_and_ratings_are_optional(tmp_path: Path) -> None:
    raw.frames()["interactions"].drop("rating").write_csv(tmp_path / "interactions.csv")
    source = tables.read("own", tmp_path)
    assert source.items.height == 15
    assert source.relations.is_empty()
    assert source.interactions["rating"].null_count() == len(events())


def test_parquet_takes_numbers_for_ids_and_dates_for_times(tmp_path: Path) -> None:
    frame = raw.frames()["interactions"].with_columns(
        pl.col("user", "item").cast(pl.Int64), timestamp=pl.Series([raw.date(time) for *_, time in events()])
    )
    frame.write_parquet(tmp_path / "interactions.parquet")
    source = tables.read("own", tmp_path)
    assert source.interactions.select("user", "item", "rating", "timestamp").rows() == events()


@pytest.mark.parametrize("first", [0, 1])
def test_positions_make_time_ordinal(tmp_path: Path, first: int) -> None:
    frame = raw.frames()["interactions"].sort("user", "timestamp")
    positions = pl.int_range(pl.len()).over("user") + first
    frame.with_columns(timestamp=positions).write_csv(tmp_path / "interactions.csv")
    assert tables.read("own", tmp_path).time == "ordinal"


def test_a_repeated_position_is_no_ordinal_time(tmp_path: Path) -> None:
    frame = raw.frames()["interactions"].sort("user", "timestamp")
    positions = pl.int_range(pl.len()).over("user")
    frame.with_columns(timestamp=positions - (positions == 1)).write_csv(tmp_path / "interactions.csv")
    assert tables.read("own", tmp_path).time == "real"


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_an_own_text_is_the_description(tmp_path: Path, suffix: Literal["csv", "parquet"]) -> None:
    items = raw.frames()["items"].with_columns(text="title").drop("title")
    raw.write(tmp_path, suffix)
    items.write_csv(tmp_path / "items.csv") if suffix == "csv" else items.write_parquet(tmp_path / "items.parquet")
    source = tables.read("own", tmp_path)
    assert source.items.columns == ["item", "title", "description", "category", "brand", "size"]
    assert source.items["description"].to_list() == [*items["text"], ""]


def test_a_name_that_is_taken_is_refused_with_file_and_column(tmp_path: Path) -> None:
    raw.write(tmp_path)
    (tmp_path / "items.csv").write_text("item,raw_id\n1,a\n")
    with pytest.raises(DataError, match=r"items\.csv, column 'raw_id': expected an attribute under another name"):
        tables.read("own", tmp_path)


def test_a_column_without_a_name_is_refused(tmp_path: Path) -> None:
    raw.write(tmp_path)
    (tmp_path / "items.csv").write_text(",item,title\n0,1,a\n")
    with pytest.raises(DataError, match=r"items\.csv: expected a name for every column"):
        tables.read("own", tmp_path)


def test_a_quoted_name_may_hold_the_separator(tmp_path: Path) -> None:
    raw.write(tmp_path)
    (tmp_path / "items.csv").write_text('item,title,"price, EUR"\n1,a,3\n')
    items = tables.read("own", tmp_path).items
    assert items.filter(pl.col("item") == "1")["price, EUR"].to_list() == ["3"]


def test_milliseconds_are_refused_with_the_cure(tmp_path: Path) -> None:
    frame = raw.frames()["interactions"].with_columns(pl.col("timestamp") * 1000)
    frame.write_csv(tmp_path / "interactions.csv")
    with pytest.raises(DataError, match="column 'timestamp': expected Unix seconds") as caught:
        tables.read("own", tmp_path)
    assert "1,000" in caught.value.cure


def test_a_quoted_line_break_does_not_shift_the_line_named(tmp_path: Path) -> None:
    raw.write(tmp_path)
    (tmp_path / "items.csv").write_text('item,title\n1,"two\nlines"\n2,b\n1,again\n')
    with pytest.raises(DataError, match=r"items\.csv, line 5, column 'item': .* found '1'"):
        tables.read("own", tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "interactions.csv",
            "user,item,timestamp\na,b,soon\n",
            "column 'timestamp': .* found 'soon'.\nWrite Unix seconds",
        ),
        ("interactions.csv", "user;item;timestamp\na;b;1\n", "line 1, column 'user': .* separated by commas"),
        ("interactions.csv", "user,item\na,b\n", "line 1, column 'timestamp': expected a header"),
        ("interactions.csv", "user,item,item,timestamp\na,b,c,1\n", "line 1, column 'item': expected one .* found 2"),
        (
            "interactions.csv",
            "user,user_id,item,timestamp\na,b,c,1\n",
            "'user': expected one .* found 'user_id' as well",
        ),
        (
            "items.csv",
            "item,color,color\n1,a,b\n",
            r"items\.csv, line 1, column 'color': expected one column .* found 2",
        ),
        (
            "items.csv",
            "item,item_id\n1,a\n",
            "line 1, column 'item': expected one column for 'item', found 'item_id' as well",
        ),
        ("interactions.csv", "user,item,timestamp\n", "expected at least one row, found none.\nAdd rows"),
        ("interactions.csv", "user,item,timestamp\na,b,1\na,,2\n", "line 3, column 'item': expected some text"),
        ("interactions.csv", "user,item,timestamp\na,b,1\na,b,2,3\n", "line 3: expected 3 columns .* found 4"),
        ("interactions.csv", 'user,item,timestamp\na,b,1\n"",b,2\n', "line 3, column 'user': expected some text"),
        ("items.csv", 'item,title\n1,a\n2,5" nails\n3,b\n', r"items\.csv, line 3: expected quotes that balance"),
        ("items.csv", "\nitem,title\n1,a\n", r"items\.csv, line 1, column 'item': expected a header"),
        ("items.csv", "item,title,color\n1,,\n2\n3,c,d\n", r"items\.csv, line 3: expected 3 columns .* found 1: '2'"),
        ("interactions.csv", "user,item,timestamp,note\na,b,1,\na,b,2\n", "line 3: expected 4 columns .* found 3"),
        ("items.csv", "item,title\n1,a\n2,b\n1,c\n", "line 4, column 'item': .* found '1'"),
        ("relations.csv", "head,tail\n1,2\n", "line 1, column 'relation'"),
        ("relations.csv", "", "found an empty file"),
    ],
)
def test_malformed_text_tables_are_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    raw.write(tmp_path)
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        tables.read("own", tmp_path)
    assert str(tmp_path / name) in caught.value.what


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (pl.col("user").alias("person"), None),
        (
            pl.lit("soon").alias("timestamp"),
            "column 'timestamp': expected a finite number or a date, found 'soon' in row 1",
        ),
        (
            pl.when(pl.col("item") != "3").then("item").alias("item"),
            "column 'item': expected some text, found None in row",
        ),
        (pl.lit("1").alias("item_id"), "column 'item': expected one column for 'item', found 'item_id' as well"),
        (pl.lit(float("inf")).alias("timestamp"), "found inf in row 1"),
        (
            pl.lit(True).alias("timestamp"),
            "column 'timestamp': expected text, numbers or dates, found values of type Boolean",
        ),
        (pl.concat_list("item").alias("item"), "column 'item': .* found values of type List"),
    ],
)
def test_malformed_parquet_is_named(tmp_path: Path, change: pl.Expr, message: str | None) -> None:
    frame = raw.frames()["interactions"].with_columns(change)
    frame = frame if message else frame.drop("user")
    frame.write_parquet(tmp_path / "interactions.parquet")
    with pytest.raises(DataError, match=message or r"column 'user': expected such a column, found columns item"):
        tables.read("own", tmp_path)


def test_repeated_items_in_parquet_are_named(tmp_path: Path) -> None:
    raw.write(tmp_path, "parquet")
    pl.DataFrame({"item": ["1", "2", "1"]}).write_parquet(tmp_path / "items.parquet")
    with pytest.raises(DataError, match=r"items\.parquet, column 'item': .* found '1' in row 3"):
        tables.read("own", tmp_path)


def test_items_spelt_otherwise_than_in_the_interactions_are_refused(tmp_path: Path) -> None:
    raw.write(tmp_path, "parquet")
    assert "1 of 15 items" in tables.read("own", tmp_path).warnings["not-in-items.parquet"]
    frame = raw.frames()["interactions"].with_columns(pl.col("item").cast(pl.Float64))
    frame.write_parquet(tmp_path / "interactions.parquet")
    with pytest.raises(DataError, match=r"items\.parquet: expected a row .* such as '\d+\.0', found '1' instead"):
        tables.read("own", tmp_path)


def test_truncated_parquet_is_named(tmp_path: Path) -> None:
    path = raw.write(tmp_path, "parquet") / "interactions.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"interactions\.parquet: expected a whole Parquet file"):
        tables.read("own", tmp_path)


def test_missing_and_ambiguous_tables_are_named(tmp_path: Path) -> None:
    assert not tables.matches(tmp_path)
    with pytest.raises(DataError, match=r"expected interactions\.csv, \.tsv or \.parquet, found none"):
        tables.read("own", tmp_path)
    raw.write(raw.write(tmp_path), "parquet")
    with pytest.raises(DataError, match=r"found interactions\.parquet, interactions\.csv"):
        tables.read("own", tmp_path)
