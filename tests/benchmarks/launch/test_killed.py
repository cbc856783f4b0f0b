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


def parent(pid: int) -> int | None:
    """The process that a process is a child of; ``None`` where that has ended."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def children(pid: int) -> list[int]:
    """Processes whose parent is ``pid``, and theirs."""
    own = [int(folder.name) for folder in Path("/proc").glob("[0-9]*") if parent(int(folder.name)) == pid]
    return [*own, *(other for child in own for other in children(child))]


def wait_for_event(folder: Path, event: str, seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not any(entry["event"] == event for entry in Journal(folder).read()):
        assert time.monotonic() < until, f"no run was {event}"
        time.sleep(0.05)


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
