"""Runs on this machine: forked from one warm process that has imported everything and used nothing."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from multiprocessing.connection import wait as wait_for
from multiprocessing.process import BaseProcess
from pathlib import Path

from benchmarks.launch.task import KILLED, Task, perform

PRELOADED = ["benchmarks.train", "benchmarks.configuration"]


class LocalLauncher:
    """Forks each run from a server process (multiprocessing's ``forkserver``), so that nothing is imported twice.

    A run has a process of its own: its memory, its random state and its death are its own. Runs on several devices
    start processes themselves, which a fork cannot; they are started afresh.

    Args:
        threads: Threads of each run; 0 for as many as it likes.
        accelerators: Number of accelerators to hand out, one a run; 0 for none.
    """

    def __init__(self, threads: int = 0, accelerators: int = 0) -> None:
        if threads:
            # Read when OpenMP and Polars are loaded, which happens in the server.
            os.environ["OMP_NUM_THREADS"] = os.environ["POLARS_MAX_THREADS"] = str(threads)
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(PRELOADED)
        self._free = list(range(accelerators))
        self._forked: dict[BaseProcess, tuple[Task, int | None]] = {}
        self._started: dict[subprocess.Popen[bytes], Task] = {}

    def start(self, task: Task) -> None:
        """Begins a task."""
        if task.devices > 1:
            with task.log.open("ab") as stream:
                self._started[subprocess.Popen(task.command, stdout=stream, stderr=stream)] = task
            return
        device = self._free.pop(0) if self._free else None
        process = self._context.Process(target=_forked, args=(task.arguments, task.log, task.threads, device))
        process.start()
        self._forked[process] = (task, device)

    def wait(self, seconds: float) -> list[tuple[Task, int]]:
        """Tasks that have ended, with their exit codes."""
        wait_for(
            [process.sentinel for process in self._forked], timeout=min(seconds, 0.2) if self._started else seconds
        )
        ended = []
        for process in [process for process in self._forked if process.exitcode is not None]:
            task, device = self._forked.pop(process)
            if device is not None:
                self._free.append(device)
            ended.append((task, KILLED if process.exitcode is None else process.exitcode))
            process.close()
        gone = [child for child in self._started if child.poll() is not None]
        return ended + [(self._started.pop(child), child.returncode) for child in gone]

    def close(self) -> None:
        """Ends whatever is still running."""
        for process in self._forked:
            process.kill()
        for child in self._started:
            child.kill()


def _forked(arguments: tuple[str, ...], log: Path, threads: int, device: int | None) -> None:
    _die_with_parent()
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(device)
    sys.exit(perform(arguments, log, threads))


def _die_with_parent() -> None:
    """Ends this process when the suite is gone, lest two processes write one run folder after a restart."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait_for([parent.sentinel])
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
