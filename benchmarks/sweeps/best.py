"""The complete configuration that won a search, from the experiment, the options of the call and the trial."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.configuration import PASSING, RunCLI
from benchmarks.runs import MACHINE
from benchmarks.secrets import without_secrets

FIRST = ("name", "tuning", "model", "data")
KEPT = {"predecessors", "tuning", "data.recipe", "data.store"}
"""Settings that affect what is computed, although their literal values are not part of a run's identity."""
LEFT_OUT = (MACHINE | set(PASSING)) - KEPT - {"needs"}
"""Settings about where and how a trial ran, which may differ when its configuration is run again."""


def resolved(arguments: Sequence[str]) -> dict[str, Any]:
    """The configuration that arguments of ``recbench run`` resolve to, as the content of a file that replaces them.

    Defaults are written out as well: otherwise a null that overrides a default would be lost.

    Args:
        arguments: Arguments of ``recbench run``.

    Raises:
        UserError: If an argument is not valid.
    """
    config = RunCLI(arguments).resolved()
    for name in LEFT_OUT:
        group, _, option = name.partition(".")
        part = config if not option else config[group].get("init_args", config[group])
        part.pop(option or group, None)
    for name in ("needs", "predecessors"):
        if not config[name]:
            del config[name]
    return without_secrets({name: config[name] for name in dict.fromkeys((*FIRST, *config))})
