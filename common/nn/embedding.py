"""Item embedding that gives untrained items the mean vector."""

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
