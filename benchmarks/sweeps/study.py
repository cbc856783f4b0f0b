"""A search on disk: Optuna's journal, which several processes or machines may share, and the budget that it spent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from benchmarks.configuration import RunCLI
from benchmarks.runs import write_atomically
from benchmarks.sweeps.best import resolved
from benchmarks.sweeps.space import Space
from benchmarks.sweeps.trial import as_arguments, run_trial, selection
from common.errors import UserError

SPENT = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
JOURNAL, BEST = "journal.log", "best.yaml"


@dataclass(frozen=True)
class Budget:
    """What a search may cost, or has cost.

    Attributes:
        trials: Number of trials, pruned and failed ones too.
        hours: Hours of all trials together, ``None`` for no limit.
    """

    trials: int
    hours: float | None = None


def open_study(space: Space, folder: Path, trials: int, seed: int = 0) -> optuna.Study:
    """The search of ``space`` in ``folder``, begun or continued.

    Args:
        space: What is searched.
        folder: Folder of its journal.
        trials: Number of trials, which the sampler of a continued search must not repeat the draws of.
        seed: Seed of the sampler.
    """
    folder.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
    study = optuna.create_study(
        study_name=space.name, storage=storage, direction=space.goal, load_if_exists=True, pruner=_pruner(space)
    )
    study.sampler = _sampler(space, seed + 1000 * len(study.trials))
    return study


def spent(study: optuna.Study) -> Budget:
    """What a search has cost so far, over all processes."""
    trials = study.get_trials(deepcopy=False, states=SPENT)
    seconds = sum(trial.duration.total_seconds() for trial in trials if trial.duration)
    return Budget(len(trials), seconds / 3600)


def search(space: Space, study: optuna.Study, budget: Budget, options: Sequence[str]) -> None:
    """Runs trials until the budget of the whole study is spent, whoever spent it.

    A trial that fails counts and the search goes on.

    Args:
        space: What is searched.
        study: The search.
        budget: What it may cost.
        options: Further options of ``recbench run``.
    """

    def stop_when_spent(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        cost = spent(study)
        if cost.trials >= budget.trials or (budget.hours is not None and (cost.hours or 0.0) >= budget.hours):
            study.stop()

    def objective(trial: optuna.Trial) -> float:
        values = {parameter.name: parameter.suggest(trial) for parameter in space.parameters}

        def go_on(value: float, epoch: int) -> bool:
            trial.report(value, epoch)
            return not trial.should_prune()

        arguments = [*space.arguments, *options, *as_arguments(values)]
        trial.set_user_attr("values", values)
        # A later call may have other options, and the best trial is that of its own.
        trial.set_user_attr("arguments", arguments)
        value, pruned = run_trial([*arguments, f"--name=trial-{trial.number}"], space.metric, space.goal, go_on)
        if pruned:
            raise optuna.TrialPruned
        return value

    cost = spent(study)
    left = budget.trials - cost.trials
    if left > 0 and (budget.hours is None or (cost.hours or 0.0) < budget.hours):
        study.optimize(objective, n_trials=left, callbacks=[stop_when_spent], catch=(ValueError, RuntimeError))


def check(space: Space, options: Sequence[str]) -> None:
    """Parses one configuration of the space.

    Raises:
        UserError: If a parameter is no option of ``recbench run``: names the nearest one.
    """
    RunCLI([*space.arguments, *options, *as_arguments({p.name: p.first for p in space.parameters})])


def write_best(space: Space, study: optuna.Study, folder: Path) -> Path:
    """Writes the best configuration, with what it cost, as a file that ``run`` and ``suite`` take.

    Raises:
        UserError: If no trial was complete.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not complete:
        raise UserError(f"No trial of {space.name} was complete.", "See why under `--debug`, or give more --trials.")
    cost, best = spent(study), study.best_trial
    config = resolved([*best.user_attrs["arguments"], *selection(space.metric, space.goal)])
    config["name"] = f"{config['name'] or Path(space.experiment).stem}_tuned"
    config["tuning"] = {"study": space.name, "trials": cost.trials, "hours": round(cost.hours or 0.0, 4)}
    head = [f"Best of {cost.trials} trials of {space.name}: trial {best.number}, {space.metric} {best.value:.6g}, with"]
    head += [f"  {option.removeprefix('--')}" for option in as_arguments(best.user_attrs["values"])]
    comment = "".join(f"# {line}\n" for line in head)
    write_atomically(folder / BEST, comment + yaml.safe_dump(config, sort_keys=False))
    return folder / BEST


def _sampler(space: Space, seed: int) -> optuna.samplers.BaseSampler:
    if space.method == "grid":
        return optuna.samplers.GridSampler(space.grid(), seed=seed)
    if space.method == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    # Trials under way count as bad ones, so that processes of one study do not all try the same.
    return optuna.samplers.TPESampler(seed=seed, constant_liar=True)


def _pruner(space: Space) -> optuna.pruners.BasePruner:
    if space.hyperband is None:
        return optuna.pruners.NopPruner()
    return optuna.pruners.HyperbandPruner(space.hyperband["min_iter"], reduction_factor=space.hyperband["eta"])
