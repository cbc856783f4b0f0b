"""A search on disk, in Optuna's journal, which several processes or machines may share."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from math import prod
from pathlib import Path

import optuna
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import TrialState

from benchmarks.runs import write_atomically
from benchmarks.sweeps.best import resolved
from benchmarks.sweeps.budget import Budget, presence, reserve, spent
from benchmarks.sweeps.samplers import make_sampler
from benchmarks.sweeps.space import Space
from benchmarks.sweeps.trial import as_arguments, run_trial, selection
from common.errors import UserError

JOURNAL, BEST = "journal.log", "best.yaml"
SHARED, DATA = "options", "data"
"""Attributes of a search: the options of all its trials, and the fingerprint of their data."""
PREDECESSORS = "--predecessors."
"""How options begin that name runs on which trials build."""
STORES = ("--data.recipe=", "--data.store=")
"""How options begin that name a store."""
UNLIKE = "unlike trials cannot be compared."


def open_study(
    space: Space, folder: Path, seed: int = 0, options: Sequence[str] | None = None, data: str = ""
) -> optuna.Study:
    """Opens the search of ``space`` in ``folder``, a new one or one to continue.

    A single process draws the same points for the same seed, whether or not it was stopped between trials.

    Args:
        space: What is searched.
        folder: Folder of its journal.
        seed: Seed of the sampler.
        options: What all trials must share to be compared; not needed to read a search.
        data: Fingerprint of their data, likewise.

    Raises:
        UserError: If the search was begun with other options or on other data.
    """
    folder.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name=space.name,
        storage=JournalStorage(JournalFileBackend(str(_mended(folder / JOURNAL)))),
        direction=space.goal,
        load_if_exists=True,
        pruner=_pruner(space),
        sampler=make_sampler(space, seed),
    )
    if options is not None:
        _agree(study, folder, sorted(options))
    if data:
        _agree_on_data(study, folder, data)
    return study


def _mended(journal: Path) -> Path:
    """The journal without half a line at its end, which a kill or a full disk leaves: Optuna would refuse the rest."""
    if _is_torn(journal):
        lock = JournalFileSymlinkLock(str(journal))
        lock.acquire()
        try:
            # Another process may have been writing it just then.
            if _is_torn(journal):
                os.truncate(journal, journal.read_bytes().rfind(b"\n") + 1)
        finally:
            lock.release()
    return journal


def _is_torn(journal: Path) -> bool:
    return journal.is_file() and journal.stat().st_size > 0 and not journal.read_bytes().endswith(b"\n")


def _agree(study: optuna.Study, folder: Path, options: list[str]) -> None:
    """Records what all trials share, or refuses another choice than the recorded one."""
    begun = study.user_attrs.get(SHARED)
    # Once the data are known, they decide, and not the name under which they are found.
    unread = STORES if DATA in study.user_attrs else ()
    if begun is None:
        study.set_user_attr(SHARED, options)
    elif _compared(begun, unread) != _compared(options, unread):
        raise UserError(
            f"The search in {folder} was begun with {' '.join(begun)}, not {' '.join(options)}.",
            f"Give the same options, or another --runs folder: {UNLIKE}",
        )


def _compared(options: Sequence[str], unread: tuple[str, ...] = ()) -> list[str]:
    """Options that name a run by its id, wherever it lies: machines that share a search may call its folder otherwise.

    >>> _compared(["--predecessors.sasrec=/disk/runs/ml-1m/sasrec/0a1b", "--model.llm=a/b"])
    ['--predecessors.sasrec=0a1b', '--model.llm=a/b']
    """
    parts = [option.partition("=") for option in options if not option.startswith(unread)]
    return [
        f"{name}={Path(value).name if name.startswith(PREDECESSORS) else value}" if equals else name
        for name, equals, value in parts
    ]


def _agree_on_data(study: optuna.Study, folder: Path, data: str) -> None:
    """Records the data of all trials, or refuses others: another store may have been prepared under the same name."""
    begun = study.user_attrs.get(DATA)
    if begun is None:
        study.set_user_attr(DATA, data)
    elif begun != data:
        raise UserError(
            f"The search in {folder} was begun on other data ({begun[:12]}, not {data[:12]}).",
            f"Give their --root or --options data.store=RECIPE-{begun[:12]}, or another --runs folder: {UNLIKE}",
        )


def search(space: Space, study: optuna.Study, folder: Path, budget: Budget, options: Sequence[str]) -> None:
    """Runs trials until the budget of the whole study is spent, by this process or others.

    A trial that fails counts and the search continues; one that is interrupted does not count.

    Args:
        space: What is searched.
        study: The search.
        folder: Its folder.
        budget: What it may cost; a grid never has more trials than points.
        options: Further options of ``recbench run``.
    """
    if space.method == "grid":
        budget = replace(budget, trials=min(budget.trials, prod(map(len, space.grid().values()))))
    with presence(folder) as owner:
        while (trial := reserve(study, folder, budget, owner)) is not None:
            try:
                value, pruned = _run(space, trial, options)
            except (ValueError, RuntimeError) as error:
                sys.stderr.write(f"Trial {trial.number} failed: {error}\n")
                study.tell(trial, state=TrialState.FAIL)
                continue
            study.tell(trial, None if pruned else value, TrialState.PRUNED if pruned else TrialState.COMPLETE)


def _run(space: Space, trial: optuna.Trial, options: Sequence[str]) -> tuple[float, bool]:
    """Runs a trial; returns its best value and whether it was stopped early."""
    values = {parameter.name: parameter.suggest(trial) for parameter in space.parameters}

    def go_on(value: float, epoch: int) -> bool:
        trial.report(value, epoch)
        return not trial.should_prune()

    arguments = [*space.arguments, *options, *as_arguments(values)]
    trial.set_user_attr("values", values)
    # Recorded because a later call, which may have other options, writes the best configuration.
    trial.set_user_attr("arguments", arguments)
    return run_trial([*arguments, f"--name=trial-{trial.number}"], space.metric, space.goal, go_on)


def write_best(space: Space, study: optuna.Study, folder: Path, options: Sequence[str] = ()) -> Path:
    """Writes the best configuration and the cost of the search as a file for ``run`` and ``suite``.

    Args:
        space: What was searched.
        study: The search.
        folder: Its folder.
        options: Those of this call, which say where the runs that trials build on are now.

    Raises:
        UserError: If no trial was completed.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not complete:
        raise UserError(
            f"No trial of {space.name} was completed.", "Read the messages of its trials, or give more --trials."
        )
    cost, best = spent(study), study.best_trial
    places = [option for option in options if option.startswith(PREDECESSORS)]
    config = resolved([*best.user_attrs["arguments"], *places, *selection(space.metric, space.goal)])
    config["name"] = f"{config['name'] or Path(space.experiment).stem}_tuned"
    # The configuration is meant for other seeds; the leaderboard marks runs that use this one.
    seed = config.pop("seed_everything")
    hours = round(cost.hours or 0.0, 4)
    config["tuning"] = {"study": space.name, "trials": cost.trials, "hours": hours, "seed": seed}
    head = [f"Best of {cost.trials} trials of {space.name}: trial {best.number}, {space.metric} {best.value:.6g}, with"]
    head += [f"  {option.removeprefix('--')}" for option in as_arguments(best.user_attrs["values"])]
    comment = "".join(f"# {line}\n" for line in head)
    write_atomically(folder / BEST, comment + yaml.safe_dump(config, sort_keys=False))
    return folder / BEST


def _pruner(space: Space) -> optuna.pruners.BasePruner:
    if space.hyperband is None:
        return optuna.pruners.NopPruner()
    return optuna.pruners.HyperbandPruner(space.hyperband["min_iter"], reduction_factor=space.hyperband["eta"])
