"""Settings of the process without which a processor computes far more slowly."""

from __future__ import annotations

import ctypes
import sys

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3
"""Parameters of glibc's ``mallopt``."""
MIB = 2**20


def settle() -> None:
    """Keeps freed memory, and computes with zero where a number is too small to be normal.

    Must come before the first computation: later, PyTorch's other threads would not follow.
    """
    keep_freed_memory()
    # A command that computes has imported PyTorch with its module; the others do not wait for it.
    if (torch := sys.modules.get("torch")) is not None:
        # Weights that nothing uses, and Adam's averages for items that few batches hold, decay below 1e-38, where a
        # processor takes ten to a hundred times as long.
        torch.set_flush_denormal(True)


def keep_freed_memory() -> None:
    """Keeps up to 1 GiB of freed memory for the next allocations instead of returning it to the system.

    A training step allocates as much as the one before. Were its memory returned in between, the system would hand it
    out again page by page, each filled with zeros: a tenth of LRD's training time. It applies to glibc alone; other C
    libraries have no such setting.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        # 32 MiB is the most that glibc takes for this one; larger blocks are always returned.
        for parameter, size in ((MMAP_THRESHOLD, 32 * MIB), (TRIM_THRESHOLD, 1024 * MIB), (TOP_PAD, 64 * MIB)):
            mallopt(parameter, size)
