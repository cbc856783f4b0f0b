"""Timing of a function, on the accelerator where there is one."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
"""Where models are measured."""


def best(action: Callable[[], object], repeats: int) -> float:
    """The shortest time of several repeats, in seconds."""
    seconds = []
    for _ in range(repeats):
        wait()
        started = time.perf_counter()
        action()
        wait()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def wait() -> None:
    """Waits until the device has finished computing."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize(DEVICE)
