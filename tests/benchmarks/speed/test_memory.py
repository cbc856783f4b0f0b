"""Memory is measured above what was in use."""

import mmap

from benchmarks.speed.memory import MemoryAbove


def test_memory_above_sees_a_block_of_bytes() -> None:
    # Straight from the system: what Python asks for may lie in pages that it holds already.
    with MemoryAbove() as memory, mmap.mmap(-1, 2**26) as block:
        block.write(bytes(2**26))
    assert 2**25 < memory.bytes < 2**28
