"""Settings of the process: how it keeps memory, what it rounds to zero, and in which order it adds."""

from __future__ import annotations

import ctypes
import sys
from types import ModuleType

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3
"""Parameters of glibc's ``mallopt``."""
MIB = 2**20


def settle() -> None:
    """Keeps freed memory, computes with zero where a number is too small to be normal, and repeats itself.

    Must come before the first computation: later, PyTorch's other threads would not follow.
    """
    keep_freed_memory()
    # A command that computes has imported PyTorch with its module; the others do not wait for it.
    if (torch := sys.modules.get("torch")) is not None:
        # Weights that nothing uses, and Adam's averages for items that few batches hold, decay below 1e-38, where a
        # processor takes ten to a hundred times as long.
        torch.set_flush_denormal(True)
        if not torch.accelerator.is_available():
            repeat_sums(torch)


def repeat_sums(torch: ModuleType) -> None:
    """Makes several threads add up gradients in the same order each time (PROTOCOL R3).

    Otherwise the gradient of a selection such as ``states[mask]`` is added up in the order in which threads happen to
    reach it. An accelerator pays for the same with slower kernels, so there it is left to the user.
    """
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Would fill each new tensor once more, to uncover reads of memory that nothing has written.
    torch.utils.deterministic.fill_uninitialized_memory = False


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
