"""What the C library does with freed memory."""

from __future__ import annotations

import ctypes

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3
"""Parameters of glibc's ``mallopt``."""
MIB = 2**20


def keep_freed_memory() -> None:
    """Keeps up to 1 GiB of freed memory for the next allocations instead of returning it to the system.

    A training step allocates as much as the one before. Were its memory returned in between, the system would hand it
    out again page by page, each filled with zeros: a tenth of LRD's training time on a processor. It applies to glibc
    alone; other C libraries have no such setting.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        # 32 MiB is the most that glibc takes for this one; larger blocks are always returned.
        for parameter, size in ((MMAP_THRESHOLD, 32 * MIB), (TRIM_THRESHOLD, 1024 * MIB), (TOP_PAD, 64 * MIB)):
            mallopt(parameter, size)
