"""Pieces of a batch join to the whole, and shrink until they fit."""

import pytest
import torch
from torch import Tensor

from common.models.pieces import in_pieces, split_rows
from common.types import SequenceBatch


def batch(rows: int) -> SequenceBatch:
    return {"history": torch.arange(rows)[:, None], "protocol": "full"}


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 10])
def test_pieces_hold_every_row_once_and_keep_what_is_no_tensor(rows: int) -> None:
    pieces = list(split_rows(batch(7), rows))
    assert torch.cat([piece["history"] for piece in pieces])[:, 0].tolist() == list(range(7))
    assert max(len(piece["history"]) for piece in pieces) == min(rows, 7)
    assert {piece["protocol"] for piece in pieces} == {"full"}


def step_with_room(room: int) -> tuple[list[int], object]:
    tried: list[int] = []

    def step(piece: SequenceBatch) -> dict[str, Tensor]:
        tried.append(len(piece["history"]))
        if len(piece["history"]) > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return {"double": piece["history"] * 2}

    return tried, step


def test_what_does_not_fit_is_halved_until_it_does() -> None:
    tried, step = step_with_room(3)
    joined, rows = in_pieces(step, batch(8), 8)  # type: ignore[arg-type]
    assert joined["double"][:, 0].tolist() == [2 * i for i in range(8)]
    assert rows == 2
    assert tried == [8, 4, 2, 2, 2, 2]


def test_a_row_that_does_not_fit_is_an_error() -> None:
    _, step = step_with_room(0)
    with pytest.raises(torch.OutOfMemoryError):
        in_pieces(step, batch(4), 4)  # type: ignore[arg-type]


def test_another_error_is_not_taken_for_lack_of_memory() -> None:
    def step(piece: SequenceBatch) -> dict[str, Tensor]:
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        in_pieces(step, batch(4), 4)
