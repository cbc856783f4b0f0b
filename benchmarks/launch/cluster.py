"""Runs as Ray tasks, on this machine or on a cluster that shares the file system."""

from __future__ import annotations

import importlib.util
import logging
import os
import socket
from pathlib import Path
from typing import Any

from benchmarks.launch.task import KILLED, Task, perform
from common.errors import UserError


class RayLauncher:
    """Hands each run to Ray, which places it where the processors and accelerators are.

    A worker imports once and carries out many runs. Stores and run folders must be at the same place on every machine.

    Args:
        address: A cluster's address, or ``None`` to start Ray here.
        processors: Processors of each run.
        accelerators: Accelerators of each run.

    Raises:
        UserError: If Ray is not installed, or there is no cluster at ``address``.
    """

    def __init__(self, address: str | None = None, processors: int = 1, accelerators: int = 0) -> None:
        if importlib.util.find_spec("ray") is None:
            raise UserError("Ray is not installed.", "Install it with `pip install 'recbench[ray]'`.")
        import ray

        if address:
            _require_answer(address)
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        try:
            ray.init(
                address=address,
                include_dashboard=False if address is None else None,
                log_to_driver=False,
                logging_level=logging.ERROR,
                ignore_reinit_error=True,
            )
        except (ConnectionError, ValueError, RuntimeError, OSError) as error:
            raise _no_cluster(address or "this machine", error) from error
        self._ray = ray
        # A lost worker is retried by the suite, which writes it down.
        remote = ray.remote(num_cpus=processors, num_gpus=accelerators, max_retries=0)
        self._perform = remote(_perform)
        self._running: dict[Any, Task] = {}

    def start(self, task: Task) -> None:
        """Begins a task."""
        reference = self._perform.options(name=task.label).remote(
            task.arguments, str(task.log.absolute()), task.threads, str(Path.cwd())
        )
        self._running[reference] = task

    def wait(self, seconds: float) -> list[tuple[Task, int]]:
        """Tasks that have ended, with their exit codes."""
        if not self._running:
            return []
        ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=seconds)
        ended = []
        for reference in ready:
            task = self._running.pop(reference)
            try:
                code = int(self._ray.get(reference))
            except self._ray.exceptions.RayError as error:
                with task.log.open("a") as stream:
                    stream.write(f"Ray: {error}\n")
                code = KILLED
            ended.append((task, code))
        return ended

    def close(self) -> None:
        """Ends whatever is still running."""
        for reference in self._running:
            self._ray.cancel(reference, force=True)
        self._ray.shutdown()


def _require_answer(address: str) -> None:
    """Knocks at ``host:port``: Ray itself would try for minutes, and then end the process."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if not colon:
        return
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, ValueError) as error:
        raise _no_cluster(address, error) from error


def _no_cluster(address: str, error: Exception) -> UserError:
    reason = str(error).strip().splitlines()[0]
    cure = "Start one with `ray start --head`, and give what it prints as --address."
    return UserError(f"There is no Ray cluster at {address}: {reason}", cure)


def _perform(arguments: tuple[str, ...], log: str, threads: int, folder: str) -> int:
    os.chdir(folder)
    return perform(arguments, Path(log), threads)
