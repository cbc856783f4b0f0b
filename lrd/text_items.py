"""Items that carry their text: the control that uses language-model vectors without any relation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from common.errors import UserError
from common.models.hyperparameters import keep_own
from common.models.sasrec import SASRec
from common.nn.embedding import ItemEmbedding
from common.nn.losses import Objective
from common.types import Catalogue, SequenceBatch
from lrd.text_model import TextModel


class EntityEmbedding(ItemEmbedding):
    """Vectors of items and, behind them, of attribute values, which stay what they are and count in no mean.

    Args:
        num_items: Items; untrained ones have the mean vector of the trained in evaluation.
        width: Width of a vector.
        padding_idx: As in :class:`ItemEmbedding`.
        num_entities: Rows of the table, padding included; the items' by default.
    """

    def __init__(
        self, num_items: int, width: int, padding_idx: int | None = 0, num_entities: int | None = None
    ) -> None:
        self.num_values = 0 if num_entities is None else num_entities - 1 - num_items
        self._made: list[Tensor] = []
        super().__init__(num_items + self.num_values, width, padding_idx)

    def mark_trained(self, trained: Bool[Tensor, "i_plus_1"]) -> None:
        """Tells which items are trained, shape ``(num_items + 1,)``."""
        super().mark_trained(F.pad(trained, (0, self.num_values)))

    def kept(self, trained: Bool[Tensor, "n_plus_1"]) -> Bool[Tensor, "n_plus_1"]:
        """Trained items, padding and values."""
        kept = super().kept(trained)
        kept[len(kept) - self.num_values :] = True
        return kept

    @contextmanager
    def made_once(self) -> Iterator[None]:
        """Makes the table once for all that is looked up inside, where no weight may change."""
        self._made.append(self.table())
        try:
            yield
        finally:
            self._made.pop()

    def table(self) -> Float[Tensor, "n_plus_1 d"]:
        """The whole table, shape ``(num_items + num_values + 1, width)``."""
        return self._made[-1] if self._made else self._make()

    def _make(self) -> Float[Tensor, "n_plus_1 d"]:
        return super().table()


class TextItemEmbedding(EntityEmbedding):
    """Learnt vectors plus a projection of frozen text vectors, ``v_i + W t_i``; attribute values have no text.

    Args:
        num_items: Items.
        width: Width of a vector.
        text_width: Width of the text vectors.
        padding_idx: As in :class:`ItemEmbedding`.
        num_entities: As in :class:`EntityEmbedding`.
    """

    language: Tensor

    def __init__(
        self,
        num_items: int,
        width: int,
        text_width: int,
        padding_idx: int | None = 0,
        num_entities: int | None = None,
    ) -> None:
        super().__init__(num_items, width, padding_idx, num_entities)
        self.project = nn.Linear(text_width, width, bias=False)
        nn.init.normal_(self.project.weight, std=0.01)
        self.register_buffer("language", torch.zeros(len(self.weight), text_width), persistent=False)

    def attach(self, catalogue: Catalogue) -> None:
        """Receives the text vectors.

        Raises:
            UserError: If there are none, or of another width.
        """
        vectors = catalogue.get("text_vectors")
        if vectors is None:
            raise UserError(
                "Items carry their texts, but there are no item vectors.",
                "Give --data.text_encoder, for example minilm.",
            )
        if vectors.size(1) != self.language.size(1):
            raise UserError(
                f"The item vectors have shape {tuple(vectors.shape)}; the model was made for "
                f"{tuple(self.language.shape)}.",
                "Give the text encoder that the model was trained with.",
            )
        self.language[: len(vectors)] = vectors

    def _make(self) -> Float[Tensor, "n_plus_1 d"]:
        table: Tensor = super()._make() + self.project(self.language)
        return table


class TextSASRec(TextModel, SASRec):
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
        betas: Decay rates of Adam's moments.
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
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:
        super().__init__(
            num_items,
            max_history,
            "lrd",
            width=width,
            num_blocks=num_blocks,
            num_heads=num_heads,
            dropout=dropout,
            objective=objective,
            lr=lr,
            weight_decay=weight_decay,
            betas=betas,
        )
        self.save_hyperparameters()
        keep_own(self)
        vectors = TextItemEmbedding(num_items, width, text_width)
        vectors.weight = self.item_embedding.weight
        self.item_embedding = vectors

    def attach(self, catalogue: Catalogue) -> None:
        """Receives the text vectors."""
        super().attach(catalogue)
        self._vectors.attach(catalogue)

    def loss(self, batch: SequenceBatch) -> dict[str, Tensor]:
        """The objective, every text projected once."""
        with self._vectors.made_once():
            return super().loss(batch)

    def score(self, batch: SequenceBatch) -> Float[Tensor, "b c"]:
        """Scores candidates, every text projected once."""
        with self._vectors.made_once():
            return super().score(batch)

    def score_catalogue(self, batch: SequenceBatch) -> Float[Tensor, "b i_plus_1"]:
        """Scores every item, every text projected once."""
        with self._vectors.made_once():
            return super().score_catalogue(batch)

    @property
    def _vectors(self) -> TextItemEmbedding:
        assert isinstance(self.item_embedding, TextItemEmbedding)
        return self.item_embedding
