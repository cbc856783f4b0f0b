"""Triplets and link rates against loops over pairs."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.data.graph import HISTORY, count_triplets, link_rates, restrict, strangers, training_targets, value_ids
from common.errors import DataError
from tests.fixtures.histories import random_histories, split_of

EDGES = st.lists(st.tuples(st.integers(1, 6), st.sampled_from(["x", "y"]), st.integers(1, 6)), max_size=30)


@given(EDGES)
def test_edges_are_restricted_distinct_and_without_loops(edges: list[tuple[int, str, int]]) -> None:
    relations = pl.DataFrame(
        [(str(head), name, str(tail)) for head, name, tail in edges], schema=["head", "relation", "tail"], orient="row"
    ).cast(pl.String)
    kept = restrict(relations, pl.Series(["1", "2", "4"]))
    ids = {1: 1, 2: 2, 4: 3}
    expected = {(ids[h], r, ids[t]) for h, r, t in edges if h in ids and t in ids and h != t}
    assert kept.rows() == sorted(expected, key=lambda edge: (edge[1], edge[0], edge[2]))


def test_triplets_with_unknown_items_are_counted_and_the_first_is_named() -> None:
    edges = {"head": ["1", "1", "9"], "relation": ["x", "x", "y"], "tail": ["2", "7", "8"]}
    assert strangers(pl.DataFrame(edges), pl.Series(["1", "2"])) == {
        "unknown-relation-items": "2 triplets name an item that is in no table, the first is '7'."
    }
    assert strangers(pl.DataFrame(edges), pl.Series(["1", "2", "7", "8", "9"])) == {}


def test_triplets_count_edges_and_known_values() -> None:
    edges = pl.DataFrame({"head": [1, 2, 3], "relation": ["x", "x", "y"], "tail": [2, 3, 1]})
    attributes = pl.DataFrame({"brand": ["a", "", "a"], "year": ["", "", ""]})
    assert count_triplets(edges, attributes) == {"x": 2, "y": 1, "brand": 2}


def test_a_relation_with_the_name_of_an_attribute_is_refused() -> None:
    edges = pl.DataFrame({"head": [1], "relation": ["brand"], "tail": [2]})
    with pytest.raises(DataError, match="'brand' is both a relation and a column"):
        count_triplets(edges, pl.DataFrame({"brand": ["a", ""]}))
    # A column in which nothing stands is no attribute.
    assert count_triplets(edges, pl.DataFrame({"brand": ["", ""]})) == {"brand": 1}


def test_link_rates_equal_a_loop_over_pairs() -> None:
    histories = random_histories(12, 9, 40)
    split = split_of(histories)
    rng = np.random.default_rng(0)
    edges = {(int(h), int(t)) for h, t in rng.integers(1, 10, (25, 2)) if h != t}
    relations = pl.DataFrame([(h, "x", t) for h, t in edges], schema=["head", "relation", "tail"], orient="row")
    linked = [
        (item, history[-1]) in edges for history in histories if len(history) > 2 for item in history[:-1][-HISTORY:]
    ]
    rates = link_rates(split["sequences"], split["test"]["position"].numpy(), relations, {})
    assert rates == {"x": np.mean(linked), "any_relation": np.mean(linked), "any": np.mean(linked)}


def test_a_shared_value_links_and_an_unknown_one_does_not() -> None:
    split = split_of([[1, 2, 3], [4, 5, 6]])
    values = value_ids(pl.Series(["b", "a", "b", "", "", ""]))
    assert values.tolist() == [0, 2, 1, 2, 0, 0, 0]
    relations = pl.DataFrame({"head": [2], "relation": ["x"], "tail": [3]})
    rates = link_rates(split["sequences"], split["test"]["position"].numpy(), relations, {"brand": values})
    assert rates == {"x": 0.25, "any_relation": 0.25, "brand": 0.25, "any": 0.5}


@pytest.mark.parametrize("seed", [0, -1])
def test_training_targets_have_a_history_and_are_training_events(seed: int) -> None:
    histories = random_histories(10, 9, 8)
    split = split_of(histories)
    offsets, ends = split["sequences"]["offsets"].tolist(), split["train_end"].tolist()
    expected = [place for user in range(1, 11) for place in range(offsets[user] + 1, ends[user])]
    assert training_targets(split, 10_000, seed).tolist() == expected
    sample = training_targets(split, 5, seed)
    assert len(sample) == 5
    assert set(sample.tolist()) <= set(expected)
