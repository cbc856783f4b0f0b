"""The graph of product functions: which relations hold between which functions, bound to which families."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int32]

RELATIONS = (
    "none",
    "complement",
    "substitute",
    "consumable_for",
    "sibling_accessory",
    "successor",
    "wear_part",
    "upkeep",
    "restock",
    "next_interest",
)
"""Name of each relation id. From :data:`FIRST_LATENT` on, latent: only ``observed-only`` has their triplets."""
FIRST_LATENT = 3


class Role(IntEnum):
    """The part that a function plays in its department; a department has one function per role."""

    DEVICE = 0
    CONSUMABLE = 1
    MEDIA = 2
    CASE = 3
    MOUNT = 4
    POWER = 5
    CARE = 6
    PART = 7


class Scope(IntEnum):
    """Which families a relation connects: any two, the same one, or a family and its successor."""

    ANY = 0
    SAME = 1
    NEXT = 2


_TEMPLATE = (
    # head role, tail role, relation, scope, chance that a department has the edge
    (Role.DEVICE, Role.CASE, "complement", Scope.SAME, 1.0),
    (Role.DEVICE, Role.POWER, "complement", Scope.SAME, 1.0),
    (Role.DEVICE, Role.MOUNT, "complement", Scope.SAME, 0.5),
    (Role.CONSUMABLE, Role.MEDIA, "complement", Scope.SAME, 1.0),
    (Role.CARE, Role.MEDIA, "complement", Scope.SAME, 0.5),
    (Role.PART, Role.POWER, "complement", Scope.SAME, 0.5),
    *((role, role, "substitute", Scope.SAME, 1.0) for role in Role),
    (Role.DEVICE, Role.CONSUMABLE, "consumable_for", Scope.SAME, 1.0),
    (Role.DEVICE, Role.MEDIA, "consumable_for", Scope.SAME, 0.5),
    (Role.CASE, Role.MOUNT, "sibling_accessory", Scope.SAME, 1.0),
    (Role.MOUNT, Role.POWER, "sibling_accessory", Scope.SAME, 1.0),
    (Role.POWER, Role.CASE, "sibling_accessory", Scope.SAME, 1.0),
    (Role.DEVICE, Role.DEVICE, "successor", Scope.NEXT, 1.0),
    (Role.CASE, Role.CASE, "successor", Scope.NEXT, 0.5),
    (Role.POWER, Role.POWER, "successor", Scope.NEXT, 0.5),
    (Role.CONSUMABLE, Role.PART, "wear_part", Scope.SAME, 1.0),
    (Role.MEDIA, Role.PART, "wear_part", Scope.SAME, 1.0),
    (Role.DEVICE, Role.CARE, "upkeep", Scope.ANY, 1.0),
    (Role.PART, Role.CARE, "upkeep", Scope.ANY, 1.0),
    (Role.PART, Role.CONSUMABLE, "restock", Scope.SAME, 1.0),
    (Role.CARE, Role.CONSUMABLE, "restock", Scope.SAME, 1.0),
    (Role.DEVICE, Role.DEVICE, "next_interest", Scope.ANY, 1.0),
)
"""Every role has a latent relation leading on, and no latent relation is the reverse of an observed one."""


@dataclass(frozen=True)
class Edges:
    """The relations of functions, sorted by head: ``relation[e]`` leads from ``head[e]`` to ``tail[e]``.

    Attributes:
        head: Function ids from 1.
        tail: Function ids; of another department for ``next_interest``.
        relation: Index into :data:`RELATIONS`.
        scope: :class:`Scope` of the edge.
    """

    head: IntArray
    tail: IntArray
    relation: IntArray
    scope: IntArray

    def where(self, keep: NDArray[np.bool_]) -> Edges:
        """The edges that a mask selects."""
        return Edges(self.head[keep], self.tail[keep], self.relation[keep], self.scope[keep])


def build_edges(departments: int, rng: np.random.Generator) -> Edges:
    """Draws the graph of functions: edges of every department, edges of some, and a ring of departments."""
    head_role, tail_role, names, scope, chance = zip(*_TEMPLATE, strict=True)
    department, e = np.nonzero(rng.random((departments, len(_TEMPLATE))) < np.array(chance))
    relation = np.array([RELATIONS.index(name) for name in names])[e]
    ring = rng.permutation(departments)
    neighbour = np.empty(departments, np.int64)
    neighbour[ring] = np.roll(ring, 1)
    tail_department = np.where(relation == RELATIONS.index("next_interest"), neighbour[department], department)
    head = department * len(Role) + np.array(head_role)[e] + 1
    tail = tail_department * len(Role) + np.array(tail_role)[e] + 1
    order = np.argsort(head, kind="stable")
    columns = (column[order].astype(np.int32) for column in (head, tail, relation, np.array(scope)[e]))
    return Edges(*columns)
