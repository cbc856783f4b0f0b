"""``recbench sweep``: searches hyper-parameters on validation, within a budget that the leaderboard shows."""

from __future__ import annotations

import importlib.util
import json
import shlex
import sys
from pathlib import Path
from typing import Literal

import yaml

from benchmarks.cli import write
from benchmarks.experiments import read_yaml
from benchmarks.runs import write_atomically
from benchmarks.secrets import SECRET
from benchmarks.sweeps.space import Space, find_space
from common.errors import UserError, above_zero, at_least


def sweep(
    space: str,
    *,
    trials: int,
    hours: float | None = None,
    backend: Literal["optuna", "wandb"] = "optuna",
    root: Path = Path("data"),
    runs: Path = Path("runs"),
    seed: int = 1000,
    options: list[str] | None = None,
    dry_run: bool = False,
) -> None:
    """Searches hyper-parameters on validation, never on the test; calling it again continues the search.

    Several processes or machines that share ``--runs`` share the search and its budget.

    Args:
        space: Search space in the W&B sweep schema, or a shipped experiment such as ``ml-100k/sasrec``.
        trials: Budget in trials, including pruned and failed ones.
        hours: Budget in total hours of all trials; not with W&B, whose agents only count trials.
        backend: Search on this machine with Optuna, or register the sweep with W&B and start an agent.
        root: Folder of the stores.
        runs: Folder of all runs; the search is in its subfolder ``sweeps/<name>``.
        seed: Seed of trials and sampler, the same for all who share a search; not one of the reported seeds.
        options: Further options of every trial, such as ``trainer.max_epochs=20``, or the folders of the
            runs that they build on: ``predecessors.sasrec_allmrec=RUN``.
        dry_run: Check the space and print the command of a first trial.
    """
    at_least(1, "", trials=trials)
    if hours is not None:
        above_zero("", hours=hours)
    _refuse_secrets(options or [])
    found = find_space(space)
    folder = runs / "sweeps" / found.name
    shared = [f"--data.root={root}", f"--seed_everything={seed}", *(f"--{option}" for option in options or [])]
    here = [*shared, f"--runs={folder / 'trials'}", "--trainer.enable_progress_bar=false"]
    if backend == "wandb":
        from benchmarks.sweeps.agents import refuse_hours

        refuse_hours(hours)
    from benchmarks.sweeps.trial import as_arguments, check, selection
    from benchmarks.train import quieten

    quieten()
    data = check(found, here, with_data=backend == "optuna" and not dry_run)
    if backend == "wandb":
        _with_wandb(found, here, folder, trials, dry_run)
        return
    if importlib.util.find_spec("optuna") is None:
        raise UserError("Optuna is not installed.", "Install it with `pip install 'recbench[sweep]'`.")
    from benchmarks.sweeps.budget import Budget, spent
    from benchmarks.sweeps.study import open_study, search, write_best

    if dry_run:
        first = as_arguments({parameter.name: parameter.first for parameter in found.parameters})
        write(shlex.join(["recbench", "run", *found.arguments, *shared, *first]))
        return
    values = f"parameters={json.dumps(found.source['parameters'], sort_keys=True, default=str)}"
    agreed = [*found.arguments, *shared[1:], *selection(found.metric, found.goal), values]
    study = open_study(found, folder, seed, agreed, data)
    search(found, study, folder, Budget(trials, hours), here)
    best, cost = write_best(found, study, folder, shared), spent(study)
    won = f"trial {study.best_trial.number} is best, with {found.metric} {study.best_value:.4f}"
    sys.stderr.write(f"{cost.trials} trials, {cost.hours:.2f} hours; {won}:\n")
    write(str(best))


def _refuse_secrets(options: list[str]) -> None:
    """Refuses keys and passwords, which the files of the search would keep."""
    for option in options:
        name = option.partition("=")[0]
        if SECRET.search(name.rpartition(".")[2]):
            raise UserError(f"--options {name} would be kept in files.", "Set the service's environment variable.")


def _with_wandb(space: Space, options: list[str], folder: Path, trials: int, dry_run: bool) -> None:
    """Writes the file that ``wandb sweep`` takes, registers the sweep and starts an agent."""
    from benchmarks.sweeps.agents import require_account, sweep_file

    path = folder / "wandb.yaml"
    write_atomically(path, yaml.safe_dump(sweep_file(space, options, trials), sort_keys=False))
    if dry_run:
        write(f"wandb sweep {path}")
        return
    require_account()
    import wandb

    from benchmarks.loggers.tracking import PROJECT

    sweep_id = wandb.sweep(read_yaml(path), project=PROJECT)
    wandb.agent(sweep_id, project=PROJECT, count=trials)
