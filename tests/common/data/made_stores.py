"""Small stores of choice."""

from dataclasses import replace
from pathlib import Path

import polars as pl
import torch

from common.data.schema import Manifest
from common.data.splits import leave_one_out
from common.data.store import STORE_VERSION, Store, StoreTables, write_store
from tests.fixtures.histories import random_histories, split_of

ITEMS = 12


def manifest_of(**changes: object) -> Manifest:
    base = Manifest("tiny", "5-core", 1, STORE_VERSION, "0123456789abcdef", "real", "second", 0, ITEMS, 0, 0)
    return replace(base, **changes)  # type: ignore[arg-type]  # values of several types


def tables_of(histories: list[list[int]]) -> StoreTables:
    split = leave_one_out(split_of(histories)["sequences"])
    sequences = split["sequences"]
    users = torch.repeat_interleave(torch.arange(len(histories) + 1), sequences["offsets"].diff())
    events = {"user": users, "item": sequences["items"], "timestamp": sequences["times"]}
    frame = pl.DataFrame({name: values.numpy() for name, values in events.items()})
    words = [f"{i:02d}" for i in range(1, ITEMS + 1)]
    return StoreTables(
        interactions=frame.with_columns(rating=pl.lit(1.0)).with_row_index("row"),
        items=pl.DataFrame(
            {"item": words, "title": words, "text": words, "description": "", "brand": ["b", "", "a"] * 4}
        ),
        users=pl.DataFrame({"user": [f"u{i}" for i in range(len(histories))]}),
        relations=pl.DataFrame({"head": [1, 2, 5], "relation": ["y", "x", "y"], "tail": [2, 3, 6]}),
        splits={"leave_one_out": split},
        candidates={
            ("leave_one_out", "sampled-2"): {p: torch.tensor([[1, 2]], dtype=torch.int32) for p in ("val", "test")}
        },
    )


def write(root: Path, histories: list[list[int]] | None = None, **changes: object) -> Store:
    histories = histories or random_histories(6, ITEMS, 7)
    events = sum(map(len, histories))
    described: dict[str, object] = {"leave_one_out": {}}
    changes = {"num_users": len(histories), "num_interactions": events, "splits": described} | changes
    return write_store(root, manifest_of(**changes), tables_of(histories))
