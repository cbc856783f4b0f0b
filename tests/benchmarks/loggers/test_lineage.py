"""What a run was made from is known to W&B where it can be, and a failing service ends no finished run."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import wandb
from lightning.pytorch.loggers import CSVLogger, WandbLogger

from benchmarks.__main__ import main
from benchmarks.callbacks import RunRecord
from benchmarks.loggers.tracking import seal
from benchmarks.runs import RANKS, Result, read_result
from benchmarks.train import finish
from common.metrics.cases import COLUMNS
from tests.benchmarks.loggers.offline import Offline
from tests.benchmarks.made_results import made_result, made_run
from tests.benchmarks.made_suites import patched, suite_file


class Service:
    """Stands in for an online W&B run: knows the artifacts that were logged, and refuses all others."""

    def __init__(self, known: set[str]) -> None:
        self.known = known
        self.offline, self.ended = False, False
        self.used: list[str] = []
        self.summary: dict[str, Any] = {}
        self.config = SimpleNamespace(update=lambda values, allow_val_change: None)

    def use_artifact(self, name: str, type: str) -> None:
        if name.removesuffix(":latest") not in self.known:
            raise wandb.errors.CommError(f"artifact {name} not found")
        self.used.append(name)

    def log_artifact(self, artifact: wandb.Artifact) -> None:
        self.known.add(artifact.name)

    def finish(self) -> None:
        self.ended = True


def logged(folder: Path, known: set[str], method: str, **predecessors: str) -> tuple[Service, Result]:
    run = made_run(folder, method, 0.3, predecessors=predecessors)
    service, result = Service(known), read_result(run)
    seal(service, result, run)
    return service, result


def test_a_chain_of_three_runs_is_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known: set[str] = set()
    _, filtering = logged(tmp_path, known, "sasrec_wide")
    # The role is the key in the suite, the label that of a variant.
    first, stage1 = logged(tmp_path, known, "stage1_wide", sasrec=filtering.run_id)
    second, _ = logged(tmp_path, known, "stage2", sasrec=filtering.run_id, stage1=stage1.run_id, standin="opt-3f")
    assert first.used == [f"run-{filtering.run_id}:latest"]
    assert second.used == [f"run-{filtering.run_id}:latest", f"run-{stage1.run_id}:latest"]
    assert len(known) == 3
    assert capsys.readouterr().err == ""


def test_a_predecessor_without_an_artifact_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known: set[str] = set()
    service, result = logged(tmp_path, known, "stage1", sasrec="0a1b")
    (line,) = capsys.readouterr().err.splitlines()
    assert "no artifact run-0a1b of the sasrec" in line
    assert service.ended
    assert known == {f"run-{result.run_id}"}


def test_an_offline_run_keeps_its_lineage_as_metadata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_SILENT", "true")
    predecessors = {"sasrec": "0a1b", "standin": "opt-3f"}
    run = made_run(tmp_path, "stage1", 0.3, predecessors=predecessors)
    result = read_result(run)
    seal(WandbLogger(project="recbench", save_dir=tmp_path / "wandb", mode="offline").experiment, result, run)
    wandb.teardown()
    artifact = next(artifact for artifact in Offline(tmp_path / "wandb").artifacts if artifact.type == "run")
    assert artifact.name == f"run-{result.run_id}"
    assert json.loads(artifact.metadata)["predecessors"] == predecessors


class Lost(CSVLogger):
    """A logger whose service is gone."""

    def log_metrics(self, metrics: object, step: int | None = None) -> None:
        raise ConnectionError("the server is gone")


def test_a_run_is_sealed_before_its_loggers_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = RunRecord("val/ndcg@10", "max", {})
    record.ranks = {"full": {name: torch.arange(3) for name in COLUMNS}}
    result = replace(made_result("model", 0.3), training={"steps": 7})
    finish(tmp_path, result, record, [Lost(tmp_path / "lost"), CSVLogger(tmp_path / "csv")])
    assert read_result(tmp_path) == result
    assert (tmp_path / RANKS).is_file()
    assert "Lost did not accept the final metrics" in capsys.readouterr().err
    (logged,) = (tmp_path / "csv").rglob("metrics.csv")
    header = logged.read_text().partition("\n")[0]
    assert "test/full/overall/ndcg@10" in header
    assert "cold_items" not in header


def test_a_suite_shows_its_tables_and_failures_before_it_asks_a_service(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def lost(*_: object) -> None:
        raise ConnectionError("the server is gone")

    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setattr("benchmarks.loggers.tracking.log_leaderboard", lost)
    patched(monkeypatch, tmp_path, {"--config=synthetic/sasrec": 2})
    file = suite_file(tmp_path, seeds=[1])
    assert main(["suite", str(file), "--root", str(root), "--runs", str(tmp_path / "runs"), "--wandb"]) == 1
    out, err = capsys.readouterr()
    assert "*popularity*" in out
    assert "1 of 2 runs failed" in err
    assert "W&B did not accept the tables" in err
