"""The matrix product is the paired bootstrap that a loop would make."""

import time

import numpy as np
import pytest

from benchmarks.statistics import bootstrap
from benchmarks.statistics.bootstrap import by_user, resampled_deviations
from benchmarks.statistics.verdicts import Evidence, compare


def gains(users: int, systems: int = 3) -> np.ndarray:
    return (np.random.default_rng(1).random((users, systems)) < 0.2).astype(float)


def test_equals_a_loop_over_the_same_draws() -> None:
    values = gains(40)
    draws = np.random.default_rng(5).integers(0, 40, (6, 40))
    naive = np.stack([values[row].mean(0) for row in draws]) - values.mean(0)
    np.testing.assert_allclose(resampled_deviations(values, 6, seed=5), naive, atol=1e-6)


def test_spread_is_the_standard_error_of_a_mean() -> None:
    values = gains(500)
    found = resampled_deviations(values, 4000).std(0)
    np.testing.assert_allclose(found, values.std(0) / np.sqrt(500), rtol=0.05)


def test_systems_share_their_resamples() -> None:
    values = gains(100, 1)
    deviations = resampled_deviations(np.concatenate([values, values], axis=1), 50)
    np.testing.assert_array_equal(deviations[:, 0], deviations[:, 1])


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    values = gains(30)
    whole = resampled_deviations(values, 11)
    monkeypatch.setattr(bootstrap, "_BLOCK", 100)
    assert resampled_deviations(values, 11).shape == whole.shape
    np.testing.assert_allclose(resampled_deviations(values, 11), whole, atol=1e-6)


def test_users_with_several_cases_are_resampled_whole() -> None:
    user = np.array([3, 1, 3, 1, 2])
    values = np.array([[1.0], [0.0], [1.0], [1.0], [0.0]])
    totals = by_user(user, values)
    np.testing.assert_allclose(totals[:, 0], np.array([1, 0, 2]) * 3 / 5)
    assert totals.mean() == pytest.approx(values.mean())


def test_copies_of_a_case_are_no_further_evidence() -> None:
    values = gains(200, 1)
    once = resampled_deviations(by_user(np.arange(200), values), 2000).std()
    thrice = resampled_deviations(by_user(np.repeat(np.arange(200), 3), np.repeat(values, 3, axis=0)), 2000).std()
    assert thrice == pytest.approx(once, rel=1e-4)


@pytest.mark.slow
def test_all_pairs_of_twenty_systems_on_beauty_take_less_than_a_minute() -> None:
    rows = [Evidence((0.1, 0.101, 0.102), column) for column in gains(22_363, 20).T]
    started = time.perf_counter()
    compare(rows, np.arange(22_363), [True] * len(rows))
    assert time.perf_counter() - started < 60
