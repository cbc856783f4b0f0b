"""Rows of tokens of unlike length: padding them, counting their positions, batching like with like.

All rows are padded on the left: what a language model says next then stands in the same columns for every row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

WINDOW = 50
"""Batches whose rows are sorted by length together."""


class Tokens(NamedTuple):
    """Token ids, padded on the left, and which of them are real."""

    ids: Int[Tensor, "b t"]
    real: Bool[Tensor, "b t"]

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]], device: torch.device | None = None) -> Tokens:
        """Pads rows on the left; padded places hold id 0, which nothing looks at.

        >>> Tokens.of([[5], [6, 7]]).ids.tolist()
        [[0, 5], [6, 7]]
        """
        lengths = torch.tensor([len(row) for row in rows])
        width = int(lengths.max())
        real = torch.arange(width) >= (width - lengths)[:, None]
        ids = torch.zeros(len(rows), width, dtype=torch.long)
        ids[real] = torch.tensor([token for row in rows for token in row], dtype=torch.long)
        return cls(ids.to(device), real.to(device))


class Sizes(NamedTuple):
    """What the length of a prompt depends on, as the model that reads it knows it."""

    items: Int[Tensor, "i_plus_1"]
    """Tokens of each item's title, as it was cut, with all that stands around it; 0 for padding."""
    shown_history: int
    """Items of the history that count."""


def positions(real: Bool[Tensor, "b t"]) -> Int[Tensor, "b t"]:
    """Place of each real token among those of its row, counted from 0; 0 where padded.

    >>> positions(torch.tensor([[False, True, True]])).tolist()
    [[0, 0, 1]]
    """
    return (real.long().cumsum(1) - 1).clamp(min=0)


def splice(
    embeddings: Float[Tensor, "b t d"], slots: Bool[Tensor, "b t"], soft: Float[Tensor, "s d"]
) -> Float[Tensor, "b t d"]:
    """Puts vectors into slots, row after row, in one scatter.

    Args:
        embeddings: Vectors of all tokens; those of slots are not read.
        slots: Where vectors go.
        soft: As many vectors as there are slots.

    Raises:
        ValueError: If there are more or fewer.
    """
    if int(slots.sum()) != len(soft):
        raise ValueError(f"{len(soft)} vectors for {int(slots.sum())} slots")
    return embeddings.masked_scatter(slots[..., None], soft.to(embeddings.dtype))


def similar_lengths(
    lengths: Int[Tensor, "n"], batch_size: int, generator: torch.Generator | None = None
) -> list[Int[Tensor, "_"]]:
    """Batches of rows that are about as long as each other.

    Rows are shuffled and cut into windows of 50 batches; within a window they are sorted by length, and the batches of
    all windows are shuffled. So batches change with every epoch and padding stays rare.

    Args:
        lengths: Length of each row.
        batch_size: Rows per batch; the last batch may have fewer.
        generator: Source of the order; ``None`` keeps the rows in one window, longest first, without any shuffling.
    """
    if generator is None:
        return _cut(lengths.argsort(descending=True, stable=True), batch_size)
    batches = []
    for rows in _cut(torch.randperm(len(lengths), generator=generator), WINDOW * batch_size):
        batches += _cut(rows[lengths[rows].argsort(stable=True)], batch_size)
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def in_batches(
    lengths: Int[Tensor, "n"], size: int, step: Callable[[Int[Tensor, "b"]], Float[Tensor, "b d"]]
) -> Float[Tensor, "n d"]:
    """Runs a step on batches of rows of similar length, and puts its results back into the order of the rows.

    Args:
        lengths: Length of each row.
        size: Rows per batch.
        step: Makes one vector per row of a batch, which is given as the numbers of its rows.
    """
    batches = similar_lengths(lengths, size)
    made = torch.cat([step(rows) for rows in batches])
    return made[torch.cat(batches).argsort().to(made.device)]


def padding_share(batches: Sequence[Int[Tensor, "_"]]) -> float:
    """Share of padded places among all places of batches, of which the lengths of the rows are given.

    >>> padding_share([torch.tensor([1, 4])])
    0.375
    """
    places = sum(len(lengths) * int(lengths.max()) for lengths in batches)
    return 1 - sum(int(lengths.sum()) for lengths in batches) / places


def _cut(rows: Int[Tensor, "n"], size: int) -> list[Int[Tensor, "_"]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]
