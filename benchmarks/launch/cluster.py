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
"""How long a cluster may take to say that it is well."""


@dataclass(frozen=True)
class Node:
    """A machine of a cluster.

    Attributes:
        processors: Its processors.
        accelerators: Its accelerators.
    """

    processors: int
    accelerators: int = 0


def share(nodes: Sequence[Node], jobs: int | None, threads: int | None) -> tuple[int, int]:
    """How many devices of a cluster are busy at a time, and how many threads there are for each.

    One run per accelerator; without any, one per machine, or as many as ``threads`` leave room for. As many threads as
    let all of them run at a time, none of them on two machines.

    Args:
        nodes: Its machines.
        jobs: How many devices are asked for, if any number is.
        threads: How many threads are asked for, if any number is.
    """
    using = [node for node in nodes if node.accelerators] or list(nodes)

    def places(threads: int) -> int:
        return sum(int(min(node.processors // threads, node.accelerators or math.inf)) for node in using)

    jobs = jobs or sum(node.accelerators for node in nodes) or (places(threads) if threads else len(using)) or 1
    most = max((node.processors for node in using), default=1)
    return jobs, threads or max((count for count in range(1, most + 1) if places(count) >= jobs), default=1)


class RayLauncher:
    """Hands each run to Ray, which places it where the processors and accelerators are.

    A worker imports once and carries out many runs; one of several devices is a process of its own beside it. Stores
    and run folders must be at the same place on every machine.

    Args:
        address: A cluster's address, or ``None`` to start Ray here.
        jobs: How many devices are busy at a time; by what the cluster has when omitted.
        threads: Threads of each device; by what the cluster has when omitted.

    Attributes:
        nodes: The cluster's machines that have processors.
        jobs: How many devices are busy at a time.
        threads: Threads of each device.

    Raises:
        UserError: If Ray is not installed, or there is no cluster at ``address``.
    """

    def __init__(self, address: str | None = None, jobs: int | None = None, threads: int | None = None) -> None:
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
        self._ray: Any = ray
        found = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        self.nodes = [Node(int(one["CPU"]), int(one.get("GPU", 0))) for one in found if one.get("CPU", 0) >= 1]
        self.jobs, self.threads = share(self.nodes, jobs, threads)
        # A lost worker is retried by the suite, which writes it down.
        self._perform = ray.remote(max_retries=0)(_perform)
        self._running: dict[Any, Task] = {}

    def start(self, task: Task) -> None:
        """Begins a task."""
        reference = self._perform.options(name=task.label, **self._needs(task)).remote(
            task.arguments, str(task.log.absolute()), task.threads, str(Path.cwd()), task.devices
        )
        self._running[reference] = task

    def _needs(self, task: Task) -> dict[str, int]:
        """What Ray is asked for, never more than a machine has: what no machine has would be waited for for ever."""
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
        """Ends whatever is still running."""
        for reference in self._running:
            self._ray.cancel(reference, force=True)
        self._ray.shutdown()


def _require_answer(address: str) -> None:
    """Knocks at ``host:port``, and asks who is there: Ray itself would try for minutes, and then end the process."""
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
        raise _no_cluster(address, RuntimeError("what listens there is not Ray, or is not well")) from error


def _no_cluster(address: str, error: Exception) -> UserError:
    reason = str(error).strip().splitlines()[0]
    cure = "Start one with `ray start --head`, and give what it prints as --address."
    return UserError(f"There is no Ray cluster at {address}: {reason}", cure)


def _perform(arguments: tuple[str, ...], log: str, threads: int, folder: str, devices: int) -> int:
    os.chdir(folder)
    if devices > 1:
        limits = {"OMP_NUM_THREADS": str(threads), "POLARS_MAX_THREADS": str(threads)} if threads else {}
        return Guarded(command_of(arguments), Path(log), limits).wait()
    return perform(arguments, Path(log), threads)
