"""Items that carry their text: the control that uses language-model vectors without any relation."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from common.errors import UserError
from common.models.sasrec import SASRec
from common.nn.embedding import ItemEmbedding
from common.nn.losses import Objective
from common.types import Catalogue


class TextItemEmbedding(ItemEmbedding):
    """Learnt vectors plus a projection of frozen text vectors, ``v_i + W t_i``.

    Args:
        num_items: Rows of the table but for padding; those beyond the items have no text.
        width: Width of a vector.
        text_width: Width of the text vectors.
        padding_idx: As in :class:`ItemEmbedding`.
    """

    language: Tensor

    def __init__(self, num_items: int, width: int, text_width: int, padding_idx: int | None = 0) -> None:
        super().__init__(num_items, width, padding_idx)
        self.project = nn.Linear(text_width, width, bias=False)
        nn.init.normal_(self.project.weight, std=0.01)
        self.register_buffer("language", torch.zeros(num_items + 1, text_width), persistent=False)

    def attach(self, catalogue: Catalogue) -> None:
        """Receives the text vectors.

        Raises:
            UserError: If there are none, or of another width.
        """
        vectors = catalogue.get("text_vectors")
        if vectors is None or vectors.size(1) != self.language.size(1):
            raise UserError(
                "There are no item vectors of the width that the model was made for.",
                "Give --data.text_encoder, for example minilm; the same in training and evaluation.",
            )
        self.language[: len(vectors)] = vectors

    def table(self) -> Float[Tensor, "n_plus_1 d"]:
        """The whole table, shape ``(num_items + 1, width)``."""
        table: Tensor = super().table() + self.project(self.language)
        return table


class TextSASRec(SASRec):
    """SASRec as LRD's authors run it, with text added to the item vectors (:class:`TextItemEmbedding`).

    Args:
        num_items: Number of items.
        text_width: Width of the text vectors.
        max_history: Longest history that is read.
        width: Width of vectors and states.
        num_blocks: Number of blocks.
        num_heads: Attention heads of a block.
        dropout: Dropout rate.
        objective: Training loss.
        lr: Learning rate of Adam.
        weight_decay: L2 coefficient of Adam.
    """

    information_set = frozenset({"order", "text"})

    def __init__(
        self,
        num_items: int,
        text_width: int,
        max_history: int = 20,
        width: int = 64,
        num_blocks: int = 1,
        num_heads: int = 4,
        dropout: float = 0.0,
        objective: Objective = "bpr",
        lr: float = 1e-3,
        weight_decay: float = 1e-6,
    ) -> None:
        sizes: dict[str, Any] = {"width": width, "num_blocks": num_blocks, "num_heads": num_heads, "dropout": dropout}
        super().__init__(num_items, max_history, "lrd", objective=objective, lr=lr, weight_decay=weight_decay, **sizes)
        self.save_hyperparameters()
        vectors = TextItemEmbedding(num_items, width, text_width)
        vectors.weight = self.item_embedding.weight
        self.item_embedding = vectors

    def attach(self, catalogue: Catalogue) -> None:
        """Receives the text vectors."""
        super().attach(catalogue)
        assert isinstance(self.item_embedding, TextItemEmbedding)
        self.item_embedding.attach(catalogue)
