"""Runs on this machine: forked from one process that has imported everything but used nothing yet."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Mapping
from multiprocessing.connection import wait as wait_for
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from benchmarks.launch.devices import Devices, only_visible
from benchmarks.launch.guard import Guarded
from benchmarks.launch.task import KILLED, Task, perform

LIMITS = ("OMP_NUM_THREADS", "POLARS_MAX_THREADS")
"""What OpenMP and Polars read when they are loaded, which happens in the server."""
PRELOADED = ["benchmarks.train", "benchmarks.configuration"]


class LocalLauncher:
    """Forks each run from a server process (multiprocessing's ``forkserver``), so that nothing is imported twice.

    Each run has its own process, and with it its own memory and random state; a crash affects no other run. Runs on
    several devices start processes themselves, which a fork cannot do: they are started as new programs, once enough
    devices are free. So are tasks without the limit on threads that the server has. No run outlives this process.

    Args:
        threads: Threads per run; 0 for no limit.
        accelerators: Number of accelerators to assign; 0 for none.
    """

    def __init__(self, threads: int = 0, accelerators: int = 0) -> None:
        self._whole: dict[str, str] = {}
        """What lifts the limit again from a task without one."""
        if threads:
            self._whole = dict.fromkeys(LIMITS, str(torch.get_num_threads()))
            os.environ |= dict.fromkeys(LIMITS, str(threads))
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(PRELOADED)
        self._devices = Devices(accelerators)
        self._queued: list[Task] = []
        self._forked: dict[BaseProcess, tuple[Task, list[str]]] = {}
        self._started: dict[Guarded, tuple[Task, list[str]]] = {}

    def start(self, task: Task) -> None:
        """Starts a task as soon as its devices are free."""
        self._queued.append(task)
        self._begin()

    def _begin(self) -> None:
        """Starts the tasks that have devices, in order: otherwise a task that needs many could be overtaken forever."""
        while self._queued and (devices := self._devices.take(self._queued[0].devices)) is not None:
            task, visible = self._queued.pop(0), only_visible(devices)
            unlimited = {} if task.threads else self._whole
            if task.devices > 1 or unlimited:
                self._started[Guarded(task.command, task.log, visible | unlimited)] = (task, devices)
            else:
                process = self._context.Process(target=_forked, args=(task.arguments, task.log, task.threads, visible))
                process.start()
                self._forked[process] = (task, devices)

    def wait(self, seconds: float) -> list[tuple[Task, int]]:
        """Tasks that have ended, with their exit codes."""
        wait_for(
            [process.sentinel for process in self._forked], timeout=min(seconds, 0.2) if self._started else seconds
        )
        ended = []
        for process in [process for process in self._forked if process.exitcode is not None]:
            ended.append((*self._forked.pop(process), KILLED if process.exitcode is None else process.exitcode))
            process.close()
        for child, code in [(child, child.poll()) for child in self._started]:
            if code is not None:
                ended.append((*self._started.pop(child), code))
        for _, devices, _ in ended:
            self._devices.give_back(devices)
        self._begin()
        return [(task, code) for task, _, code in ended]

    def close(self) -> None:
        """Ends everything that is still running."""
        for process in self._forked:
            process.kill()
        for child in self._started:
            child.kill()


def _forked(arguments: tuple[str, ...], log: Path, threads: int, visible: Mapping[str, str]) -> None:
    _die_with_parent()
    os.environ.update(visible)
    sys.exit(perform(arguments, log, threads))


def _die_with_parent() -> None:
    """Ends this process with the suite's, so that no two processes write one run folder after a restart."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait_for([parent.sentinel])
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
