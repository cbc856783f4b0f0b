"""Suites as processes of their own, and what becomes of the processes that they start."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import yaml

from benchmarks.launch.journal import Journal

METHODS = ["popularity", "bpr_mf", "sasrec"]


def suite_file(folder: Path, **changes: object) -> Path:
    options = {"trainer.max_epochs": 3, "trainer.accelerator": "cpu", "early_stopping.patience": 50}
    values = {"about": "toy", "datasets": ["synthetic"], "methods": METHODS, "seeds": [1, 2], "options": options}
    path = folder / "toy.yaml"
    path.write_text(yaml.safe_dump(values | changes))
    return path


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


def soon(condition: Callable[[], object], seconds: float = 30) -> bool:
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.02)
    return bool(condition())


def alive(pid: int) -> bool:
    """Whether a process still runs; one that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
