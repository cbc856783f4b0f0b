"""The budget of a search, which several processes or machines share without exceeding it."""

from __future__ import annotations

import fcntl
import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.trial import TrialState

from benchmarks.runs import is_locked, telling_of_locks
from benchmarks.sweeps.samplers import Grid

SPENT = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
LOCK, PROCESSES = "budget.lock", "processes"
OWNER = "process"
"""Attribute of a trial: the process that runs it."""


@dataclass(frozen=True)
class Budget:
    """What a search may cost, or has cost.

    Attributes:
        trials: Number of trials, including pruned and failed ones.
        hours: Total hours of all trials, ``None`` for no limit.
    """

    trials: int
    hours: float | None = None


def spent(study: optuna.Study) -> Budget:
    """What a search has cost so far, across all processes."""
    trials = study.get_trials(deepcopy=False, states=SPENT)
    seconds = sum(trial.duration.total_seconds() for trial in trials if trial.duration)
    return Budget(len(trials), seconds / 3600)


@contextmanager
def presence(folder: Path) -> Iterator[str]:
    """Shows other processes that this one is alive, by a lock that is released however it ends.

    Args:
        folder: Folder of the search.

    Yields:
        The name by which :func:`reserve` identifies the process that runs a trial.
    """
    name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    path = folder / PROCESSES / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as stream:
        with telling_of_locks(path):
            fcntl.flock(stream, fcntl.LOCK_EX)
        try:
            yield name
        finally:
            path.unlink(missing_ok=True)


def reserve(study: optuna.Study, folder: Path, budget: Budget, owner: str) -> optuna.Trial | None:
    """The next trial of a search, or ``None`` if finished and running trials use up the budget.

    A lock lets one process at a time reserve a trial, so that no two take the last one. A trial whose process was
    killed or interrupted does not count and is replaced by another.

    Args:
        study: The search.
        folder: Its folder.
        budget: What it may cost.
        owner: The process, as :func:`presence` named it.
    """
    with (folder / LOCK).open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        cost = spent(study)
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        # Who was killed before its name was noted runs nothing.
        lost = [
            trial
            for trial in running
            if OWNER not in trial.user_attrs or not is_locked(folder / PROCESSES / trial.user_attrs[OWNER])
        ]
        over = budget.hours is not None and (cost.hours or 0.0) >= budget.hours
        if over or cost.trials + len(running) - len(lost) >= budget.trials:
            return None
        if isinstance(study.sampler, Grid):
            study.sampler.give_back(study, lost)
        trial = study.ask()
        trial.set_user_attr(OWNER, owner)
        return trial
