"""Peak memory is that of the measured block."""

import mmap
import time

from benchmarks.speed.memory import INTERVAL, MemoryAbove


def test_memory_above_sees_a_block_of_bytes() -> None:
    # Straight from the system: what Python asks for may lie in pages that it holds already.
    with MemoryAbove() as memory, mmap.mmap(-1, 2**26) as block:
        block.write(bytes(2**26))
        # A busy machine may not look for a while.
        deadline = time.monotonic() + 60
        while memory.bytes < 2**25 and time.monotonic() < deadline:
            time.sleep(INTERVAL)
    assert 2**25 < memory.bytes < 2**28
