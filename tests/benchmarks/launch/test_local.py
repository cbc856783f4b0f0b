"""Runs of several devices on this machine: which devices they see, and when they begin."""

import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.launch.devices import VISIBLE
from benchmarks.launch.local import LIMITS, LocalLauncher
from benchmarks.launch.task import Task
from tests.benchmarks.launch.processes import alive, soon

PROGRAM = """
import os, pathlib, subprocess, sys, time
here = pathlib.Path(sys.argv[1])
rank = subprocess.Popen(["sleep", "300"])
(here / "rank").write_text(str(rank.pid))
(here / "threads").write_text(os.environ.get("OMP_NUM_THREADS", "none"))
(here / "devices").write_text(os.environ.get("CUDA_VISIBLE_DEVICES", "none"))
while not (here / "end").exists():
    time.sleep(0.02)
"""


class Script(Task):
    """A task whose command is :data:`PROGRAM`, which ends when it is told to."""

    @property
    def command(self) -> list[str]:
        """The program."""
        return [sys.executable, "-c", PROGRAM, str(self.log.parent)]


def script(folder: Path, name: str, devices: int) -> Script:
    (folder / name).mkdir()
    return Script(name, name, (), folder / name / "log", devices=devices)


def seen(task: Task) -> str:
    """The devices that a task says it sees."""
    path = task.log.with_name("devices")
    assert soon(lambda: path.is_file() and path.read_text())
    return path.read_text()


def ended(launcher: LocalLauncher, *tasks: Task) -> list[tuple[str, int]]:
    for task in tasks:
        task.log.with_name("end").touch()
    found, until = list[tuple[Task, int]](), time.monotonic() + 30
    while len(found) < len(tasks) and time.monotonic() < until:
        found += launcher.wait(0.1)
    return [(task.run_id, code) for task, code in found]


@pytest.fixture(autouse=True)
def unnamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VISIBLE, raising=False)


def test_runs_of_several_devices_see_their_own_and_wait_for_them(tmp_path: Path) -> None:
    launcher = LocalLauncher(accelerators=4)
    first, second, third, fourth = (script(tmp_path, name, 2) for name in "abcd")
    for task in (first, second, third, fourth):
        launcher.start(task)
    assert [seen(first), seen(second)] == ["0,1", "2,3"]
    time.sleep(0.3)
    assert not third.log.exists()
    assert ended(launcher, second) == [("b", 0)]
    assert seen(third) == "2,3"
    assert ended(launcher, first, third) in ([("a", 0), ("c", 0)], [("c", 0), ("a", 0)])
    seen(fourth)
    assert ended(launcher, fourth) == [("d", 0)]


def test_a_task_without_a_limit_has_all_threads_though_others_have_a_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in LIMITS:
        monkeypatch.delenv(name, raising=False)
    launcher = LocalLauncher(threads=1)
    whole, shared = script(tmp_path, "whole", 1), replace(script(tmp_path, "shared", 2), threads=1)
    for task in (whole, shared):
        launcher.start(task)
        seen(task)
    counts = [task.log.with_name("threads").read_text() for task in (whole, shared)]
    assert counts == [str(torch.get_num_threads()), "1"]
    assert len(ended(launcher, whole, shared)) == 2


def test_closing_ends_every_process_of_a_run(tmp_path: Path) -> None:
    launcher = LocalLauncher()
    task = script(tmp_path, "a", 2)
    launcher.start(task)
    assert seen(task) == "none"
    rank = int(task.log.with_name("rank").read_text())
    assert alive(rank)
    launcher.close()
    assert soon(lambda: not alive(rank))
