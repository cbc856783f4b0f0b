"""Filters against loops that anyone can check by eye."""

from collections import Counter

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from common.data.filters import RepeatRule, drop_repeats, k_core, keep_above, min_count

Row = tuple[int, int, int, float | None]
ROWS = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 9), st.sampled_from([1.0, 2.0, 3.0, 5.0, None])),
    max_size=60,
)


def table(rows: list[Row]) -> pl.DataFrame:
    schema = {"user": pl.Int32, "item": pl.Int32, "timestamp": pl.Int64, "rating": pl.Float32}
    return pl.DataFrame(rows, schema=schema, orient="row").with_row_index("row")


def kept(events: pl.DataFrame) -> list[int]:
    return events["row"].to_list()


def frequent(rows: list[tuple[int, Row]], k: int, counted: list[tuple[int, Row]]) -> list[tuple[int, Row]]:
    users, items = (Counter(row[column] for _, row in counted) for column in (0, 1))
    return [(place, row) for place, row in rows if users[row[0]] >= k and items[row[1]] >= k]


@given(ROWS, st.integers(1, 4))
def test_k_core_is_the_fixed_point_of_a_naive_loop(rows: list[Row], k: int) -> None:
    remaining = list(enumerate(rows))
    while len(after := frequent(remaining, k, remaining)) < len(remaining):
        remaining = after
    assert kept(k_core(table(rows), k)) == [place for place, _ in remaining]


@given(ROWS, st.integers(1, 4))
def test_k_core_leaves_a_k_core_alone(rows: list[Row], k: int) -> None:
    once = k_core(table(rows), k)
    assert k_core(once, k).equals(once)


@given(ROWS, st.integers(1, 4))
def test_min_count_is_one_pass_over_raw_counts(rows: list[Row], k: int) -> None:
    numbered = list(enumerate(rows))
    assert kept(min_count(table(rows), k)) == [place for place, _ in frequent(numbered, k, numbered)]


@given(ROWS, st.integers(1, 4))
def test_low_ratings_are_kept_but_not_counted(rows: list[Row], k: int) -> None:
    numbered = list(enumerate(rows))
    counted = [(place, row) for place, row in numbered if row[3] is None or row[3] >= 3]
    assert kept(min_count(table(rows), k, 3.0)) == [place for place, _ in frequent(numbered, k, counted)]


@given(ROWS, st.sampled_from(["keep", "first", "last"]))
def test_repeats_stay_as_the_rule_says(rows: list[Row], rule: RepeatRule) -> None:
    ordered = sorted(enumerate(rows), key=lambda entry: (entry[1][2], entry[0]), reverse=rule == "last")
    chosen: dict[tuple[int, int], int] = {}
    for place, row in ordered:
        chosen.setdefault(row[:2], place)
    expected = list(range(len(rows))) if rule == "keep" else sorted(chosen.values())
    assert kept(drop_repeats(table(rows), rule)) == expected


def test_keep_above_drops_the_threshold_and_the_unrated() -> None:
    assert kept(keep_above(table([(0, 0, 0, 3.0), (0, 1, 0, 4.0), (0, 2, 0, None)]), 3.0)) == [1]
