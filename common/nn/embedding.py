"""Embeddings of items and users that replace rows without training events by the mean vector."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from common.types import PAD


class _MeanForUntrained(nn.Embedding):
    """Embedding that, outside training, replaces untrained rows by the mean of the trained ones.

    An untrained row holds its random initialisation, shifted only by being sampled as a negative; neither carries
    information about the item or user.

    Args:
        num_entities: Number of items or users; the table has ``num_entities + 1`` rows.
        width: Width of a vector.
        padding_idx: Row that is kept at zero, or ``None`` for a trained padding row.
    """

    trained: Tensor | None

    def __init__(self, num_entities: int, width: int, padding_idx: int | None = PAD) -> None:
        super().__init__(num_entities + 1, width, padding_idx=padding_idx)
        self.register_buffer("trained", None, persistent=False)

    def mark_trained(self, trained: Bool[Tensor, "n_plus_1"]) -> None:
        """Marks the rows that occur in training events.

        Args:
            trained: Whether each id has a training event, shape ``(num_entities + 1,)``; entry 0 is ignored.
        """
        self.trained = F.pad(trained[1:], (1, 0)).to(self.weight.device)

    def table(self) -> Float[Tensor, "n_plus_1 d"]:
        """The whole table, shape ``(num_entities + 1, width)``, as scoring sees it."""
        if self.training or self.trained is None:
            return self.weight
        return torch.where(self.kept(self.trained)[:, None], self.weight, self.mean(self.trained))

    def mean(self, trained: Bool[Tensor, "n_plus_1"]) -> Float[Tensor, "d"]:
        """Mean vector of the trained rows, shape ``(width,)``."""
        total = trained.to(self.weight.dtype) @ self.weight
        # Not in float16, which ends at 65,504.
        exact = total.to(torch.promote_types(total.dtype, torch.float32))
        return (exact / trained.sum().clamp(min=1)).to(total.dtype)

    def kept(self, trained: Bool[Tensor, "n_plus_1"]) -> Bool[Tensor, "n_plus_1"]:
        """Rows that scoring uses as they are."""
        return trained

    def forward(self, ids: Int[Tensor, "..."]) -> Float[Tensor, "... d"]:
        """Looks up vectors, shape ``(..., width)``; only the rows that are asked for are replaced."""
        # A subclass may make its table from more than the weights.
        own_table = type(self).table is not _MeanForUntrained.table
        if self.training or self.trained is None or own_table:
            return F.embedding(ids, self.table(), self.padding_idx if self.training else None)
        kept = self.kept(self.trained)[ids]
        return torch.where(kept[..., None], F.embedding(ids, self.weight), self.mean(self.trained))


class ItemEmbedding(_MeanForUntrained):
    """Embedding table of items; row 0 is padding and is never replaced."""

    def kept(self, trained: Bool[Tensor, "n_plus_1"]) -> Bool[Tensor, "n_plus_1"]:
        """Trained rows and padding."""
        return trained.index_fill(0, torch.zeros(1, dtype=torch.long, device=trained.device), True)


class UserEmbedding(_MeanForUntrained):
    """Embedding table of users; row 0 is an unknown user and has the mean vector.

    Args:
        num_users: Number of users; the table has ``num_users + 1`` rows.
        width: Width of a vector.
    """

    def __init__(self, num_users: int, width: int) -> None:
        super().__init__(num_users, width)
