"""The environment behind a number: code revision, versions, hardware, memory."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
PACKAGES = ("recbench", "torch", "lightning", "torchmetrics", "numpy", "polars", "jsonargparse", "transformers")


def environment() -> dict[str, Any]:
    """Code revision, versions and hardware of this process, as stored in ``result.json``."""
    return {"code": code_revision(), "versions": versions(), "hardware": hardware()}


def code_revision() -> dict[str, Any]:
    """Commit of the checkout and whether it has uncommitted changes; ``None`` for an installed package."""
    here, file = Path(__file__).resolve().parent, Path(__file__).name

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    # An installed package may lie inside another project's checkout.
    if git("ls-files", "--error-unmatch", file) is None:
        return {"sha": None, "dirty": None}
    status = git("status", "--porcelain")
    return {"sha": git("rev-parse", "HEAD"), "dirty": None if status is None else bool(status)}


def versions() -> dict[str, str]:
    """Versions of Python and of the installed packages."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, Any]:
    """Processor, cores, memory and accelerators."""
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {"processor": _processor(), "cores": cores(), "memory": pages, "gpus": gpus}


def cores() -> int:
    """Number of processors that this process may use: a cluster lends a part of a machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def forget_peak_memory() -> None:
    """Resets the peak: otherwise a process that carries out several runs reports the peak of its whole life."""
    # Where the system does not support it, the peak stays that of the whole life.
    with suppress(OSError):
        CLEAR_REFS.write_text("5")
    forget_device_peak()


def forget_device_peak() -> None:
    """Resets the peak of the accelerator alone."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_memory() -> dict[str, int]:
    """Peak resident bytes of this process, and peak bytes allocated on its accelerator."""
    unit = 1 if sys.platform == "darwin" else 1024
    peaks = [line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM")] if STATUS.is_file() else []
    host = int(peaks[0].split()[1]) if peaks else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    host *= unit
    device = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    return {"host": host, "device": device}


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
