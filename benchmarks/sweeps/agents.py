"""The W&B side of a sweep: the file that ``wandb sweep`` takes, with the command that its agents run."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.doctor import wandb_state
from benchmarks.sweeps.space import ARGS, Space
from benchmarks.sweeps.trial import as_text, selection
from common.errors import UserError


def sweep_file(space: Space, options: Sequence[str], trials: int) -> dict[str, Any]:
    """The sweep's configuration with this call's options in its command and its budget as W&B's cap.

    It says what W&B has other defaults for, and its agents stop training by the metric that judges trials, as Optuna's
    trials do.

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
    """A parameter whose values an agent writes as ``recbench run`` reads them: null would come as ``None``, a text."""
    written = dict(keys)
    if "value" in keys:
        written["value"] = _plain(keys["value"])
    if "values" in keys:
        written["values"] = [_plain(value) for value in keys["values"]]
    return written


def _plain(value: object) -> object:
    return value if isinstance(value, (bool, int, float, str)) else as_text(value)


def refuse_hours(hours: float | None) -> None:
    """Looks whether a search by agents has a budget that they can keep.

    Raises:
        UserError: If it is one in hours, which W&B does not count.
    """
    if hours is not None:
        raise UserError(
            f"W&B's agents count trials, not hours: nothing would end this search after {hours:g} h.",
            "Leave --hours out, or search here with --backend optuna.",
        )


def require_account() -> None:
    """Looks for a way to reach W&B.

    Raises:
        UserError: If there is no key.
    """
    state = wandb_state()
    if state.startswith("logged in") and os.environ.get("WANDB_MODE") not in ("offline", "disabled"):
        return
    raise UserError(
        f"A sweep on W&B needs an account: {state}.",
        "Log in with `wandb login`, or search here with --backend optuna.",
    )
