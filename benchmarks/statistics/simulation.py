"""How often verdicts err: simulated systems whose true difference is known.

Each user has a propensity, to which each seed adds noise; the hits of a seed are the users with the highest sums, as
many as its hit rate requires. The standard deviation of hit rates over seeds therefore has exactly the desired value,
while the users that are hit still vary between seeds, as in real runs. Both systems of a pair share the propensities,
and a draw of users does not move their rates: what is simulated is the chance of seeds, not that of users.
"""

from __future__ import annotations

import json as jsonlib
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.cli import write
from benchmarks.columns import markdown
from benchmarks.statistics.bootstrap import RESAMPLES, resampled_deviations
from benchmarks.statistics.verdicts import LEVEL, Evidence, joined, two_sided, welch
from common.errors import at_least

USERS = (943, 4_905, 22_363)
"""Test cases of ML-100K, Office and Beauty."""
DEVIATIONS = (0.001, 0.003, 0.006)
SEEDS = (3, 5)
HIT_RATE = 0.10
AGREEMENT = 0.8
"""Correlation between the sums of two seeds for a user."""


@dataclass(frozen=True)
class Setting:
    """The setting of a simulated comparison.

    Attributes:
        users: Number of test users.
        deviation: Standard deviation of the hit rate over seeds.
        seeds: Number of seeds per system.
        gain: Relative gain of the better system; 0 for equally good systems.
    """

    users: int
    deviation: float
    seeds: int
    gain: float = 0.0


def simulate(*, repetitions: int = 1000, gain: float = 0.05, seed: int = 0, json: bool = False) -> None:
    """Prints how often equally good systems are separated (an error), and how often a true gain is found (power).

    Args:
        repetitions: Simulated pairs per setting.
        gain: Relative gain of the better system.
        seed: Seed of the simulation.
        json: Print JSON instead of a table.
    """
    at_least(1, "", repetitions=repetitions)
    at_least(0, "", seed=seed, gain=gain)
    gains = dict.fromkeys((0.0, gain))
    settings = [Setting(users, sd, seeds, g) for users in USERS for sd in DEVIATIONS for seeds in SEEDS for g in gains]
    rates = separation_rates(settings, repetitions, seed=seed)
    if json:
        rows = [asdict(setting) | {"separated": rate} for setting, rate in zip(settings, rates, strict=True)]
        write(jsonlib.dumps(rows, indent=2))
        return
    cells = [
        (f"{setting.users:,}", f"{setting.deviation}", f"{setting.seeds}", f"{setting.gain:.0%}", f"{rate:.1%}")
        for setting, rate in zip(settings, rates, strict=True)
    ]
    write("\n".join(markdown(("users", "sd over seeds", "seeds", "gain", "separated"), cells)))


def separation_rates(
    settings: list[Setting], repetitions: int, resamples: int = RESAMPLES, seed: int = 0
) -> list[float]:
    """The share of simulated pairs that are separated, for each setting."""
    rates = dict.fromkeys(settings, 0.0)
    generator = np.random.default_rng(seed)
    for users in {setting.users for setting in settings}:
        # A setting that is named twice is drawn once.
        members = [setting for setting in rates if setting.users == users]
        drawn = {setting: _pairs(setting, repetitions, generator) for setting in members}
        # One bootstrap serves all settings with the same number of users.
        columns = np.concatenate([gains for _, gains in drawn.values()], axis=1)
        errors = resampled_deviations(columns, resamples, seed).std(0, dtype=np.float64)
        for setting, error in zip(members, np.split(errors, len(members)), strict=True):
            rates[setting] = float(_separated(drawn[setting][0], error, users).mean())
    return [rates[setting] for setting in settings]


def _pairs(
    setting: Setting, repetitions: int, generator: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Hit rates ``(repetitions, 2, seeds)`` and differences of seed-averaged hits ``(users, repetitions)``."""
    true = HIT_RATE * (1 + setting.gain * np.array([0.5, -0.5]))
    noise = generator.standard_normal((repetitions, 2, setting.seeds))
    hits = np.rint(setting.users * (true[:, None] + setting.deviation * noise)).clip(1, setting.users - 1).astype(int)
    gains = np.empty((setting.users, repetitions), np.float32)
    for repetition, counts in enumerate(hits):
        shape = (2, setting.seeds, setting.users)
        own = generator.standard_normal(setting.users, dtype=np.float32) * np.float32(np.sqrt(AGREEMENT))
        total = own + generator.standard_normal(shape, dtype=np.float32) * np.float32(np.sqrt(1 - AGREEMENT))
        border = np.empty((2, setting.seeds, 1), np.float32)
        for system, seed in np.ndindex(2, setting.seeds):
            last = setting.users - counts[system, seed]
            border[system, seed] = np.partition(total[system, seed], last)[last]
        mean = (total >= border).mean(1)
        gains[:, repetition] = mean[0] - mean[1]
    return hits / setting.users, gains


def _separated(rates: NDArray[np.float64], error: NDArray[np.float64], users: int) -> NDArray[np.bool_]:
    """The verdict on each pair, by the rule of :func:`benchmarks.statistics.verdicts.compare` for one pair."""
    rows = [Evidence(tuple(seeds), np.empty(0)) for pair in rates for seeds in pair]
    first = np.arange(0, len(rows), 2)
    sources = welch(rows, first, first + 1), (error, np.full_like(error, users - 1))
    difference = -np.diff(rates.mean(2), axis=1)[:, 0]
    p = [two_sided(difference, *source) for source in (*sources, joined(*sources))]
    separated: NDArray[np.bool_] = np.max(p, axis=0) < LEVEL
    return separated
