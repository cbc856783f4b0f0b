import hashlib
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.data import conform
from common.data.schema import INTERACTIONS, ITEMS, RELATIONS
from common.errors import DataError


def events(times: dict[str, list[int]]) -> pl.DataFrame:
    rows = [(user, "i", time) for user, of_user in times.items() for time in of_user]
    return conform.interactions(pl.DataFrame(rows, schema=["user", "item", "timestamp"], orient="row"))


@given(st.dictionaries(st.sampled_from("abc"), st.lists(st.integers(0, 4), min_size=1, max_size=4), min_size=1))
def test_time_is_ordinal_where_a_loop_over_users_finds_positions(times: dict[str, list[int]]) -> None:
    def positions(of_user: list[int]) -> bool:
        return sorted(of_user) in (list(range(len(of_user))), list(range(1, len(of_user) + 1)))

    expected = "ordinal" if all(map(positions, times.values())) else "real"
    assert conform.time_kind(events(times)) == expected


def test_interactions_cut_fractions_and_know_no_rating() -> None:
    table = conform.interactions(pl.DataFrame({"item": ["i"], "user": ["u"], "timestamp": [1.9]}))
    assert table.schema == INTERACTIONS
    assert table.rows() == [("u", "i", 1, None)]


@pytest.mark.parametrize("finer", [1_000, 1_000_000])
def test_times_finer_than_seconds_are_refused_with_the_cure(finer: int) -> None:
    seconds = pl.Series("time", [0.0, -3.0, 1_700_000_000.5])
    conform.require_seconds(Path("train"), seconds)
    with pytest.raises(DataError, match="train, column 'time': expected Unix seconds, found 17000000005") as caught:
        conform.require_seconds(Path("train"), seconds * finer)
    assert "Divide milliseconds by 1,000" in caught.value.cure


def test_items_cover_what_occurs_and_keep_their_order() -> None:
    known = pl.DataFrame({"item": ["b", "a"], "size": ["L", None]})
    table = conform.items(known, pl.Series(["c", "a", "d", "c"]))
    assert table.columns == [*ITEMS, "size"]
    assert table["item"].to_list() == ["b", "a", "c", "d"]
    assert table["size"].to_list() == ["L", "", "", ""]


def test_items_without_a_row_are_counted_and_none_with_one_is_refused() -> None:
    listed = pl.Series(["b", "a"])
    assert conform.unlisted(Path("items.csv"), listed, pl.Series(["a", "b", "a"])) == {}
    warnings = conform.unlisted(Path("items.csv"), listed, pl.Series(["a", "x", "y", "x"]))
    what = "2 of 3 items of the interactions have no row, the first is 'x'."
    assert warnings == {"not-in-items.csv": what}
    with pytest.raises(DataError, match=r"items\.csv: expected a row .* such as '1\.0', found 'b' instead\.\nSpell"):
        conform.unlisted(Path("items.csv"), listed, pl.Series(["1.0", "2.0"]))


def test_a_text_is_the_description_where_there_is_no_other() -> None:
    assert conform.item_names(Path("items"), {"a": "item", "b": "text"}) == {"a": "item", "b": "description"}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["item", "text", "description"], "items, column 'text': expected an attribute under another name"),
        (["item", "raw_id"], "column 'raw_id': .* found 'raw_id', which has a meaning of its own"),
        (["item", "category_leaf"], "column 'category_leaf': .*\nRename that column"),
    ],
)
def test_names_under_which_an_attribute_would_be_lost_are_refused(names: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        conform.item_names(Path("items"), {name: name for name in names})


def test_two_columns_of_one_name_are_refused() -> None:
    with pytest.raises(DataError, match="column 'B': expected one column for 'brand', found 'b' as well"):
        conform.item_names(Path("items"), {"b": "brand", "B": "brand"})


def test_relations_lose_repeats_under_their_common_name() -> None:
    rows = [("a", "also_buy", "b"), ("a", "also_bought", "b"), ("a", "also_view", "b"), ("a", "fits", "b")]
    table = conform.relations(pl.DataFrame(rows, schema=RELATIONS, orient="row"))
    assert table.rows() == [("a", "complement", "b"), ("a", "substitute", "b"), ("a", "fits", "b")]


@pytest.mark.parametrize("parts", [[b"", b"ab"], [b"a", b"b"], [b"ab"]])
def test_content_hash_is_sha256_over_lengths_and_bytes(tmp_path: Path, parts: list[bytes]) -> None:
    paths = [tmp_path / str(index) for index in range(len(parts))]
    for path, part in zip(paths, parts, strict=True):
        path.write_bytes(part)
    expected = hashlib.sha256(b"".join(len(part).to_bytes(8, "big") + part for part in parts)).hexdigest()
    assert conform.content_hash(paths) == expected
