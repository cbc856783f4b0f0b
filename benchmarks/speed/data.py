"""``recbench speed negatives`` and ``prepare``: what comes before a model."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import torch

from benchmarks.prepare import prepare
from benchmarks.speed.memory import MemoryAbove
from benchmarks.speed.timing import best
from common.data.datamodule import SequenceDataModule
from common.data.negatives import NegativeSampler, seeded
from common.data.splits import event_users

NEGATIVE_BATCH = 1 << 20


def measure_negatives(data: Mapping[str, Any], repeats: int) -> dict[str, Any]:
    """Negatives per second for users of random training events, sorted as in a batch of whole users and unsorted."""
    module = SequenceDataModule(**data)
    sampler = NegativeSampler("train", module.events, module.num_items)
    generator = seeded(0)
    train = module.catalogue["train"]
    owner = event_users(train)
    users = owner[torch.randint(len(owner), (NEGATIVE_BATCH,), generator=generator)]
    in_order = users.sort().values
    return {
        "samples": NEGATIVE_BATCH,
        "samples_per_second": NEGATIVE_BATCH / best(lambda: sampler.draw(in_order, 1, generator), repeats),
        "samples_per_second_random_users": NEGATIVE_BATCH / best(lambda: sampler.draw(users, 1, generator), repeats),
    }


def measure_prepare(data: dict[str, Any], repeats: int, source: Path | None, **sizes: int | None) -> dict[str, Any]:
    """Seconds to make a store from a source or from the sizes of a world, and peak memory above the start."""
    world: dict[str, Any] = {size: value for size, value in sizes.items() if value is not None}

    def make() -> None:
        with tempfile.TemporaryDirectory() as folder, redirect_stdout(StringIO()):
            prepare(**(data | world | {"source": source, "root": Path(folder), "json": True}))

    with MemoryAbove(torch.device("cpu")) as memory:
        seconds = best(make, repeats)
    return {**world, "seconds": seconds, "peak_bytes": memory.bytes}
