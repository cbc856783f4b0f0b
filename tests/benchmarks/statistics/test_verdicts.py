"""Verdicts need seeds and users; letters and rank intervals say what the verdicts say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from benchmarks.statistics.verdicts import (
    Evidence,
    compare,
    holm,
    joined,
    rank_intervals,
    tie_groups,
    two_sided,
    welch,
)

USERS = np.arange(3000)
BOTH = (True, True)


def evidence(rate: float, spread: float = 0.001, seeds: int = 5, draw: int = 0) -> Evidence:
    generator = np.random.default_rng(draw)
    values = rate + spread * np.linspace(-1, 1, seeds)
    ease = np.random.default_rng(99).random(len(USERS))
    gains = np.mean([ease + 0.02 * generator.standard_normal(len(USERS)) < v for v in values], axis=0)
    return Evidence(tuple(values), gains + rate - gains.mean())


def test_welch_equals_scipy() -> None:
    rows = [Evidence((0.1, 0.13, 0.12), np.empty(0)), Evidence((0.2, 0.21, 0.25, 0.22), np.empty(0))]
    error, freedom = welch(rows, np.array([0]), np.array([1]))
    reference = stats.ttest_ind(rows[0].seeds, rows[1].seeds, equal_var=False)
    assert (np.mean(rows[0].seeds) - np.mean(rows[1].seeds)) / error[0] == pytest.approx(reference.statistic)
    assert freedom[0] == pytest.approx(reference.df)


def test_a_floor_is_compared_as_a_constant() -> None:
    rows = [Evidence((0.1, 0.13, 0.12), np.empty(0)), Evidence((0.2,), np.empty(0), fixed=True)]
    error, freedom = welch(rows, np.array([0]), np.array([1]))
    reference = stats.ttest_1samp(rows[0].seeds, 0.2)
    assert (np.mean(rows[0].seeds) - 0.2) / error[0] == pytest.approx(reference.statistic)
    assert freedom[0] == pytest.approx(2)


def test_floors_of_equal_ranks_are_not_separated_by_how_often_they_ran() -> None:
    generator = np.random.default_rng(0)
    for _ in range(30):
        gains = generator.random(50)
        figure = float(gains.mean())
        once, often = Evidence((figure,), gains, fixed=True), Evidence((figure,) * 3, gains, fixed=True)
        assert not compare([once, often], np.arange(50), BOTH, resamples=10).separated.any()


def test_a_planted_gain_separates_and_twins_do_not() -> None:
    rows = [evidence(0.16, draw=1), evidence(0.12, draw=2), evidence(0.12, draw=3)]
    verdicts = compare(rows, USERS, (True,) * 3, resamples=1000)
    assert verdicts.separated.tolist() == [[False, True, True], [True, False, False], [True, False, False]]
    assert verdicts.low[0, 1] > 0
    assert verdicts.low[1, 2] < 0 < verdicts.high[1, 2]


def test_seeds_that_scatter_prevent_a_verdict_that_users_would_give() -> None:
    for spread, separated in ((0.001, True), (0.08, False)):
        rows = [evidence(0.16, spread=spread), evidence(0.12, spread=spread)]
        assert compare(rows, USERS, BOTH, resamples=1000).separated[0, 1] == separated


def test_few_users_prevent_a_verdict_that_seeds_would_give() -> None:
    rows = [evidence(0.16), evidence(0.15)]
    mixed = [Evidence(row.seeds, np.random.default_rng(i).permutation(row.gains)) for i, row in enumerate(rows)]
    few = [Evidence(row.seeds, row.gains[:200]) for row in mixed]
    assert compare(rows, USERS, BOTH, resamples=1000).separated[0, 1]
    assert not compare(few, USERS[:200], BOTH, resamples=1000).separated.any()


def test_a_single_user_tells_nothing_and_causes_no_warning() -> None:
    rows = [Evidence((mean,) * 5, np.array([mean, mean])) for mean in (1.0, 0.0)]
    with np.errstate(all="raise"):
        verdicts = compare(rows, np.array([3, 3]), [True, True], resamples=10)
    assert not verdicts.separated.any()
    assert verdicts.difference.tolist() == [[0, 1], [-1, 0]]


def test_two_seeds_are_a_comparison_of_checkpoints() -> None:
    verdicts = compare([evidence(0.5, seeds=2), evidence(0.1)], USERS, (False, True), resamples=500)
    assert not verdicts.separated.any()
    assert verdicts.low[0, 1] > 0.3


def test_the_spread_of_three_seeds_widens_an_interval_without_a_verdict() -> None:
    rows = [evidence(0.16, spread=0.05, seeds=3), evidence(0.12, spread=0.05)]
    error, freedom = welch(rows, np.array([0]), np.array([1]))
    verdicts = compare(rows, USERS, (False, True), resamples=500)
    assert not verdicts.separated.any()
    assert verdicts.low[0, 1] == pytest.approx(
        np.mean(rows[0].seeds) - np.mean(rows[1].seeds) - stats.t.ppf(0.975, freedom[0]) * error[0]
    )


def test_interval_is_the_wider_one_and_turns_with_the_pair() -> None:
    verdicts = compare([evidence(0.16, spread=0.05), evidence(0.12, spread=0.05)], USERS, BOTH, resamples=1000)
    error, freedom = welch([evidence(0.16, spread=0.05), evidence(0.12, spread=0.05)], np.array([0]), np.array([1]))
    assert verdicts.low[0, 1] == pytest.approx(0.04 - stats.t.ppf(0.975, freedom[0]) * error[0])
    assert verdicts.low[1, 0] == -verdicts.high[0, 1]


def test_many_rows_raise_the_bar() -> None:
    pair = [evidence(0.16, spread=0.02), evidence(0.12, spread=0.02)]
    assert compare(pair, USERS, BOTH, resamples=500).separated[0, 1]
    crowd = pair + [evidence(0.14, spread=0.02, draw=i) for i in range(12)]
    assert not compare(crowd, USERS, (True,) * len(crowd), resamples=500).separated[0, 1]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_bonferroni_step_by_step(values: list[float]) -> None:
    p = np.array(values)
    order = sorted(range(len(p)), key=lambda i: p[i])
    expected = {j: min(1.0, max(p[order[s]] * (len(p) - s) for s in range(r + 1))) for r, j in enumerate(order)}
    np.testing.assert_allclose(holm(p), [expected[i] for i in range(len(p))])


@given(st.integers(1, 7), st.data())
def test_rows_share_a_letter_exactly_where_they_tie(k: int, data: st.DataObject) -> None:
    table = np.zeros((k, k), dtype=bool)
    for i, j in zip(*np.triu_indices(k, 1), strict=True):
        table[i, j] = table[j, i] = data.draw(st.booleans())
    letters = [set(name) for name in tie_groups(table)]
    assert all(letters)
    for i, j in zip(*np.triu_indices(k, 1), strict=True):
        assert bool(letters[i] & letters[j]) == (not table[i, j])


def test_rank_interval_counts_what_is_surely_above_and_below() -> None:
    separated = np.ones((4, 4), dtype=bool) & ~np.eye(4, dtype=bool)
    separated[1, 2] = separated[2, 1] = False
    assert rank_intervals(separated, [0.4, 0.3, 0.2, 0.1]) == [(1, 1), (2, 3), (2, 3), (4, 4)]


def test_equally_good_methods_are_rarely_separated_where_seeds_and_users_scatter_alike() -> None:
    draw, pairs, seeds = np.random.default_rng(0), 4000, 5
    first, second = np.arange(0, 2 * pairs, 2), np.arange(1, 2 * pairs, 2)
    by_seed = draw.standard_normal((2 * pairs, seeds))
    user_error = np.full(pairs, np.sqrt(2 / seeds))
    error, freedom = welch([Evidence(tuple(row), np.empty(0)) for row in by_seed], first, second)
    difference = by_seed[first].mean(1) - by_seed[second].mean(1) + user_error * draw.standard_normal(pairs)
    sources = (error, freedom), (user_error, np.full(pairs, 1e4))
    below = [two_sided(difference, *source) < 0.05 for source in sources]
    assert np.mean(below[0] & below[1]) > 0.09
    assert np.mean(two_sided(difference, *joined(*sources)) < 0.05) < 0.06
