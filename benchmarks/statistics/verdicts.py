"""Which rows of a table are separated, which ranks each may have, and which rows tie.

Two rows are separated only if both sources of chance are excluded: another draw of seeds (Welch's t over seed means)
and another draw of users (the paired bootstrap of seed-averaged gains). With thousands of users, almost any difference
passes the second test alone; with few seeds, a lucky pair passes the first. If the two sources are of similar size,
both together may still explain a difference that passes each test, for one in ten pairs of equally good methods, so a
test with the sum of both variances must exclude it as well. Rank-based tests are not offered, because their error rates
on such data are inflated (Ihemelandu and Ekstrand, https://arxiv.org/abs/2305.02461).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from scipy import stats

from benchmarks.statistics.bootstrap import RESAMPLES, by_user, resampled_deviations

LEVEL = 0.05
COMPARED_SEEDS = 3
"""Seeds from which on their spread widens the interval of a difference; with fewer it compares checkpoints."""
_PAIRS = 256


@dataclass(frozen=True)
class Evidence:
    """What a row contributes to a comparison on one metric.

    Attributes:
        seeds: The metric for each seed.
        gains: Gain of each case, averaged over seeds, shape ``(m,)``.
        fixed: Whether seeds make no difference (the floors), so that one run is enough.
    """

    seeds: tuple[float, ...]
    gains: NDArray[np.float64]
    fixed: bool = False


@dataclass(frozen=True)
class Verdicts:
    """Comparisons of all pairs of ``k`` rows; entry ``[i, j]`` is about row ``i`` minus row ``j``.

    Attributes:
        difference: Difference of the means.
        low: Lower end of its uncorrected 95 % interval: over seeds or over users, whichever is wider; over users alone
            if a row has fewer than three seeds.
        high: Upper end of the interval.
        separated: Whether both rows take part in verdicts, and the Holm-corrected p-values of Welch's t, of the
            studentised bootstrap and of both sources together are below 0.05.
        spread: Half-width of each row's own 95 % interval over users, shape ``(k,)``.
    """

    difference: Float[np.ndarray, "k k"]
    low: Float[np.ndarray, "k k"]
    high: Float[np.ndarray, "k k"]
    separated: Bool[np.ndarray, "k k"]
    spread: Float[np.ndarray, "k"]


def compare(
    rows: Sequence[Evidence], user: NDArray[np.int64], family: Sequence[bool], resamples: int = RESAMPLES
) -> Verdicts:
    """Compares all pairs of rows on one metric.

    Args:
        rows: Evidence of each row; the gains of all rows are in the same order of cases.
        user: User of each case.
        family: Which rows take part in verdicts; with too few seeds, a difference only compares checkpoints.
        resamples: Resamples of the bootstrap.
    """
    k = len(rows)
    inside = np.array(family, dtype=bool)
    # Exact, since a rounded mean of equal figures depends on their number, and equal floors would be separated.
    means = np.array([mean(row.seeds) for row in rows])
    first, second = np.triu_indices(k, 1)
    difference = means[first] - means[second]
    deviations = resampled_deviations(by_user(user, np.stack([row.gains for row in rows], axis=1)), resamples)
    users = len(np.unique(user))
    error, low, high = _over_users(deviations, first, second)
    p_users = two_sided(difference, error, np.full(len(error), users - 1.0))
    seed_error, freedom = welch(rows, first, second)
    p_seeds = two_sided(difference, seed_error, freedom)
    reach = stats.t.ppf(1 - LEVEL / 2, freedom) * seed_error
    pair_inside = inside[first] & inside[second]
    # A row with too few seeds only has an interval over users.
    enough = np.array([row.fixed or len(row.seeds) >= COMPARED_SEEDS for row in rows])
    reach = np.where(enough[first] & enough[second], reach, 0.0)
    low, high = difference + np.minimum(low, -reach), difference + np.maximum(high, reach)
    p_both = two_sided(difference, *joined((seed_error, freedom), (error, np.full(len(error), users - 1.0))))
    separated = pair_inside.copy()
    separated[pair_inside] = np.all([holm(p[pair_inside]) < LEVEL for p in (p_seeds, p_users, p_both)], axis=0)
    return Verdicts(
        difference=means[:, None] - means[None, :],
        low=_square(k, first, second, low, -high),
        high=_square(k, first, second, high, -low),
        separated=_square(k, first, second, separated, separated).astype(bool),
        spread=1.96 * deviations.std(0, dtype=np.float64),
    )


def holm(p: Float[np.ndarray, "f"]) -> Float[np.ndarray, "f"]:
    """Holm's correction for a family of tests.

    >>> holm(np.array([0.01, 0.04, 0.03]))
    array([0.03, 0.06, 0.06])
    """
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(stepped, 1.0)
    return corrected


def welch(
    rows: Sequence[Evidence], first: NDArray[np.int64], second: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Standard error and degrees of freedom of each pair's difference of seed means; a fixed row adds no error."""
    counts = np.array([len(row.seeds) for row in rows], dtype=np.float64)
    variances = [0.0 if row.fixed or len(row.seeds) < 2 else np.var(row.seeds, ddof=1) for row in rows]
    share = np.array(variances) / counts
    total = share[first] + share[second]
    spent = np.divide(share**2, counts - 1, out=np.zeros_like(share), where=counts > 1)
    below = spent[first] + spent[second]
    freedom = np.divide(total**2, below, out=np.full_like(total, np.inf), where=below > 0)
    return np.sqrt(total), freedom


def joined(
    seeds: tuple[NDArray[np.float64], NDArray[np.float64]], users: tuple[NDArray[np.float64], NDArray[np.float64]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Standard error and degrees of freedom (Satterthwaite's) of two independent sources of chance together."""
    total = seeds[0] ** 2 + users[0] ** 2
    # A single user leaves no freedom, but has no error either.
    spent = seeds[0] ** 4 / seeds[1] + users[0] ** 4 / np.maximum(users[1], 1.0)
    return np.sqrt(total), np.divide(total**2, spent, out=np.full_like(total, np.inf), where=spent > 0)


def two_sided(
    difference: NDArray[np.float64], error: NDArray[np.float64], freedom: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The p-value of a studentised difference; with a standard error of 0 it is 0, or 1 if there is no difference.

    Without any degree of freedom it is 1.
    """
    statistic = np.divide(difference, error, out=np.where(difference == 0, 0.0, np.inf), where=error > 0)
    p = 2 * np.asarray(stats.t.sf(np.abs(statistic), np.maximum(freedom, 1.0)))
    return np.where(freedom > 0, p, 1.0)


def rank_intervals(separated: Bool[np.ndarray, "k k"], means: Sequence[float]) -> list[tuple[int, int]]:
    """First and last rank that each row may have, given how many rows are separated above and below it.

    >>> chain = np.array([[0, 0, 1], [0, 0, 0], [1, 0, 0]], dtype=bool)
    >>> rank_intervals(chain, [0.3, 0.2, 0.1])
    [(1, 2), (1, 3), (2, 3)]
    """
    values = np.asarray(means)
    above = (separated & (values[None, :] > values[:, None])).sum(1)
    below = (separated & (values[None, :] < values[:, None])).sum(1)
    return [(1 + int(up), len(values) - int(down)) for up, down in zip(above, below, strict=True)]


def tie_groups(separated: Bool[np.ndarray, "k k"]) -> list[str]:
    """Letters of each row, best row first: two rows share a letter if and only if they are not separated.

    Insert-and-absorb algorithm (Piepho, https://doi.org/10.1198/1061860043515): each separated pair splits the groups
    that contain both, and a group inside another one is dropped.

    >>> tie_groups(np.array([[0, 0, 1], [0, 0, 0], [1, 0, 0]], dtype=bool))
    ['a', 'ab', 'b']
    """
    groups = [frozenset(range(len(separated)))] if len(separated) else []
    for first, second in np.argwhere(np.triu(separated)):
        pair = frozenset((int(first), int(second)))
        split = [group - {member} for group in groups if pair <= group for member in pair]
        groups = [group for group in groups if not pair <= group]
        for candidate in sorted(split, key=len, reverse=True):
            if not any(candidate <= group for group in groups):
                groups.append(candidate)
    groups.sort(key=lambda group: (min(group), max(group)))
    rows = range(len(separated))
    return ["".join(_letter(n) for n, group in enumerate(groups) if row in group) for row in rows]


def _letter(number: int) -> str:
    letter = chr(ord("a") + number % 26)
    return letter if number < 26 else f"{letter}{number // 26}"


def _over_users(
    deviations: NDArray[np.float32], first: NDArray[np.int64], second: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Standard error of each pair's difference, and the ends of its percentile interval minus the difference."""
    error, low, high = (np.zeros(len(first)) for _ in range(3))
    for start in range(0, len(first), _PAIRS):
        part = slice(start, start + _PAIRS)
        values = deviations[:, first[part]] - deviations[:, second[part]]
        error[part] = values.std(0, dtype=np.float64)
        low[part], high[part] = np.quantile(values, (LEVEL / 2, 1 - LEVEL / 2), axis=0)
    return error, low, high


def _square(
    k: int, first: NDArray[np.int64], second: NDArray[np.int64], upper: NDArray[np.float64], lower: NDArray[np.float64]
) -> NDArray[np.float64]:
    """A ``k × k`` table from its upper and lower triangles, with 0 on the diagonal."""
    table = np.zeros((k, k))
    table[first, second], table[second, first] = upper, lower
    return table
