"""A suite's reports wait for their runs, are made once, fail alone, and are named by the leaderboard."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import main
from benchmarks.cli import parsed
from benchmarks.launch.overview import finished_settings, overview
from benchmarks.launch.plan import plan
from benchmarks.launch.reports import reports_of
from benchmarks.launch.suites import read_suite
from benchmarks.runs import RESULT
from tests.benchmarks.made_suites import patched, suite_file

QUICK = {"trainer.max_epochs": 1, "model.width": 8}
SPEED = {"command": "speed", "name": "negatives", "options": {"repeats": 1}}
GENERATE = {"command": "generate", "methods": ["sasrec"], "options": {"genres": True, "sample": 3}}


def file_with(folder: Path, *reports: dict[str, Any], **changes: object) -> Path:
    content: dict[str, Any] = {"datasets": ["synthetic/planted"], "methods": ["sasrec"], "options": QUICK}
    return suite_file(folder, **(content | changes), reports=list(reports))


def test_reports_follow_the_runs_that_they_are_of(root: Path, tmp_path: Path) -> None:
    suite = read_suite(file_with(tmp_path, GENERATE, SPEED))
    runs = plan(suite, root, tmp_path)
    first, second, speed = reports_of(suite, runs, root, tmp_path / "folder")
    assert [one.after for one in (first, second, speed)] == [(runs[0].folder,), (runs[1].folder,), ()]
    assert first.label == "generate synthetic/sasrec (planted) seed 1"
    assert speed.label == "speed negatives on synthetic (planted)"
    assert first.arguments[0] == str(runs[0].folder)
    assert {"--genres", "--sample=3", f"--out={first.folder}"} <= set(first.arguments)
    assert speed.arguments[:2] == ("negatives", "--dataset=synthetic/planted")
    assert len({one.run_id for one in (*runs, first, second, speed)}) == 5
    more = replace(suite, reports=[GENERATE | {"options": {"genres": True, "sample": 4}}])
    assert reports_of(more, runs, root, tmp_path / "folder")[0].folder != first.folder, "other options, another report"
    assert plan(replace(suite, reports=[]), root, tmp_path) == runs, "no run is another one for its reports"


def test_a_report_that_is_named_twice_is_made_once(root: Path, tmp_path: Path) -> None:
    twice = GENERATE | {"methods": ["sasrec", "sasrec"]}
    suite = read_suite(file_with(tmp_path, twice, GENERATE, SPEED, SPEED, seeds=[1]))
    reports = reports_of(suite, plan(suite, root, tmp_path), root, tmp_path / "folder")
    assert [report.command for report in reports] == ["generate", "speed"]


def test_options_of_a_report_are_those_of_its_command(root: Path, tmp_path: Path) -> None:
    options = {"user": ["a", "b c"], "genres": False, "json": True, "sample": None, "max_tokens": 5}
    suite = read_suite(file_with(tmp_path, GENERATE | {"options": options}, seeds=[1]))
    (report,) = reports_of(suite, plan(suite, root, tmp_path), root, tmp_path / "folder")
    taken = parsed("generate", report.arguments).arguments
    assert {name: taken[name] for name in options} == options
    assert (taken["root"], taken["out"]) == (root, report.folder)


def test_a_report_is_made_once_and_named_and_a_failed_one_fails_alone(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("benchmarks.speed.command.machine", lambda: {"matmul_gflops": 1.0})
    runs, path = patched(monkeypatch, tmp_path), file_with(tmp_path, GENERATE, SPEED, seeds=[1])
    suite, places = read_suite(path), ["--root", str(root), "--runs", str(tmp_path / "runs")]
    command = ["suite", str(path), *places]
    assert main([*command, "--dry-run"]) == 0
    *_, _, speed, last = capsys.readouterr().out.splitlines()
    assert speed.startswith("recbench speed negatives --dataset=synthetic/planted")
    assert last.startswith("# 1 of 1 runs to do")
    assert last.endswith("; 2 reports to do")
    # SASRec writes no text.
    assert main(command) == 1
    assert [task[3] for task in runs.commands] == ["run", "generate", "speed"]
    assert "generate synthetic/sasrec (planted) seed 1: " in capsys.readouterr().err
    folder = tmp_path / "runs" / "suites" / "toy"
    (made,) = folder.glob("speed-*/speed.json")
    assert json.loads(made.read_text())["samples_per_second"] > 0
    assert (
        f"* [speed negatives on synthetic (planted)]({made.relative_to(folder)})"
        in (folder / "leaderboard.md").read_text()
    )
    seen = overview("toy", suite, root, tmp_path / "runs", finished_settings(tmp_path / "runs"), {})
    assert (seen.runs, seen.done, seen.state) == (1, 1, "reports to do: 1")
    assert main(command) == 1
    assert [task[3] for task in runs.commands[3:]] == ["generate"], "what is there is not made again"
    assert main([*command, "--status"]) == 0
    states = [line.split()[0] for line in capsys.readouterr().out.splitlines()[-3:]]
    assert states == ["done", "failed", "done"]
    assert not list(folder.rglob(RESULT)), "a report is no run"


@pytest.mark.parametrize(
    ("report", "message"),
    [
        ({"command": "analyze", "methods": ["sasrec"]}, "Did you mean 'analyse'"),
        ("analyse", "Write {command: …}"),
        ({"command": "speed", "methods": ["sasrec"]}, "is malformed"),
        ({"command": "generate"}, "is malformed"),
        ({"command": "analyse", "methods": ["sasrek"]}, "Did you mean 'sasrec'"),
        ({"command": "analyse", "methods": ["sasrec"], "options": {"example": 3}}, "Did you mean '--examples'"),
        ({"command": "speed", "name": "ranks"}, "not a valid value"),
        ({"command": "speed", "name": 5}, "is malformed"),
        (SPEED | {"options": {"dataset": "ml-100k"}}, "speed, dataset is what the suite itself sets"),
        (GENERATE | {"options": {"root": "elsewhere"}}, "generate, root is what the suite itself sets"),
        (
            {"command": "analyse", "methods": ["sasrec"], "options": {"out": "here"}},
            "out is what the suite itself sets",
        ),
    ],
)
def test_a_report_that_cannot_be_made_is_told_before_anything_runs(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], report: dict[str, Any], message: str
) -> None:
    places = ["--root", str(root), "--runs", str(tmp_path / "runs")]
    assert main(["suite", str(file_with(tmp_path, report)), *places]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
