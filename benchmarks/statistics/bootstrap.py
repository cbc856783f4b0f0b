"""The paired bootstrap over users: one set of resampled users for all systems of a table."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

RESAMPLES = 10_000
_BLOCK = 1 << 23
"""Number of counts drawn and multiplied at a time: 64 MB."""


def by_user(user: Int[np.ndarray, "m"], gains: Float[np.ndarray, "m k"]) -> Float[np.ndarray, "u k"]:
    """Total gain of each user, scaled so that the mean over users equals the mean over cases.

    Resampling users instead of cases keeps the cases of a user together, because they are not independent.

    Args:
        user: User of each case.
        gains: Gain of each case under each of ``k`` systems.

    >>> by_user(np.array([7, 7, 9]), np.array([[1.0], [0.0], [1.0]])).mean().round(4)
    np.float64(0.6667)
    """
    _, row = np.unique(user, return_inverse=True)
    users = int(row.max()) + 1
    if users == len(user):
        return gains[np.argsort(row)]
    totals = np.zeros((users, gains.shape[1]))
    np.add.at(totals, row, gains)
    return totals * (users / len(user))


def resampled_deviations(
    gains: Float[np.ndarray, "u k"], resamples: int = RESAMPLES, seed: int = 0
) -> Float[np.ndarray, "s k"]:
    """Means over resampled users minus the means over all users.

    A resample is a vector of multinomial counts, so that one matrix product computes all systems and resamples. The
    difference of two columns is the paired bootstrap of the two systems.

    Args:
        gains: Gain of each user under each system.
        resamples: Number ``s`` of resamples.
        seed: Seed of the resamples, the same for all systems.

    Returns:
        Deviations in fp32; because gains are centred first, this is precise enough for any number of users.
    """
    centred = (gains - gains.mean(0)).astype(np.float32)
    parts = [counts @ centred for counts in _counts(len(gains), resamples, seed)]
    return np.concatenate(parts) / np.float32(len(gains))


def _counts(users: int, resamples: int, seed: int) -> Iterator[NDArray[np.float32]]:
    """How often each resample contains each user, in blocks of resamples of shape ``(rows, users)``."""
    generator = np.random.default_rng(seed)
    rows = max(1, _BLOCK // users)
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        drawn = generator.integers(0, users, (size, users))
        drawn += users * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * users)
        yield counts.reshape(size, users).astype(np.float32)
