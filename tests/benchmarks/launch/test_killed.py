"""Suites that are killed, workers that are killed, and what stands in the table afterwards."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.__main__ import main
from benchmarks.launch.journal import Journal

METHODS = ["popularity", "bpr_mf", "sasrec"]


def suite_file(folder: Path, **changes: object) -> Path:
    options = {"trainer.max_epochs": 3, "trainer.accelerator": "cpu", "early_stopping.patience": 50}
    values = {"about": "toy", "datasets": ["synthetic"], "methods": METHODS, "seeds": [1, 2], "options": options}
    path = folder / "toy.yaml"
    path.write_text(yaml.safe_dump(values | changes))
    return path


def arguments(suite: Path, root: Path, runs: Path, *more: str) -> list[str]:
    return ["suite", str(suite), "--root", str(root), "--runs", str(runs), "--jobs", "2", "--threads", "1", *more]


def figures(runs: Path, capsys: pytest.CaptureFixture[str]) -> dict[tuple[str, str], Any]:
    capsys.readouterr()
    assert main(["leaderboard", str(runs), "--format", "json"]) == 0
    records = json.loads(capsys.readouterr().out)
    return {(r["method"], r["protocol"]): (r["metrics"], r["slices"], r["seeds"], r["group"]) for r in records}


def begun(*command: str) -> subprocess.Popen[bytes]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    silent = subprocess.DEVNULL
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks", *command], stdout=silent, stderr=silent, env=environment
    )


def children(pid: int) -> list[int]:
    """Processes whose parent is ``pid``, and theirs."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found += [int(status.parent.name), *children(int(status.parent.name))]
    return found


def wait_for_event(place: Path, event: str, seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not any(entry["event"] == event for entry in Journal(place).read()):
        assert time.monotonic() < until, f"no run was {event}"
        time.sleep(0.05)


def test_a_killed_run_is_retried_and_the_table_is_whole(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = suite_file(tmp_path, methods=["bpr_mf"], seeds=[1])
    values = yaml.safe_load(suite.read_text())
    values["options"]["trainer.max_epochs"] = 40
    suite.write_text(yaml.safe_dump(values))
    runs = tmp_path / "runs"
    process = begun(*arguments(suite, root, runs))
    wait_for_event(runs / "suites" / "toy", "started")
    folder = runs / "synthetic" / "bpr_mf"
    until = time.monotonic() + 120
    while not list(folder.glob("*/last.ckpt")) and process.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.02)
    # The youngest process is the run: suite, its server, then what the server forked.
    victim = max(children(process.pid), default=0)
    if victim and not list(folder.glob("*/result.json")):
        os.kill(victim, signal.SIGKILL)
    assert process.wait(timeout=240) == 0
    assert len(list(folder.glob("*/result.json"))) == 1
    events = [event["event"] for event in Journal(runs / "suites" / "toy").read()]
    assert events[-1] == "done"


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
