"""One run as a launcher sees it, and how a warm process carries it out."""

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
"""Exit code of a run whose process was lost without leaving one."""


@dataclass(frozen=True)
class Task:
    """A run to carry out.

    Attributes:
        run_id: Name of its run folder, which no other task of a suite has.
        label: What to call it.
        arguments: A command of ``recbench``, with its arguments.
        log: File that takes its output, at the end.
        threads: Threads that it may use; 0 for as many as it likes.
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
        """The same run as a process of its own."""
        return command_of(self.arguments)


def command_of(arguments: Sequence[str]) -> list[str]:
    """A run as a process of its own on this machine."""
    return [sys.executable, "-m", "benchmarks", *arguments]


class Launcher(Protocol):
    """Carries out tasks at the same time."""

    def start(self, task: Task) -> None:
        """Begins a task."""

    def wait(self, seconds: float) -> list[tuple[Task, int]]:
        """Tasks that have ended since the last call, with their exit codes; waits for one, but no longer than that."""

    def close(self) -> None:
        """Ends whatever is still running."""


def perform(arguments: Sequence[str], log: Path, threads: int = 0) -> int:
    """Carries out a run in this process, its output in ``log``; returns its exit code.

    Imports are paid for once a process: this is what makes a suite of small runs quick.
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
    """Writes to the log whatever is left to write, as far as there is room: the schedule tells of a full disk."""
    with suppress(OSError):
        sys.stderr.write(text)
        sys.stderr.flush()
    with suppress(OSError):
        sys.stdout.flush()
