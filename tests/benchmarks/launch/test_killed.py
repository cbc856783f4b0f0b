"""Suites that are killed, workers that are killed, and what stands in the table afterwards."""

import json
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import main
from benchmarks.launch.journal import Journal
from tests.benchmarks.launch.processes import begun, children, parent, suite_file


def arguments(suite: Path, root: Path, runs: Path, *more: str) -> list[str]:
    return ["suite", str(suite), "--root", str(root), "--runs", str(runs), "--jobs", "2", "--threads", "1", *more]


def figures(runs: Path, capsys: pytest.CaptureFixture[str]) -> dict[tuple[str, str], Any]:
    capsys.readouterr()
    assert main(["leaderboard", str(runs), "--format", "json"]) == 0
    records = json.loads(capsys.readouterr().out)
    return {(r["method"], r["protocol"]): (r["metrics"], r["slices"], r["seeds"], r["group"]) for r in records}


def test_a_killed_run_is_retried_and_the_table_is_whole(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = suite_file(tmp_path, methods=["bpr_mf"], seeds=[1])
    # So long that it is far from its end when its first checkpoint is there.
    suite.write_text(suite.read_text().replace("max_epochs: 3", "max_epochs: 80"))
    calm, wild = tmp_path / "calm", tmp_path / "wild"
    assert begun(*arguments(suite, root, calm)).wait(timeout=240) == 0
    process = begun(*arguments(suite, root, wild))
    until = time.monotonic() + 120
    while not list((wild / "synthetic").glob("bpr_mf/*/last.ckpt")):
        assert time.monotonic() < until
        assert process.poll() is None
        time.sleep(0.02)
    # A run is forked by a server, which the suite started.
    (victim,) = (pid for pid in children(process.pid) if parent(pid) != process.pid)
    os.kill(victim, signal.SIGKILL)
    assert process.wait(timeout=240) == 0
    events = [(e["event"], e.get("code"), e.get("resumed")) for e in Journal(wild / "suites" / "toy").read()]
    assert events == [
        ("started", None, False), ("retry", -signal.SIGKILL, None), ("started", None, True), ("done", 0, None),
    ]  # fmt: skip
    assert figures(wild, capsys) == figures(calm, capsys)


def test_rows_that_fail_or_find_no_memory_leave_the_table_of_the_others_as_it_is(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite, calm, wild = suite_file(tmp_path, methods=["bpr_mf"], seeds=[1]), tmp_path / "calm", tmp_path / "wild"
    assert begun(*arguments(suite, root, calm)).wait(timeout=240) == 0
    # A vector of 2^40 figures for every item is more than any machine holds; a rate of 10^30 ends in no number.
    greedy = {"of": "bpr_mf", "options": {"model.width": 2**40}}
    mad = {"of": "bpr_mf", "options": {"model.lr": 1e30}}
    suite_file(tmp_path, methods=["bpr_mf"], seeds=[1], variants={"greedy": greedy, "mad": mad})
    assert begun(*arguments(suite, root, wild)).wait(timeout=240) != 0
    ends = {e["run"]: e["event"] for e in Journal(wild / "suites" / "toy").read()}
    assert [ends[f"synthetic/{name} seed 1"] for name in ("bpr_mf", "greedy", "mad")] == ["done", "failed", "failed"]
    assert figures(wild, capsys) == figures(calm, capsys)
    logs = [path.read_text() for path in (wild / "suites" / "toy").rglob("*.log")]
    assert sum("There is not enough memory for BPRMF" in log for log in logs) == 1
    assert sum("Lower the learning rate" in log for log in logs) == 1


@pytest.mark.slow
def test_a_suite_killed_at_random_moments_ends_with_the_table_of_an_undisturbed_one(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite, calm, wild = suite_file(tmp_path), tmp_path / "calm", tmp_path / "wild"
    assert begun(*arguments(suite, root, calm)).wait(timeout=600) == 0
    moments = random.Random(0)
    journal = Journal(wild / "suites" / "toy")
    for _ in range(4):
        process = begun(*arguments(suite, root, wild))
        events = len(journal.read()) + moments.randint(1, 5)
        while len(journal.read()) < events and process.poll() is None:
            time.sleep(0.02)
        time.sleep(moments.uniform(0, 1.5))
        process.kill()
        process.wait()
    assert begun(*arguments(suite, root, wild)).wait(timeout=600) == 0
    assert figures(wild, capsys) == figures(calm, capsys)
