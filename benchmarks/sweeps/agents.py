"""The W&B side of a sweep: the file that ``wandb sweep`` takes, and the command that its agents run."""

from __future__ import annotations

import os
import sys
from typing import Any

from benchmarks.doctor import wandb_state
from benchmarks.sweeps.space import ARGS, Space
from benchmarks.sweeps.trial import as_arguments
from common.errors import UserError


def sweep_file(space: Space, options: list[str], trials: int) -> dict[str, Any]:
    """The sweep's configuration with this call's options in its command and its budget as W&B's cap."""
    command = [sys.executable, "-m", "benchmarks", "run", *space.arguments, *options, "--wandb", ARGS]
    return space.source | {"command": command, "run_cap": trials}


def agent_command(command: list[str], values: dict[str, Any]) -> list[str]:
    """What an agent runs for one choice of values: the macro is replaced by the options."""
    return [part for word in command for part in (as_arguments(values) if word == ARGS else [word])]


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
