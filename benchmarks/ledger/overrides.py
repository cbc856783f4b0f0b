"""How many settings of a run differ from the shipped experiment of the same name."""

from __future__ import annotations

from benchmarks.experiments import experiment_names, parse_yaml
from benchmarks.leaderboard.sources import Finished
from benchmarks.runs import CONFIG, flat, identity

OF_A_RUN = {"name", "seed_everything", "data.seed", "vectors_sha256"}
"""Settings that differ between runs of one experiment."""


def overrides(run: Finished) -> int:
    """Number of settings of a run that differ from its shipped experiment; 0 if no experiment has its name."""
    from benchmarks.configuration import RunCLI

    name = f"{run.result.dataset}/{run.result.method}"
    if name not in experiment_names():
        return 0
    usual = flat(identity(RunCLI(["--config", name]).resolved()))
    settings = flat(identity(parse_yaml(run.text(CONFIG)) or {}))
    return sum(value != usual.get(key) for key, value in settings.items() if key not in OF_A_RUN)
