"""Runs that may be packed, and packed ones."""

from pathlib import Path
from typing import Any

import yaml

from benchmarks.leaderboard.submission import submit
from benchmarks.runs import config_id, run_id
from benchmarks.standins import STANDIN
from tests.benchmarks.made_results import made_run


def true_run(folder: Path, rate: float = 0.3, seed: int = 0, **changes: Any) -> Path:  # noqa: ANN401
    """The folder of a run whose ids are those of its configuration."""
    model = {"class_path": "common.models.sasrec.Model", "init_args": changes.pop("model", {})}
    config = {"seed_everything": seed, "model": model, "data": {"init_args": {"dataset": "toy"}}}
    predecessors = changes.get("predecessors", {})
    # A run here trains on nothing but a stand-in; one that scores another counts as a seed of it.
    lineage = {role: name for role, name in predecessors.items() if role == STANDIN}
    ids = {"run_id": run_id(config, "f", predecessors), "config_id": config_id(config, "f", lineage)}
    fields = {"data": "f", "protocol": changes.get("protocol", "full")} | changes.pop("fields", {})
    run = made_run(folder, "model", rate, seed, **(ids | changes), fields=fields, data={"fingerprint": "f"})
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    return run


def packed(folder: Path, rate: float = 0.3, seed: int = 0, seconds: float = 5.0, **changes: Any) -> Path:  # noqa: ANN401
    run = true_run(folder / f"there-{seed}", rate, seed, seconds={"train": seconds, "test": 1.0}, **changes)
    path = folder / f"{seed}.recbench.zip"
    submit(run, out=path)
    return path
