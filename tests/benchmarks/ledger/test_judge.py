"""Verdicts: what bears a figure out, what does not, and what may not face it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import main
from benchmarks.leaderboard.rows import Cell
from benchmarks.ledger.judge import Verdict, against_band
from benchmarks.ledger.reported import Place, Printed
from tests.benchmarks.ledger.test_reported import TINY, written
from tests.benchmarks.made_results import made_run

DATA: dict[str, Any] = {"dataset": "ml-100k", "data": {"recipe": "5-core"}}


@pytest.mark.parametrize(
    ("mean", "std", "n", "verdict"),
    [
        (0.50, 0.001, 5, "reproduced"),
        (0.52, 0.001, 5, "reproduced"),
        (0.60, 0.001, 5, "not reproduced"),
        (0.40, 0.001, 5, "not reproduced"),
        (0.525, 0.02, 5, "inconclusive"),
        (0.50, 0.001, 2, "inconclusive"),
        (0.50, None, 1, "inconclusive"),
    ],
)
def test_our_interval_against_the_band(mean: float, std: float | None, n: int, verdict: Verdict) -> None:
    printed = Printed(Place("Table 1", "", "ml-100k", "full"), "sasrec", "hr@10", 0.5, 0.05)
    assert against_band(printed, Cell(mean, std, n))[0] == verdict


def records(tmp_path: Path, capsys: pytest.CaptureFixture[str], *options: str) -> list[dict[str, Any]]:
    paper = written(tmp_path, TINY)
    places = [str(tmp_path / "runs"), "--paper", str(paper), "--root", str(tmp_path / "data")]
    assert main(["ledger", *places, "--format", "json", *options]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


def verdicts(found: list[dict[str, Any]]) -> dict[tuple[str, str], str]:
    return {(record["method"], record["metric"]): record["verdict"] for record in found}


def test_figures_and_orderings_are_judged_from_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(3):
        made_run(tmp_path / "runs", "sasrec", 0.2, seed, **DATA)
        made_run(tmp_path / "runs", "caser", 0.05, seed, **DATA)
    found = records(tmp_path, capsys)
    judged = verdicts(found)
    assert judged["sasrec", "hr@10"] == "reproduced"
    assert judged["caser", "hr@10"] == "not reproduced"
    assert judged["sasrec > caser", "hr@10"] == "inconclusive"  # hr@10 is not the metric that verdicts are about
    assert judged["", "users"] == "missing"
    assert len(next(record for record in found if record["method"] == "sasrec")["runs"]) == 3


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"data": {"recipe": "whole"}}, "other data (recipe whole)"),
        ({"language_model": "standin-abc"}, "other language model (standin-abc)"),
    ],
)
def test_what_is_not_the_papers_faces_no_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], reason: str
) -> None:
    for seed in range(3):
        made_run(tmp_path / "runs", "sasrec", 0.2, seed, **DATA | change)
    record = next(record for record in records(tmp_path, capsys) if record["method"] == "sasrec")
    assert (record["verdict"], record["why"]) == ("not comparable", reason)
    assert record["ours"] == pytest.approx(0.2)


def test_scenarios_face_their_own_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paper = written(tmp_path, TINY.replace("    about: all users", "    about: cold\n    scenario: cold-users"))
    for scenario in ("cold-users (truncated, 50)", "few-shot-256"):
        made_run(tmp_path / "runs", "sasrec", 0.2, fields={"scenario": scenario}, **DATA | {"run_id": scenario[:4]})
    assert main(["ledger", str(tmp_path / "runs"), "--paper", str(paper), "--format", "json"]) == 0
    record = next(r for r in json.loads(capsys.readouterr().out) if r["method"] == "sasrec")
    assert (record["runs"], record["why"]) == (["cold"], "other cold users (truncated)")


def test_an_ordering_is_reproduced_where_its_methods_are_separated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(5):
        made_run(tmp_path / "runs", "sasrec", 0.6, seed, cases=2000, **DATA)
        made_run(tmp_path / "runs", "caser", 0.3, seed, cases=2000, **DATA)
    text = TINY.replace("metric: hr@10", "metric: ndcg@10").replace("{hr@10: 0.1, ndcg@10: 0.05}", "0.1")
    for order, verdict in (("best: sasrec", "reproduced"), ("best: caser", "not reproduced")):
        paper = written(tmp_path, text.replace("best: sasrec", order))
        assert main(["ledger", str(tmp_path / "runs"), "--paper", str(paper), "--format", "json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert [r["verdict"] for r in found if r["kind"] == "ordering"] == [verdict]


def test_without_runs_everything_shipped_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["ledger", "--format", "csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 300
    assert all(",missing," in line for line in lines[1:])


def test_markdown_counts_verdicts_and_keeps_tables_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made_run(tmp_path / "runs", "sasrec", 0.2, **DATA)
    paper = written(tmp_path, TINY)
    assert main(["ledger", str(tmp_path / "runs"), "--paper", str(paper), "--root", str(tmp_path)]) == 0
    text = re.sub(" +", " ", capsys.readouterr().out)
    assert "1 inconclusive" in text
    assert "## Table 2: all users\n" in text
    assert (
        "| ml-100k | overall | sasrec | hr@10 | 0.2000 | 0.2000 | +0.0000 | inconclusive | fewer than 3 seeds |" in text
    )
