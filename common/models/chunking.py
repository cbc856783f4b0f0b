"""Running a step on as many rows at a time as fit into memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import cast

import torch
from torch import Tensor

from common.errors import UserError
from common.memory import halving
from common.types import SequenceBatch


def split_rows(batch: SequenceBatch, rows: int) -> Iterator[SequenceBatch]:
    """Chunks of a batch, each of at most ``rows`` rows."""
    for start in range(0, len(batch["history"]), rows):
        end = start + rows
        chunk = {key: value[start:end] if isinstance(value, Tensor) else value for key, value in batch.items()}
        yield cast(SequenceBatch, chunk)


def map_chunks_joined(
    step: Callable[[SequenceBatch], dict[str, Tensor]], batch: SequenceBatch, rows: int
) -> tuple[dict[str, Tensor], int]:
    """Runs ``step`` on each chunk of a batch, halving the chunks until they fit into memory.

    Args:
        step: Function of one chunk, which returns tensors with one row per input row.
        batch: The whole batch.
        rows: Rows per chunk to begin with.

    Returns:
        The results joined row by row, and the number of rows that fitted.

    Raises:
        UserError: If a single row does not fit; smaller training batches would not help.
    """
    refusal = UserError(
        "Out of memory: not even one row of an evaluation batch fits.",
        "Free memory, choose a smaller model, or rank sampled candidates (--data.val_protocol and "
        "--data.test_protocols).",
    )

    def joined(rows: int) -> dict[str, Tensor]:
        parts = [step(chunk) for chunk in split_rows(batch, rows)]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    most = min(rows, len(batch["history"]))
    result, fitted = halving(joined, most, refusal)
    # A small batch tells nothing of larger ones.
    return result, rows if fitted == most else fitted
