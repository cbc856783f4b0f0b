"""The configuration that won a search, whole: what the experiment, the call's options and the trial decided."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.configuration import PASSING, RunCLI, without_secrets
from benchmarks.experiments import parse_yaml
from benchmarks.runs import MACHINE

FIRST = ("name", "tuning", "model", "data")
KEPT = {"predecessors", "tuning", "data.recipe", "data.store"}
"""Settings that decide what is computed although they do not enter a run's identity by their words."""
LEFT_OUT = (MACHINE | set(PASSING)) - KEPT - {"needs"}
"""Where and how a trial ran: another machine may run its configuration."""


def resolved(arguments: Sequence[str]) -> dict[str, Any]:
    """The configuration that arguments of ``recbench run`` come to, as a file that gives it without them.

    Defaults are written out, too: were they left to the file's reader, a value of null that replaces one would be lost.

    Args:
        arguments: Arguments of ``recbench run``.

    Raises:
        UserError: If an argument is not valid.
    """
    cli = RunCLI(arguments)
    config = parse_yaml(cli.parser.dump(cli.config, skip_unset=False, skip_link_targets=True))
    for name in LEFT_OUT:
        group, _, option = name.partition(".")
        part = config if not option else config[group].get("init_args", config[group])
        part.pop(option or group, None)
    for name in ("needs", "predecessors"):
        if not config[name]:
            del config[name]
    return without_secrets({name: config[name] for name in dict.fromkeys((*FIRST, *config))})
