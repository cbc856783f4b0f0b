"""What a plan will take is judged by runs that are done."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from benchmarks.launch.plan import SuiteRun
from benchmarks.launch.schedule import Attempt
from benchmarks.launch.times import TESTED, budget_in, budget_of, clock, durations, shipped_times
from benchmarks.launch.view import LiveView, plan_lines
from tests.benchmarks.made_results import made_run


def test_estimates_are_medians_of_earlier_runs_shared_by_the_jobs(tmp_path: Path) -> None:
    for seed, seconds in enumerate((100.0, 120.0, 500.0)):
        made_run(tmp_path, "a", 0.3, seed, seconds={"train": seconds, "test": 0.0})
    # A test of a finished run states the training of that run.
    made_run(tmp_path, "a", 0.3, 9, checkpoint="runs/toy/a/0", seconds={"train": 100.0, "test": 7.0})
    own = budget_of({})
    assert durations(tmp_path) == {("toy", "a", own): 120.0, ("toy", "a", TESTED): 7.0}
    entries = [SuiteRun("toy", "a", seed, (), tmp_path / str(seed), budget=own) for seed in range(4)]
    assert plan_lines(entries, tmp_path, jobs=2, suite="toy")[-1] == "# 4 of 4 runs to do, about 4 min; 2 at a time"
    variants = [replace(entries[0], method="a_without_time", of="a", folder=tmp_path / "variant")]
    assert plan_lines(variants, tmp_path, jobs=1, suite="toy")[-1] == "# 1 of 1 runs to do, about 2 min; 1 at a time"
    unknown = SuiteRun("toy", "b", 1, (), tmp_path / "b")
    assert (
        "not counting 1 of methods that have not run yet"
        in plan_lines([*entries, unknown], tmp_path, jobs=1, suite="toy")[-1]
    )


def test_times_of_another_machine_are_called_so(tmp_path: Path) -> None:
    shipped, machine = shipped_times()[1]["ml-100k", "caser"], shipped_times()[0]
    own = budget_in("ml-100k/caser")
    entries = [SuiteRun("ml-100k", "caser", seed, (), tmp_path / str(seed), budget=own) for seed in range(20)]
    told = f"# 20 of 20 runs to do, ~{clock(20 * shipped)} as timed on {machine}; 1 at a time"
    assert plan_lines(entries, tmp_path, jobs=1, suite="toy")[-1] == told
    few, many = (budget_in("ml-100k/caser", {"trainer.max_epochs": epochs}) for epochs in (2, 100_000))
    for other, told in (
        (few, f", <~{clock(shipped)} as timed on"),
        (many, ", time unknown; "),
        (TESTED, ", time unknown; "),
    ):
        changed = [replace(entries[0], budget=other)]
        assert f"1 runs to do{told}" in plan_lines(changed, tmp_path, jobs=1, suite="toy")[-1]


def test_the_live_table_shows_where_each_run_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.launch.view.time", SimpleNamespace(monotonic=lambda: 1100.0))
    runs = [SuiteRun("toy", name, 1, (), tmp_path / name) for name in "abc"]
    runs[0].folder.mkdir()
    (runs[0].folder / "config.yaml").write_text("early_stopping: {monitor: val/mrr}\ntrainer: {max_epochs: 10}\n")
    (runs[0].folder / "metrics.csv").write_text("epoch,step,val/mrr\n0,49,0.1\n1,99,0.25\n")
    attempts = {run.folder: Attempt(run, 1 + (run is runs[1]), 1000.0, run is runs[2]) for run in runs}
    schedule: Any = SimpleNamespace(done=[1, 2], waiting=[3], failed=[], running=attempts, events=[])
    console = Console(width=100, record=True, file=(tmp_path / "screen").open("w"))
    console.print(LiveView(schedule, 6).table())
    lines = [" ".join(line.replace("│", " ").split()) for line in console.export_text().splitlines()]
    assert "2 of 6 done, 1 waiting, 0 failed" in lines
    assert "toy/a seed 1 running 2/10 val/mrr 0.2500 2 min 7 min" in lines
    assert "toy/b seed 1 retried 2 min" in lines
    assert "toy/c seed 1 resumed 2 min" in lines


def test_lengths_of_time() -> None:
    assert [clock(seconds) for seconds in (0, 59, 61, 7325)] == ["0 s", "59 s", "1 min", "2 h 02 min"]
