"""Spectra that KDA starts from."""

import math

import pytest
import torch
from torch import Tensor

from common.errors import UserError
from common.types import Catalogue, Sequences
from lrd.aggregation import FourierDecay
from lrd.spectrum import fourier_coefficients, interval_histograms, log_age

NUM_ITEMS = 6
HISTORIES = [
    [(1, 0), (2, 3600), (3, 3600), (1, 90_000)],
    [(4, 50), (2, 7000), (5, 200_000), (6, 10**8)],
    [(6, 5)],
    [(1, 0), (1, 9000), (3, 9000)],
]
RELATIONS = {"complement": [(1, 2), (1, 3), (4, 5)], "never": [(6, 6)]}
COLOURS = [0, 1, 1, 2, 0, 1, 0]


def catalogue() -> Catalogue:
    events = [event for history in HISTORIES for event in history]
    return Catalogue(
        num_items=NUM_ITEMS,
        train=Sequences(
            offsets=torch.tensor([0, 0, *map(len, HISTORIES)]).cumsum(0),
            items=torch.tensor([item for item, _ in events], dtype=torch.int32),
            times=torch.tensor([time for _, time in events]),
        ),
        relations={name: torch.tensor(pairs) for name, pairs in RELATIONS.items()},
        attributes={"colour": torch.tensor(COLOURS)},
    )


def naive(intervals: list[int]) -> Tensor:
    counts = torch.zeros(64)
    for seconds in intervals:
        counts[int(max(0.0, math.log2(seconds / 60 + 1e-6)))] += seconds > 0
    return counts / counts.max()


def naive_intervals(name: str) -> list[int]:
    found = []
    for history in HISTORIES:
        for end, (item, time) in enumerate(history):
            for earlier, then in reversed(history[:end]):
                same = COLOURS[item] == COLOURS[earlier] > 0
                linked = then < time and (earlier, item) in RELATIONS.get(name, [])
                if name == "virtual" or (same if name == "colour" else linked):
                    found.append(time - then)
                    break
    return [seconds for seconds in found if seconds]


def test_histograms_are_those_of_a_loop_over_training_events() -> None:
    found = interval_histograms(catalogue(), 64)
    expected = [naive(naive_intervals(name)) for name in ("virtual", "complement", "virtual", "colour")]
    torch.testing.assert_close(found, torch.stack(expected))


def test_curve_starts_at_its_histogram() -> None:
    histogram = interval_histograms(catalogue(), 64)
    curves = FourierDecay(len(histogram)).double()
    curves.real.data, curves.imaginary.data = (part.double() for part in fourier_coefficients(histogram))
    ages = torch.arange(64, dtype=torch.float64)
    sign = 1 - 2 * (ages % 2)
    exact = histogram.double()
    expected = 64 / 66 * exact + (exact.sum(1, keepdim=True) + sign * (sign * exact).sum(1, keepdim=True)) / 66
    torch.testing.assert_close(curves(ages[None])[0], expected.clamp(0, 1), atol=1e-6, rtol=0)


def test_doubled_interval_is_one_older_and_no_interval_is_zero() -> None:
    seconds = torch.tensor([60, 3600, 86_400])
    torch.testing.assert_close(log_age(2 * seconds, 0 * seconds), log_age(seconds, 0 * seconds) + 1)
    assert log_age(seconds, seconds).tolist() == [0, 0, 0]


def test_transform_too_short_for_the_intervals_is_refused() -> None:
    with pytest.raises(UserError, match="at least 32"):
        interval_histograms(catalogue(), 16)
