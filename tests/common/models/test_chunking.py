"""Chunks of a batch join to the whole, and shrink until they fit."""

import pytest
import torch
from lightning.pytorch.utilities.memory import is_oom_error
from torch import Tensor

from common.errors import UserError
from common.models.chunking import map_chunks_joined, split_rows
from common.types import SequenceBatch


def batch(rows: int) -> SequenceBatch:
    return {"history": torch.arange(rows)[:, None], "protocol": "full"}


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 10])
def test_chunks_hold_every_row_once_and_keep_what_is_no_tensor(rows: int) -> None:
    chunks = list(split_rows(batch(7), rows))
    assert torch.cat([chunk["history"] for chunk in chunks])[:, 0].tolist() == list(range(7))
    assert max(len(chunk["history"]) for chunk in chunks) == min(rows, 7)
    assert {chunk["protocol"] for chunk in chunks} == {"full"}


def step_with_room(room: int) -> tuple[list[int], object]:
    tried: list[int] = []

    def step(chunk: SequenceBatch) -> dict[str, Tensor]:
        tried.append(len(chunk["history"]))
        if len(chunk["history"]) > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return {"double": chunk["history"] * 2}

    return tried, step


def test_what_does_not_fit_is_halved_until_it_does() -> None:
    tried, step = step_with_room(3)
    joined, rows = map_chunks_joined(step, batch(8), 8)  # type: ignore[arg-type]  # `step` is typed as object
    assert joined["double"][:, 0].tolist() == [2 * i for i in range(8)]
    assert rows == 2
    assert tried == [8, 4, 2, 2, 2, 2]


def test_a_row_that_does_not_fit_is_an_error_that_no_smaller_training_batch_cures() -> None:
    tried, step = step_with_room(0)
    with pytest.raises(UserError, match="not even one row") as caught:
        map_chunks_joined(step, batch(4), 4)  # type: ignore[arg-type]  # `step` is typed as object
    assert tried == [4, 2, 1]
    assert not is_oom_error(caught.value)


def test_another_error_is_not_taken_for_lack_of_memory() -> None:
    def step(chunk: SequenceBatch) -> dict[str, Tensor]:
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        map_chunks_joined(step, batch(4), 4)
