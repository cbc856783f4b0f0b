"""Samplers whose draws depend only on the seed and the trial's number, whichever process runs the trial."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, GridSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from benchmarks.sweeps.space import Space


def make_sampler(space: Space, seed: int) -> BaseSampler:
    """The sampler of a search; processes that share a search need the same seed, so that no draw is repeated.

    Args:
        space: What is searched.
        seed: Seed of random draws. The order of a grid has a fixed seed, because its points are numbered in that order.
    """
    if space.method == "grid":
        return Grid(space.grid(), seed=0)
    if space.method == "random":
        return Numbered(lambda drawn: RandomSampler(seed=drawn), seed)
    # Running trials count as bad ones, so that the processes of a study do not all try the same point.
    return Numbered(lambda drawn: TPESampler(seed=drawn, constant_liar=True), seed)


POINT = "grid_id"
"""Where Optuna keeps the number of a trial's point of a grid."""


class Grid(GridSampler):
    """A grid that leaves stopping to the budget."""

    def give_back(self, study: optuna.Study, lost: Sequence[FrozenTrial]) -> None:
        """Frees the points of trials that nobody runs: Optuna would rather draw those of any running trial again."""
        for trial in lost:
            if trial.system_attrs.get(POINT, -1) >= 0:
                study._storage.set_trial_system_attr(trial._trial_id, POINT, -1)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Does nothing."""


class Numbered(BaseSampler):
    """Seeds the random numbers of each trial from the study's seed and the trial's number.

    Numbers are unique within a study. Processes that start at the same time therefore draw different points from one
    seed, and a search that is continued draws what it would have drawn without the interruption.

    Args:
        make: Makes the sampler of a trial from its seed.
        seed: Seed of the study.
    """

    def __init__(self, make: Callable[[int], BaseSampler], seed: int) -> None:
        self.make, self.seed = make, seed
        self.inner = make(seed)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Seeds the trial's draws."""
        self.inner = self.make(int(np.random.SeedSequence([self.seed, trial.number]).generate_state(1)[0]))
        self.inner.before_trial(study, trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The parameters that are drawn jointly."""
        return self.inner.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draws parameters jointly."""
        return self.inner.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:  # noqa: ANN401
        """Draws one parameter."""
        return self.inner.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Tells the sampler about a finished trial."""
        self.inner.after_trial(study, trial, state, values)
