"""Processes that a run starts end with it, and with the suite, however that ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.launch.guard import Guarded
from tests.benchmarks.launch.processes import alive, children, soon

TREE = "import subprocess; rank = subprocess.Popen(['sleep', '300']); rank.wait()"
SUITE = "import sys, time\nfrom pathlib import Path\nfrom benchmarks.launch.guard import Guarded\n"
SUITE += f"Guarded([sys.executable, '-c', {TREE!r}], Path(sys.argv[1]))\ntime.sleep(300)\n"


def family(pid: int, size: int) -> list[int]:
    """All processes below ``pid``, once there are so many."""
    assert soon(lambda: len(children(pid)) == size)
    return children(pid)


def test_nothing_of_a_run_outlives_a_suite_that_is_killed(tmp_path: Path) -> None:
    suite = subprocess.Popen([sys.executable, "-c", SUITE, str(tmp_path / "log")])
    run = family(suite.pid, 3)
    suite.kill()
    suite.wait()
    assert soon(lambda: not any(map(alive, run)))


def test_ending_a_run_ends_its_ranks(tmp_path: Path) -> None:
    guarded = Guarded([sys.executable, "-c", TREE], tmp_path / "log")
    run = [guarded.pid, *family(guarded.pid, 2)]
    assert guarded.poll() is None
    assert guarded.kill() == -signal.SIGKILL
    assert soon(lambda: not any(map(alive, run)))


def test_ranks_of_a_lost_run_are_ended_before_it_is_tried_again(tmp_path: Path) -> None:
    guarded = Guarded([sys.executable, "-c", TREE], tmp_path / "log")
    first, rank = sorted(family(guarded.pid, 2))
    os.kill(first, signal.SIGKILL)
    assert soon(lambda: guarded.poll() is not None)
    assert guarded.poll() == -signal.SIGKILL
    assert soon(lambda: not alive(rank))


@pytest.mark.parametrize("code", [0, 2])
def test_a_command_ends_with_its_own_code_and_its_output_is_kept(tmp_path: Path, code: int) -> None:
    program = f"import os; print(os.environ['WHAT']); raise SystemExit({code})"
    guarded = Guarded([sys.executable, "-c", program], tmp_path / "log", {"WHAT": "said"})
    assert soon(lambda: guarded.poll() is not None)
    assert guarded.poll() == code
    assert (tmp_path / "log").read_text() == "said\n"
