"""Samplers whose draws depend on the seed and the number of the trial alone, whichever process runs it."""

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
    """The sampler of a search; processes that share it need the same seed for no draw to be repeated.

    Args:
        space: What is searched.
        seed: Seed of random draws. A grid's order has its own, for its points are told apart by their place in it.
    """
    if space.method == "grid":
        return Grid(space.grid(), seed=0)
    if space.method == "random":
        return Numbered(lambda drawn: RandomSampler(seed=drawn), seed)
    # Trials under way count as bad ones, so that processes of one study do not all try the same.
    return Numbered(lambda drawn: TPESampler(seed=drawn, constant_liar=True), seed)


class Grid(GridSampler):
    """A grid that leaves it to the budget when to stop."""

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Does nothing."""


class Numbered(BaseSampler):
    """Begins the stream of random numbers anew for each trial, from the seed and the trial's number.

    Numbers are unique in a study. Processes that begin together thus draw different points from one seed, and a search
    that goes on draws what it would have drawn without the break.

    Args:
        make: Makes the sampler of one trial from its seed.
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
        """What is drawn jointly."""
        return self.inner.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Joint draws."""
        return self.inner.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:  # noqa: ANN401
        """One draw."""
        return self.inner.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Lets the sampler take note of a finished trial."""
        self.inner.after_trial(study, trial, state, values)
