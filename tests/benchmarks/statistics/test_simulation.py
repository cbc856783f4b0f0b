"""On invented systems twins stay together and a planted gain is found."""

import numpy as np
import pytest

from benchmarks.statistics.simulation import DEVIATIONS, SEEDS, USERS, Setting, _pairs, separation_rates


def test_hit_rates_scatter_as_asked_and_hits_change_between_seeds() -> None:
    hits, gains = _pairs(Setting(943, 0.006, 5, 0.05), 200, np.random.default_rng(0))
    assert hits.std(axis=2, ddof=1).mean() == pytest.approx(0.006, rel=0.1)
    assert (hits[:, 0].mean() - hits[:, 1].mean()) == pytest.approx(0.005, abs=5e-4)
    assert np.abs(gains).mean() > 0.01


def test_twins_and_planted_gains_in_small() -> None:
    twins, gain = separation_rates([Setting(4905, 0.003, 5), Setting(4905, 0.003, 5, 0.5)], 100, resamples=500)
    assert twins <= 0.12
    assert gain >= 0.9


def test_a_setting_that_is_named_twice_has_one_rate() -> None:
    twice, once = ([Setting(50, 0.003, 5)] * count + [Setting(50, 0.003, 5, 0.5)] for count in (2, 1))
    first, *rates = separation_rates(twice, 4, resamples=50)
    assert [first, *rates[1:]] == rates == separation_rates(once, 4, resamples=50)


@pytest.mark.slow
def test_error_and_power_are_as_promised() -> None:
    twins = [Setting(users, sd, seeds) for users in USERS for sd in DEVIATIONS for seeds in SEEDS]
    rates = separation_rates([*twins, Setting(22_363, 0.001, 5, 0.05)], 1000)
    assert max(rates[:-1]) <= 0.07
    assert rates[-1] >= 0.85
