"""Embeddings that give items and users without training events the mean vector."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from common.types import PAD


class ItemEmbedding(nn.Embedding):
    """Embedding table of items, row 0 for padding.

    Outside training, an item without any training event has the mean vector of the trained items: its own row
    is the random start, or what being drawn as a negative made of it, and neither is knowledge of the item.

    Args:
        num_items: Number of items; the table has ``num_items + 1`` rows.
        width: Width of a vector.
        padding_idx: Row that is kept at zero, or ``None`` for a trained padding row.
    """

    trained: Tensor | None

    def __init__(self, num_items: int, width: int, padding_idx: int | None = PAD) -> None:
        super().__init__(num_items + 1, width, padding_idx=padding_idx)
        self.register_buffer("trained", None, persistent=False)

    def mark_trained(self, trained: Bool[Tensor, "i_plus_1"]) -> None:
        """Tells which items occur in training events; entry 0 (padding) is ignored.

        Args:
            trained: Whether each id has a training event, shape ``(num_items + 1,)``.
        """
        trained = trained.clone()
        trained[PAD] = True
        self.trained = None if bool(trained.all()) else trained.to(self.weight.device)

    def table(self) -> Float[Tensor, "i_plus_1 d"]:
        """The whole table, shape ``(num_items + 1, width)``, as scoring sees it."""
        if self.training or self.trained is None:
            return self.weight
        share = self.trained.to(self.weight.dtype)
        share[PAD] = 0.0
        mean = share @ self.weight / share.sum().clamp(min=1)
        return torch.where(self.trained[:, None], self.weight, mean)

    def forward(self, items: Int[Tensor, "..."]) -> Float[Tensor, "... d"]:
        """Looks up vectors, shape ``(..., width)``."""
        return F.embedding(items, self.table(), self.padding_idx if self.training else None)


class UserEmbedding(nn.Embedding):
    """Embedding table of users, row 0 for an unknown user.

    Outside training, a user without any training event, and the unknown user, have the mean vector of the trained
    users: a random start says nothing about them. Users are looked up, never listed whole, so the mean is formed
    only where a batch holds such a user.

    Args:
        num_users: Number of users; the table has ``num_users + 1`` rows.
        width: Width of a vector.
    """

    trained: Tensor | None

    def __init__(self, num_users: int, width: int) -> None:
        super().__init__(num_users + 1, width, padding_idx=PAD)
        self.register_buffer("trained", None, persistent=False)

    def mark_trained(self, trained: Bool[Tensor, "u_plus_1"]) -> None:
        """Tells which users have training events; entry 0 (the unknown user) is ignored.

        Args:
            trained: Whether each id has a training event, shape ``(num_users + 1,)``.
        """
        trained = trained.clone()
        trained[PAD] = False
        self.trained = trained.to(self.weight.device)

    def forward(self, users: Int[Tensor, "..."]) -> Float[Tensor, "... d"]:
        """Looks up vectors, shape ``(..., width)``."""
        vectors = super().forward(users)
        if self.training or self.trained is None:
            return vectors
        known = self.trained[users]
        if known.all():
            return vectors
        return torch.where(known[..., None], vectors, self.weight[self.trained].mean(0))
