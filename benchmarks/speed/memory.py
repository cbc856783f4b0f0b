"""Peak memory of a block of code, above what was in use at its start."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import TracebackType

import torch

from benchmarks.speed.timing import DEVICE

STATM = Path("/proc/self/statm")
PAGE = os.sysconf("SC_PAGE_SIZE")
INTERVAL = 0.005
"""Seconds between two samples of the resident memory of the process."""


class MemoryAbove:
    """Context manager that measures a block; afterwards ``bytes`` is its peak above the start.

    On an accelerator, the allocator's own peak is read; on the processor, a thread samples the resident memory and
    misses peaks shorter than :data:`INTERVAL`.

    Args:
        device: Whose memory is measured.
    """

    bytes = 0

    def __init__(self, device: torch.device = DEVICE) -> None:
        self.device = device

    def __enter__(self) -> MemoryAbove:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            self.start = torch.cuda.memory_allocated()
            return self
        self.start = resident()
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.device.type == "cuda":
            self.bytes = torch.cuda.max_memory_allocated() - self.start
            return
        self.stop.set()
        self.thread.join()
        self._look()

    def _watch(self) -> None:
        while True:
            self._look()
            if self.stop.wait(INTERVAL):
                return

    def _look(self) -> None:
        self.bytes = max(self.bytes, resident() - self.start)


def resident() -> int:
    """Resident bytes of this process; 0 if the system does not report them."""
    return int(STATM.read_text().split()[1]) * PAGE if STATM.is_file() else 0
