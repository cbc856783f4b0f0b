"""Sweeps on W&B: the file that ``wandb sweep`` takes, with the command that its agents run."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.experiments import as_yaml
from benchmarks.loggers.account import wandb_state
from benchmarks.sweeps.space import ARGS, Space
from benchmarks.sweeps.trial import selection
from common.errors import UserError


def sweep_file(space: Space, options: Sequence[str], trials: int) -> dict[str, Any]:
    """The sweep's configuration, with the options of this call in its command and its budget as W&B's run cap.

    It states every setting for which W&B has another default. As with Optuna, early stopping monitors the metric that
    judges trials.

    Args:
        space: What is searched.
        options: Options of every trial.
        trials: Budget in trials.
    """
    chosen = [*space.arguments, *options, *selection(space.metric, space.goal)]
    return space.source | {
        "name": space.name,
        "method": space.method,
        "metric": {"name": space.metric, "goal": space.goal},
        "command": [sys.executable, "-m", "benchmarks", "run", *chosen, "--wandb", ARGS],
        "parameters": {name: _written(keys) for name, keys in space.source["parameters"].items()},
        "run_cap": trials,
    }


def _written(keys: dict[str, Any]) -> dict[str, Any]:
    """A parameter whose values agents pass on as ``recbench run`` reads them: null would arrive as ``None``."""
    written = dict(keys)
    if "value" in keys:
        written["value"] = _plain(keys["value"])
    if "values" in keys:
        written["values"] = [_plain(value) for value in keys["values"]]
    return written


def _plain(value: object) -> object:
    return value if isinstance(value, (bool, int, float, str)) else as_yaml(value)


def refuse_hours(hours: float | None) -> None:
    """Checks that W&B's agents can keep the budget.

    Raises:
        UserError: If it is in hours, which W&B does not count.
    """
    if hours is not None:
        raise UserError(
            f"W&B's agents count trials, not hours, so nothing would end this search after {hours:g} h.",
            "Leave --hours out, or search on this machine with --backend optuna.",
        )


def require_account() -> None:
    """Checks that W&B can be used online.

    Raises:
        UserError: If there is no key, or ``WANDB_MODE`` forbids it.
    """
    state = wandb_state()
    if state.startswith("logged in") and os.environ.get("WANDB_MODE") not in ("offline", "disabled"):
        return
    raise UserError(
        f"A sweep on W&B needs an account: {state}.",
        "Log in with `wandb login`, or search on this machine with --backend optuna.",
    )
