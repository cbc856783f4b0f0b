"""A run as launchers see it, and how a process that has already imported everything carries it out."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

KILLED = -9
"""Exit code of a run whose process disappeared without one."""


@dataclass(frozen=True)
class Task:
    """A run to carry out.

    Attributes:
        run_id: Name of its run folder, unique within a suite.
        label: Its name for people.
        arguments: A command of ``recbench``, with its arguments.
        log: File to which its output is appended.
        threads: Threads that it may use; 0 for no limit.
        devices: Accelerators, or processes, that it uses.
    """

    run_id: str
    label: str
    arguments: tuple[str, ...]
    log: Path
    threads: int = 0
    devices: int = 1

    @property
    def command(self) -> list[str]:
        """The command line that runs it as a separate process."""
        return command_of(self.arguments)


def command_of(arguments: Sequence[str]) -> list[str]:
    """The command line of a run as a separate process on this machine."""
    return [sys.executable, "-m", "benchmarks", *arguments]


class Launcher(Protocol):
    """Carries out several tasks at a time."""

    def start(self, task: Task) -> None:
        """Starts a task."""

    def wait(self, seconds: float) -> list[tuple[Task, int]]:
        """Tasks that have ended since the last call, with their exit codes; waits for one for at most ``seconds``."""

    def close(self) -> None:
        """Ends everything that is still running."""


def perform(arguments: Sequence[str], log: Path, threads: int = 0) -> int:
    """Carries out a run in this process with its output in ``log``, and returns its exit code.

    Imports are paid for once per process, which makes suites of small runs fast.
    """
    import torch

    from benchmarks.cli import main

    if threads:
        torch.set_num_threads(threads)
    with log.open("a") as stream:
        kept = os.dup(1), os.dup(2)
        try:
            for descriptor, target in enumerate((stream.fileno(), stream.fileno()), start=1):
                os.dup2(target, descriptor)
            return main(arguments)
        except BaseException:
            _say(traceback.format_exc())
            return 1
        finally:
            _say("")
            for descriptor, original in enumerate(kept, start=1):
                os.dup2(original, descriptor)
                os.close(original)


def _say(text: str) -> None:
    """Flushes remaining output to the log if the disk has room; the schedule reports a full disk."""
    with suppress(OSError):
        sys.stderr.write(text)
        sys.stderr.flush()
    with suppress(OSError):
        sys.stdout.flush()
