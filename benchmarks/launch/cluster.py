"""Runs as Ray tasks, on this machine or on a cluster that shares the file system."""

from __future__ import annotations

import importlib.util
import logging
import math
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.launch.guard import Guarded
from benchmarks.launch.task import KILLED, Task, command_of, perform
from common.errors import UserError

ANSWER_SECONDS = 30.0
"""How long a cluster may take to answer a health check."""


@dataclass(frozen=True)
class Node:
    """A machine of a cluster.

    Attributes:
        processors: Number of its processors.
        accelerators: Number of its accelerators.
    """

    processors: int
    accelerators: int = 0


def share(nodes: Sequence[Node], jobs: int | None, threads: int | None) -> tuple[int, int]:
    """The number of devices of a cluster to keep busy, and the number of threads for each.

    One run per accelerator; without accelerators one per machine, or as many as fit if each takes ``threads``. Threads
    are as many as still let all runs fit, each on a single machine.

    Args:
        nodes: The machines.
        jobs: The requested number of devices, if any.
        threads: The requested number of threads, if any.
    """
    using = [node for node in nodes if node.accelerators] or list(nodes)

    def slots(threads: int) -> int:
        return sum(int(min(node.processors // threads, node.accelerators or math.inf)) for node in using)

    jobs = jobs or sum(node.accelerators for node in nodes) or (slots(threads) if threads else len(using)) or 1
    most = max((node.processors for node in using), default=1)
    return jobs, threads or max((count for count in range(1, most + 1) if slots(count) >= jobs), default=1)


class RayLauncher:
    """Submits each run to Ray, which places it where processors and accelerators are free.

    A worker imports once and carries out many runs; a run on several devices is a separate process. Stores and run
    folders must have the same path on every machine.

    Args:
        address: A cluster's address, or ``None`` for that in ``RAY_ADDRESS`` or, without one, to start Ray here.
        jobs: Number of devices to keep busy; chosen from what the cluster has when omitted.
        threads: Threads per device; chosen from what the cluster has when omitted.

    Attributes:
        nodes: The cluster's machines that have processors.
        jobs: Number of devices to keep busy.
        threads: Threads per device.

    Raises:
        UserError: If Ray is not installed, or there is no cluster at ``address``.
    """

    def __init__(self, address: str | None = None, jobs: int | None = None, threads: int | None = None) -> None:
        if importlib.util.find_spec("ray") is None:
            raise UserError("Ray is not installed.", "Install it with `pip install 'recbench[ray]'`.")
        import ray

        address = address or os.environ.get("RAY_ADDRESS") or None
        if address:
            _require_answer(address)
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        try:
            ray.init(
                # Without a word, Ray would look for the cluster last begun on this machine, even if it is long gone.
                address=address or "local",
                include_dashboard=False if address is None else None,
                log_to_driver=False,
                logging_level=logging.ERROR,
                ignore_reinit_error=True,
            )
        except (ConnectionError, ValueError, RuntimeError, OSError) as error:
            raise _no_cluster(address or "this machine", error) from error
        self._ray: Any = ray
        found = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        self.nodes = [Node(int(one["CPU"]), int(one.get("GPU", 0))) for one in found if one.get("CPU", 0) >= 1]
        self.jobs, self.threads = share(self.nodes, jobs, threads)
        # The suite retries the run of a lost worker itself, and records it. A worker that has used a GPU cannot change
        # to another one.
        self._perform = ray.remote(max_retries=0, max_calls=1)(_perform)
        self._running: dict[Any, Task] = {}

    def start(self, task: Task) -> None:
        """Starts a task."""
        reference = self._perform.options(name=task.label, **self._needs(task)).remote(
            task.arguments, str(task.log.absolute()), task.threads, str(Path.cwd()), task.devices
        )
        self._running[reference] = task

    def _needs(self, task: Task) -> dict[str, int]:
        """The resources to request from Ray, at most what some machine has: Ray would wait forever for more."""
        most = max((node.accelerators for node in self.nodes), default=0)
        accelerators = min(task.devices, most)
        processors = max(1, task.threads) * task.devices
        able = [node.processors for node in self.nodes if node.accelerators >= accelerators]
        return {"num_cpus": min(processors, max(able, default=processors)), "num_gpus": accelerators}

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
        """Ends everything that is still running."""
        for reference in self._running:
            self._ray.cancel(reference, force=True)
        self._ray.shutdown()


def _require_answer(address: str) -> None:
    """Checks that a Ray cluster answers at ``host:port``: Ray itself would retry for minutes, then end the process."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if not colon:
        return
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, ValueError) as error:
        raise _no_cluster(address, error) from error
    if "://" in address:
        return
    asking = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    try:
        subprocess.run(asking, check=True, capture_output=True, timeout=ANSWER_SECONDS)
    except subprocess.SubprocessError as error:
        raise _no_cluster(address, RuntimeError("what listens there is not Ray, or is not healthy")) from error


def _no_cluster(address: str, error: Exception) -> UserError:
    reason = str(error).strip().splitlines()[0]
    cure = "Start one with `ray start --head`, and give the address that it prints as --address."
    return UserError(f"There is no Ray cluster at {address}: {reason}", cure)


def _perform(arguments: tuple[str, ...], log: str, threads: int, folder: str, devices: int) -> int:
    os.chdir(folder)
    if devices > 1:
        limits = {"OMP_NUM_THREADS": str(threads), "POLARS_MAX_THREADS": str(threads)} if threads else {}
        return Guarded(command_of(arguments), Path(log), limits).wait()
    return perform(arguments, Path(log), threads)
