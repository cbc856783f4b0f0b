"""Numbers for relations and entities: what the knowledge graph looks like to a model."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from common.errors import UserError
from common.types import PAD, Catalogue

VIRTUAL = "virtual"
"""Relation 0: an item pair without any predefined relation."""


class Graph:
    """Relations and entities of a catalogue, numbered.

    Relations: 0 is virtual, then the item-item relations, then the attributes. Entities: ``0 … num_items`` are the
    items with padding, then for each attribute "unknown" and its values. A relation without values adds entity 0.

    Args:
        catalogue: Items, item-item relations and attributes.

    Raises:
        UserError: If one of these has the virtual relation's name.

    Attributes:
        relations: Names, in order.
        num_entities: Items and values, padding included.
        value_of: Entity that each relation adds to its vector when seen from each item,
            shape ``(num_items + 1, len(relations))``.
        relation_of: Relation that each value belongs to, 0 for items, shape ``(num_entities,)``.
        triplets: ``head, relation, tail`` of all triplets, shape ``(n, 3)``; the tail of an attribute is a value.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        edges, attributes = catalogue["relations"], known_attributes(catalogue)
        if VIRTUAL in edges or VIRTUAL in attributes:
            raise UserError(
                f"The data set has a relation or an attribute {VIRTUAL!r}, which is what pairs without any are called.",
                "Give it another name and prepare the data set again.",
            )
        self.num_items = catalogue["num_items"]
        self.relations = [VIRTUAL, *edges, *attributes]
        self.value_of = torch.zeros(self.num_items + 1, len(self.relations), dtype=torch.long)
        self.num_entities = self.num_items + 1
        relation_of = [torch.zeros(self.num_entities, dtype=torch.long)]
        triplets = [
            torch.stack([pairs[:, 0], torch.full_like(pairs[:, 0], relation), pairs[:, 1]], dim=1)
            for relation, pairs in enumerate(edges.values(), start=1)
        ]
        for relation, values in enumerate(attributes.values(), start=1 + len(edges)):
            self.value_of[:, relation] = self.num_entities + values
            self.value_of[PAD, relation] = 0
            heads = values.nonzero()[:, 0]
            tails = self.num_entities + values[heads]
            triplets.append(torch.stack([heads, torch.full_like(heads, relation), tails], dim=1))
            relation_of.append(torch.full((int(values.max()) + 1,), relation))
            self.num_entities += len(relation_of[-1])
        self.relation_of: Int[Tensor, "e"] = torch.cat(relation_of)
        self.triplets: Int[Tensor, "n 3"] = torch.cat([torch.empty(0, 3, dtype=torch.long), *triplets])

    def is_item(self, entities: Int[Tensor, "..."]) -> Bool[Tensor, "..."]:
        """Whether entities are items rather than attribute values."""
        return entities <= self.num_items

    def known(self, trained: Bool[Tensor, "i_plus_1"], learnt: Int[Tensor, "k"]) -> Bool[Tensor, "e"]:
        """Entities whose vectors learn something: by a training event, or by a triplet of the rows ``learnt``.

        A value learns by the events of the items that have it.
        """
        known = torch.zeros(self.num_entities, dtype=torch.bool)
        known[self.value_of[trained]] = True
        known[: self.num_items + 1] = trained
        known[self.triplets[learnt][:, [0, 2]]] = True
        return known


def known_attributes(catalogue: Catalogue) -> dict[str, Int[Tensor, "i_plus_1"]]:
    """The attributes of which some item has a value; one that no item has relates nothing."""
    return {name: values for name, values in catalogue["attributes"].items() if values.any()}
