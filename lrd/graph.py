"""Numbers for relations and entities: what the knowledge graph looks like to a model."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from common.types import PAD, Catalogue

VIRTUAL = "virtual"
"""Relation 0: an item pair without any predefined relation."""


class Graph:
    """Relations and entities of a catalogue, numbered.

    Relations: 0 is virtual, then the item-item relations, then the attributes. Entities: ``0 … num_items`` are the
    items with padding, then for each attribute "unknown" and its values. A relation without values adds entity 0.

    Args:
        catalogue: Items, item-item relations and attributes.

    Attributes:
        relations: Names, in order.
        num_entities: Items and values, padding included.
        value_of: Entity that each relation adds to its vector when seen from each item,
            shape ``(num_items + 1, len(relations))``.
        triplets: ``head, relation, tail`` of all triplets, shape ``(n, 3)``; the tail of an attribute is a value.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        edges, attributes = catalogue["relations"], catalogue["attributes"]
        self.num_items = catalogue["num_items"]
        self.relations = [VIRTUAL, *edges, *attributes]
        self.value_of = torch.zeros(self.num_items + 1, len(self.relations), dtype=torch.long)
        self.num_entities = self.num_items + 1
        triplets = [
            torch.stack([pairs[:, 0], torch.full_like(pairs[:, 0], self.relations.index(name)), pairs[:, 1]], dim=1)
            for name, pairs in edges.items()
        ]
        for name, values in attributes.items():
            relation = self.relations.index(name)
            self.value_of[:, relation] = self.num_entities + values
            self.value_of[PAD, relation] = 0
            heads = values.nonzero()[:, 0]
            tails = self.num_entities + values[heads]
            triplets.append(torch.stack([heads, torch.full_like(heads, relation), tails], dim=1))
            self.num_entities += int(values.max()) + 1
        self.triplets: Int[Tensor, "n 3"] = torch.cat([torch.empty(0, 3, dtype=torch.long), *triplets])

    def is_item(self, entities: Int[Tensor, "..."]) -> Bool[Tensor, "..."]:
        """Whether entities are items rather than attribute values."""
        return entities <= self.num_items

    def known(self, trained: Bool[Tensor, "i_plus_1"]) -> Bool[Tensor, "e"]:
        """Entities with a training event, a triplet or (values) an item: those whose vectors learn something."""
        known = torch.zeros(self.num_entities, dtype=torch.bool)
        known[: self.num_items + 1] = trained
        known[self.num_items + 1 :] = True
        known[self.triplets[:, 0]] = True
        known[self.triplets[:, 2]] = True
        return known
