"""Freed memory is used again, numbers too small to be normal are zero, and threads add up in one order."""

from __future__ import annotations

import ctypes
import resource
import subprocess
import sys

import pytest

from benchmarks.processor import MIB

COUNT = f"""
import resource
{{setup}}
for turn in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [bytearray(b"1") * {16 * MIB} for _ in range(4)]
    del blocks
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


NORMAL = """
import torch
from benchmarks.cli import main
assert main(["prepare", "--help"]) == 0
torch.set_num_threads(2)
tiny = torch.full((2**20,), 1e-40)
print(int((tiny * 0.5).count_nonzero()))
"""

SUMS = """
import torch
from benchmarks.cli import main
assert main(["prepare", "--help"]) == 0
torch.set_num_threads(2)
states, chosen, weights = torch.zeros(50, 64), torch.arange(20000) % 50, torch.randn(20000, 64)
sums = set()
for _ in range(40):
    states.requires_grad_().grad = None
    (states[chosen] * weights).sum().backward()
    sums.add(states.grad.numpy().tobytes())
print(len(sums))
"""


def printed_by(code: str) -> int:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(done.stdout.splitlines()[-1])


def page_faults(setup: str) -> int:
    return printed_by(COUNT.format(setup=setup))


def test_numbers_too_small_to_be_normal_are_zero_in_every_thread() -> None:
    assert printed_by(NORMAL) == 0
    assert printed_by(NORMAL.replace("assert main", "# main")) == 2**20


def test_threads_add_up_gradients_in_the_same_order_each_time() -> None:
    assert printed_by(SUMS) == 1


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library has no mallopt")
def test_freed_memory_is_used_again_without_page_faults() -> None:
    pages = 64 * MIB // resource.getpagesize()
    assert page_faults("") > pages / 2
    assert page_faults("from benchmarks.processor import keep_freed_memory; keep_freed_memory()") < pages / 10
