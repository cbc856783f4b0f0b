"""Running a step on as many rows at a time as memory holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar, cast

import torch
from lightning.pytorch.utilities.memory import garbage_collection_cuda, is_oom_error
from torch import Tensor

from common.types import SequenceBatch

ResultT = TypeVar("ResultT")


def split_rows(batch: SequenceBatch, rows: int) -> Iterator[SequenceBatch]:
    """Pieces of a batch, each of at most ``rows`` rows."""
    for start in range(0, len(batch["history"]), rows):
        end = start + rows
        piece = {key: value[start:end] if isinstance(value, Tensor) else value for key, value in batch.items()}
        yield cast(SequenceBatch, piece)


def by_pieces(step: Callable[[SequenceBatch], ResultT], batch: SequenceBatch, rows: int) -> tuple[list[ResultT], int]:
    """Runs ``step`` on pieces of a batch, halving the pieces until they fit into memory.

    Args:
        step: What is done with a piece.
        batch: The whole batch.
        rows: Rows of a piece to begin with.

    Returns:
        The result of each piece, and the number of rows that fitted.

    Raises:
        RuntimeError: If a single row does not fit.
    """
    while True:
        try:
            return [step(piece) for piece in split_rows(batch, rows)], rows
        except RuntimeError as error:
            rows = min(rows, len(batch["history"])) // 2
            if not is_oom_error(error) or rows == 0:
                raise
        # Outside the handler, whose traceback still holds the tensors of the failed attempt.
        garbage_collection_cuda()


def in_pieces(
    step: Callable[[SequenceBatch], dict[str, Tensor]], batch: SequenceBatch, rows: int
) -> tuple[dict[str, Tensor], int]:
    """As :func:`by_pieces`, for a ``step`` whose tensors have a row for each of its rows: the results are joined."""
    parts, rows = by_pieces(step, batch, rows)
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}, rows
