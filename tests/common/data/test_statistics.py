"""Statistics of the manifest against counts by hand."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.data.splits import build_sequences, leave_one_out
from common.data.statistics import describe, printed_warnings, tie_shares, tie_warnings, time_resolution
from tests.fixtures.histories import split_of

EVENTS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=40)


@given(EVENTS)
def test_a_stage_is_described_by_plain_counts(rows: list[tuple[int, int, int]]) -> None:
    events = pl.DataFrame(rows, schema=["user", "item", "timestamp"], orient="row")
    users, items = {row[0] for row in rows}, {row[1] for row in rows}
    stage = describe("raw", events, np.array([False, True, True, True, True]))
    assert (stage["users"], stage["items"], stage["interactions"]) == (len(users), len(items), len(rows))
    assert stage["density"] == pytest.approx(len(rows) / (len(users) * len(items)))
    assert stage["tied_events"] == len(rows) - len({(row[0], row[2]) for row in rows})
    assert stage["repeated_pairs"] == len(rows) - len({row[:2] for row in rows})
    assert stage["items_without_text"] == (0 in items)
    lengths = [sum(row[0] == user for row in rows) for user in users]
    assert stage["history_length"]["median"] == np.median(lengths)


def test_an_emptied_stage_is_described_too() -> None:
    events = pl.DataFrame(schema={"user": pl.Int32, "item": pl.Int32, "timestamp": pl.Int64})
    stage = describe("5-core", events, np.zeros(0, dtype=bool))
    assert (stage["users"], stage["interactions"], stage["density"]) == (0, 0, 0.0)


def test_ties_are_counted_within_users_only() -> None:
    split = split_of([[1, 2, 3, 4], [5, 6, 7]])
    split["sequences"]["times"][:] = 7
    ties = tie_shares(split, np.arange(7), np.arange(8))
    assert ties == {
        "tied_events": 5 / 7,
        "tied_test_targets": 1.0,
        "pairs": 5,
        "id_ascending": 1.0,
        "id_ascending_in_source": 1.0,
    }
    assert "100.0%" in tie_warnings(ties | {"pairs": 10})["tied-order"]


def test_the_order_of_the_source_shows_through_a_new_order() -> None:
    split = split_of([[4, 1, 3, 2]])
    split["sequences"]["times"][:] = 7
    ties = tie_shares(split, np.array([3, 0, 2, 1]), np.arange(5))
    assert ties["id_ascending"] == 1 / 3
    assert ties["id_ascending_in_source"] == 1.0


@pytest.mark.parametrize(
    ("share", "pairs", "warns"),
    [
        (None, 0, False),
        (0.451, 10_000, False),
        (0.549, 10_000, False),
        (0.44, 10_000, True),
        (0.6, 1_000, True),
        (0.6, 100, False),
        (0.0, 1, False),
    ],
)
def test_only_an_unfair_order_warns(share: float | None, pairs: int, warns: bool) -> None:
    assert bool(tie_warnings({"id_ascending": share, "pairs": pairs})) == warns


def test_ties_of_nobody_are_no_ties() -> None:
    empty = pl.Series([], dtype=pl.Int64).to_torch()
    ties = tie_shares(leave_one_out(build_sequences(empty, empty, empty, 0)), np.zeros(0, dtype=np.int64), np.arange(1))
    assert (ties["tied_events"], ties["id_ascending"]) == (0.0, None)


def test_a_difference_from_print_is_named() -> None:
    warnings = printed_warnings({"users": 4905, "items": 2420}, {"users": 4905, "items": 2419}, "The paper")
    assert warnings == {"printed-items": "The paper prints 2,420 items; this store has 2,419."}


def test_resolution_is_the_coarsest_unit() -> None:
    times = {"day": [0, 864000], "hour": [0, 7200], "minute": [60], "second": [60, 61]}
    assert [time_resolution(np.array(values), "real") for values in times.values()] == list(times)
    assert time_resolution(np.arange(3), "ordinal") == "position"
