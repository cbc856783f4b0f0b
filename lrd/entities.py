"""Vectors of entities: items, which may carry their texts, and behind them attribute values."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from common.errors import UserError
from common.nn.embedding import ItemEmbedding
from common.types import Catalogue


class EntityEmbedding(ItemEmbedding):
    """Vectors of items and, behind them, of attribute values, which count in no mean of items.

    Args:
        num_items: Items; untrained ones have the mean vector of the trained in evaluation, and a value that nothing
            was learnt of that of the other values of its attribute.
        width: Width of a vector.
        padding_idx: As in :class:`ItemEmbedding`.
        num_entities: Rows of the table, padding included; the items' by default.
    """

    known_values: Tensor | None
    attribute_of: Tensor | None

    def __init__(
        self, num_items: int, width: int, padding_idx: int | None = 0, num_entities: int | None = None
    ) -> None:
        self.num_values = 0 if num_entities is None else num_entities - 1 - num_items
        self._made: list[Tensor] = []
        super().__init__(num_items + self.num_values, width, padding_idx)
        self.register_buffer("known_values", None, persistent=False)
        self.register_buffer("attribute_of", None, persistent=False)

    def mark_known(self, known: Bool[Tensor, "e"], relation_of: Int[Tensor, "e"]) -> None:
        """Tells which items and values anything was learnt of.

        Args:
            known: Whether each entity is known, shape ``(num_items + num_values + 1,)``.
            relation_of: Attribute of each value, of which each has a known one.
        """
        first = len(known) - self.num_values
        self.mark_trained(known[:first])
        if not known[first:].all():
            self.known_values = known[first:].to(self.weight.device)
            self.attribute_of = relation_of[first:].to(self.weight.device)

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
        table = super().table()
        if self.training or self.known_values is None or self.attribute_of is None:
            return table
        items, values = table[: -self.num_values], table[-self.num_values :]
        share = F.one_hot(self.attribute_of).to(values.dtype) * self.known_values[:, None]
        means = share.T @ values / share.sum(0).clamp(min=1)[:, None]
        return torch.cat([items, torch.where(self.known_values[:, None], values, means[self.attribute_of])])


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
            UserError: If there are none, or of another number or width.
        """
        items = len(self.language) - self.num_values
        vectors = given_vectors(catalogue, (items, self.language.size(1)), "Items carry their texts")
        self.language[:items] = vectors

    def _make(self) -> Float[Tensor, "n_plus_1 d"]:
        table: Tensor = super()._make() + self.project(self.language)
        return table


def given_vectors(
    catalogue: Catalogue, shape: tuple[int, int], reader: str, instead: str = ""
) -> Float[Tensor, "i_plus_1 w"]:
    """The language-model vectors of the items, padding included.

    Args:
        catalogue: What is known of items.
        shape: Rows and width that the model was made for.
        reader: What they are read for, as the error tells it.
        instead: Cure beside a text encoder.

    Raises:
        UserError: If there are none, or of another shape.
    """
    vectors = catalogue.get("text_vectors")
    if vectors is None:
        raise UserError(
            f"{reader}, but there are no item vectors.", f"Give --data.text_encoder, for example minilm{instead}."
        )
    if tuple(vectors.shape) != shape:
        raise UserError(
            f"The item vectors have shape {tuple(vectors.shape)}; the model was made for {shape}.",
            "Give the data set and the text encoder that the model was trained with.",
        )
    return vectors
