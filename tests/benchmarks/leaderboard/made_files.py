"""Runs that may be packed, and packed ones."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from benchmarks.leaderboard.submission import submit
from benchmarks.results import VALUE, slice_metrics, write_ranks
from benchmarks.runs import RANKS, config_id, read_result, run_id
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


def answered(run: Path, hits: Sequence[float], metric: str = "generated/legacy_hr@1") -> Path:
    """The run with a written answer of each of its cases, worth as much as given."""
    result, table = read_result(run), pl.read_parquet(run / RANKS)
    table = table.with_columns(pl.Series(f"{VALUE}{metric}", hits, dtype=pl.Float64))
    write_ranks(table, run / RANKS)
    replace(result, metrics=result.metrics | slice_metrics(table, {})[0]).write(run)
    return run


def packed(folder: Path, rate: float = 0.3, seed: int = 0, seconds: float = 5.0, **changes: Any) -> Path:  # noqa: ANN401
    run = true_run(folder / f"there-{seed}", rate, seed, seconds={"train": seconds, "test": 1.0}, **changes)
    path = folder / f"{seed}.recbench.zip"
    submit(run, out=path)
    return path
