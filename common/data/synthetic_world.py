"""The synthetic world itself: product functions, compatibility families, the graph of relations, popularity."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from common.errors import UserError

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
"""Name of each relation id. From :data:`FIRST_LATENT` on they are latent: in no triplet (but for ``observed-only``)."""
FIRST_LATENT = 3
PERIODS = 12
"""Popularity is constant within a period; there are this many over the two years."""
START = 1_577_836_800  # 2020-01-01
HORIZON = 2 * 365 * 86_400
NUM_STYLES = 12
BRANDS_PER_DEPARTMENT = 6
GENERATIONS = 3
MIN_ITEMS = 64
_ITEMS_PER_CELL = 3
_MAX_DEPARTMENTS = 72
_MAX_FAMILIES = 600

IntArray = NDArray[np.int32]
FloatArray = NDArray[np.float64]


class Role(IntEnum):
    """The part that a function plays in its department; a department has one function a role."""

    DEVICE = 0
    CONSUMABLE = 1
    MEDIA = 2
    CASE = 3
    MOUNT = 4
    POWER = 5
    CARE = 6
    PART = 7


class Scope(IntEnum):
    """Which families a relation joins: any two, one and the same, or a family and its successor."""

    ANY = 0
    SAME = 1
    NEXT = 2


_ROLE_SHARE = np.array([1.0, 1.3, 1.0, 1.3, 1.0, 1.0, 0.7, 0.7])
_ROLE_DEMAND = np.array([5.0, 1.0, 1.0, 1.0, 0.8, 0.8, 0.6, 0.5])
"""Without a relation people buy devices: what a device needs then follows it."""

# head role, tail role, relation, scope, chance that a department has the edge
_TEMPLATE = (
    (Role.DEVICE, Role.CASE, "complement", Scope.SAME, 1.0),
    (Role.DEVICE, Role.POWER, "complement", Scope.SAME, 1.0),
    (Role.CONSUMABLE, Role.MEDIA, "complement", Scope.SAME, 1.0),
    (Role.DEVICE, Role.MOUNT, "complement", Scope.SAME, 0.5),
    (Role.PART, Role.CONSUMABLE, "complement", Scope.SAME, 0.5),
    (Role.CARE, Role.PART, "complement", Scope.SAME, 0.5),
    *((role, role, "substitute", Scope.SAME, 1.0) for role in Role),
    (Role.DEVICE, Role.CONSUMABLE, "consumable_for", Scope.SAME, 1.0),
    (Role.DEVICE, Role.MEDIA, "consumable_for", Scope.SAME, 0.5),
    (Role.CASE, Role.MOUNT, "sibling_accessory", Scope.SAME, 1.0),
    (Role.MOUNT, Role.POWER, "sibling_accessory", Scope.SAME, 1.0),
    (Role.POWER, Role.CASE, "sibling_accessory", Scope.SAME, 1.0),
    (Role.DEVICE, Role.DEVICE, "successor", Scope.NEXT, 1.0),
    (Role.CASE, Role.CASE, "successor", Scope.NEXT, 0.5),
    (Role.CONSUMABLE, Role.PART, "wear_part", Scope.SAME, 1.0),
    (Role.MEDIA, Role.PART, "wear_part", Scope.SAME, 0.5),
    (Role.DEVICE, Role.CARE, "upkeep", Scope.ANY, 1.0),
    (Role.PART, Role.CARE, "upkeep", Scope.ANY, 1.0),
    (Role.MEDIA, Role.CONSUMABLE, "restock", Scope.SAME, 1.0),
    (Role.DEVICE, Role.DEVICE, "next_interest", Scope.ANY, 1.0),
    (Role.CARE, Role.CARE, "next_interest", Scope.ANY, 1.0),
)


@dataclass(frozen=True)
class Edges:
    """The relations of functions, sorted by head: relation ``relation[e]`` leads from function to function.

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
        """Returns the edges of a mask."""
        return Edges(self.head[keep], self.tail[keep], self.relation[keep], self.scope[keep])


@dataclass(frozen=True)
class World:
    """Items and what truly relates them. Items count from 0 here; functions and families from 1.

    Function ``f`` plays role ``(f - 1) % 8`` in department ``(f - 1) // 8``; family ``k`` belongs to department
    ``(k - 1) // families``. A family is a platform that all roles of a department fit, whoever makes them, so that
    taste for a brand says nothing of families.

    Attributes:
        departments: Number of departments.
        families: Families a department.
        function: Function of each item.
        family: Family of each item.
        brand: Brand of each item, ``0 … BRANDS_PER_DEPARTMENT - 1`` within its department.
        style: Style word of each item; noise, but in a world where it drives taste.
        arrival: Period from which each item can be had.
        weight: Popularity of each item in each period, ``(PERIODS, n)``; 0 before its arrival.
        next_family: Successor of each family, 0 where there is none; index 0 is padding.
        edges: The graph of functions.
    """

    departments: int
    families: int
    function: IntArray
    family: IntArray
    brand: IntArray
    style: IntArray
    arrival: IntArray
    weight: FloatArray
    next_family: IntArray
    edges: Edges

    @property
    def num_functions(self) -> int:
        """Number of functions; ids run from 1 to it."""
        return self.departments * len(Role)

    @property
    def cell(self) -> IntArray:
        """Index of each item's (function, family) cell: function-major, so functions and departments are runs."""
        return (self.function - 1) * self.families + (self.family - 1) % self.families


def build_world(items: int, rng: np.random.Generator) -> World:
    """Builds functions, families and their graph, and deals the items out over them.

    Raises:
        UserError: There are too few items for functions and families.
    """
    if items < MIN_ITEMS:
        raise UserError(
            f"items={items} is too few: two departments of {len(Role)} functions and two families need {MIN_ITEMS}.",
            f"Ask for at least {MIN_ITEMS} items.",
        )
    departments = int(np.clip(round(items**0.5 / 6.3), 2, _MAX_DEPARTMENTS))
    families = int(np.clip(items // (departments * len(Role) * _ITEMS_PER_CELL), 2, _MAX_FAMILIES))
    cells = departments * len(Role) * families
    # Every cell has an item, so that a rule seldom finds nothing to offer; the rest falls unevenly.
    share = np.tile(np.repeat(_ROLE_SHARE, families), departments) * rng.lognormal(0.0, 0.5, cells)
    cell = np.concatenate([np.arange(cells), rng.choice(cells, items - cells, p=share / share.sum())])
    cell = rng.permutation(cell)
    role, department = cell // families % len(Role), cell // families // len(Role)
    family = department * families + cell % families + 1
    generation = cell % families % GENERATIONS
    arrival = _arrival(generation, rng)
    return World(
        departments,
        families,
        (cell // families + 1).astype(np.int32),
        family.astype(np.int32),
        rng.integers(0, BRANDS_PER_DEPARTMENT, items, dtype=np.int32),
        rng.integers(0, NUM_STYLES, items, dtype=np.int32),
        arrival,
        _popularity(_ROLE_DEMAND[role], arrival, rng),
        _next_family(departments, families),
        _build_edges(departments, rng),
    )


def _arrival(generation: NDArray[np.int64], rng: np.random.Generator) -> IntArray:
    """Returns the first period of each item: a generation follows another; some items come late, a few last of all."""
    launch = np.minimum(generation * (PERIODS // GENERATIONS), PERIODS - 1)
    late = rng.random(len(generation))
    arrival = np.where(late < 0.15, rng.integers(launch, PERIODS), launch)
    return np.where(late > 0.96, PERIODS - 1, arrival).astype(np.int32)


def _popularity(demand: FloatArray, arrival: IntArray, rng: np.random.Generator) -> FloatArray:
    """Returns popularity by period: a heavy-tailed start that drifts as a random walk of its logarithm."""
    walk = rng.normal(0.0, 0.35, (PERIODS, len(demand))).cumsum(axis=0)
    weight = demand * np.exp(rng.normal(0.0, 1.0, len(demand)) + walk)
    return np.asarray(weight * (np.arange(PERIODS)[:, None] >= arrival))


def _next_family(departments: int, families: int) -> IntArray:
    local = np.arange(departments * families) % families
    last = (local % GENERATIONS == GENERATIONS - 1) | (local == families - 1)
    return np.concatenate([[0], np.where(last, 0, np.arange(departments * families) + 2)]).astype(np.int32)


def _build_edges(departments: int, rng: np.random.Generator) -> Edges:
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


def function_relation(world: World) -> NDArray[np.uint8]:
    """Returns the relation of function pairs, ``(3, F + 1, F + 1)``.

    The first axis says what joins the families: 0 nothing, 1 they are one, 2 the tail's succeeds the head's. Row
    and column 0 are padding.
    """
    edges, size = world.edges, world.num_functions + 1
    table = np.zeros((len(Scope), size, size), np.uint8)
    anywhere = edges.where(edges.scope == Scope.ANY)
    table[:, anywhere.head, anywhere.tail] = anywhere.relation
    bound = edges.where(edges.scope != Scope.ANY)
    table[bound.scope, bound.head, bound.tail] = bound.relation
    return table


def related_pairs(world: World, edges: Edges) -> tuple[IntArray, IntArray, IntArray]:
    """Returns every pair of items that the given edges relate: heads, relations and tails."""
    cell = world.cell
    order = np.argsort(cell, kind="stable")
    bounds = np.searchsorted(cell[order], np.arange(world.num_functions * world.families + 1))
    anywhere = edges.where(edges.scope == Scope.ANY)
    bound = edges.where(edges.scope != Scope.ANY)
    # One block of heads times tails for each edge (any family) or for each edge and family (bound to families).
    local = np.arange(world.families)
    step = (bound.scope == Scope.NEXT)[:, None].astype(np.int64)
    head_cell = ((bound.head[:, None] - 1) * world.families + local).ravel()
    tail_cell = ((bound.tail[:, None] - 1) * world.families + np.minimum(local + step, world.families - 1)).ravel()
    lasts = world.next_family[local + 1] == 0
    offered = ~(step.astype(bool) & lasts).ravel()
    starts = [head_cell[offered], (anywhere.head - 1) * world.families]
    stops = [starts[0] + 1, starts[1] + world.families]
    tail_starts = [tail_cell[offered], (anywhere.tail - 1) * world.families]
    tail_stops = [tail_starts[0] + 1, tail_starts[1] + world.families]
    relation = np.concatenate([np.repeat(bound.relation, world.families)[offered], anywhere.relation])
    lo, hi = bounds[np.concatenate(starts)], bounds[np.concatenate(stops)]
    tail_lo, tail_hi = bounds[np.concatenate(tail_starts)], bounds[np.concatenate(tail_stops)]
    width = tail_hi - tail_lo
    sizes = (hi - lo) * width
    within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    block = np.repeat(np.arange(len(sizes)), sizes)
    heads = order[lo[block] + within // width[block]].astype(np.int32)
    tails = order[tail_lo[block] + within % width[block]].astype(np.int32)
    other = heads != tails
    return heads[other], relation[block][other], tails[other]
