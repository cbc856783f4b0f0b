"""Weighted draws from runs of groups against the shares that they should have."""

import numpy as np
from numpy.typing import NDArray

from common.data.synthetic_rules import POPULARITY, RULES, TASTE, Shelf

GROUP = np.array([0, 2, 1, 2, 0, 1], dtype=np.int32)
WEIGHT = np.array([[1.0, 2.0, 3.0, 4.0, 5.0, 0.0], [0.0, 1.0, 0.0, 0.0, 0.0, 0.0]])


def draws(first: int, stop: int, period: int, count: int = 20_000) -> NDArray[np.int64]:
    shelf = Shelf(GROUP, 3, WEIGHT)
    rows = np.full(count, first), np.full(count, stop), np.full(count, period, dtype=np.int32)
    return shelf.draw(*rows, np.random.default_rng(0))


def test_items_of_a_run_are_drawn_by_their_weight() -> None:
    share = np.bincount(draws(1, 3, period=0), minlength=6) / 20_000
    np.testing.assert_allclose(share, np.array([0, 2, 3, 4, 0, 0]) / 9, atol=0.02)


def test_other_periods_have_other_weights() -> None:
    assert set(draws(0, 3, period=1).tolist()) == {1}


def test_a_run_without_anything_on_offer_says_so() -> None:
    assert set(draws(0, 1, period=1).tolist()) == {-1}
    assert set(draws(2, 2, period=0).tolist()) == {-1}


def test_taste_and_popularity_are_the_last_rules() -> None:
    assert (RULES[TASTE], RULES[POPULARITY]) == ("taste", "popularity")
    assert len(RULES) == POPULARITY + 1
