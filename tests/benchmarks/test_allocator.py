"""Freed memory is used again without asking the system for it."""

from __future__ import annotations

import ctypes
import resource
import subprocess
import sys

import pytest

from benchmarks import allocator

if not hasattr(ctypes.CDLL(None), "mallopt"):
    pytest.skip("the C library has no mallopt", allow_module_level=True)

COUNT = f"""
import resource
{{setup}}
for turn in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [bytearray(b"1") * {16 * allocator.MIB} for _ in range(4)]
    del blocks
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(setup: str) -> int:
    done = subprocess.run([sys.executable, "-c", COUNT.format(setup=setup)], capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_freed_memory_is_used_again_without_page_faults() -> None:
    pages = 64 * allocator.MIB // resource.getpagesize()
    assert page_faults("") > pages / 2
    assert page_faults("from benchmarks.allocator import keep_freed_memory; keep_freed_memory()") < pages / 10
