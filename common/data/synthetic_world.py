"""The synthetic world itself: its items with their functions and families, and their popularity over time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.data.synthetic_graph import Edges, IntArray, Role, Scope, build_edges
from common.errors import UserError

PERIODS = 12
"""Number of periods in the two years; popularity is constant within a period."""
START = 1_577_836_800  # 2020-01-01
HORIZON = 2 * 365 * 86_400
NUM_STYLES = 12
BRANDS_PER_DEPARTMENT = 6
GENERATIONS = 3
MIN_ITEMS = 64
_ITEMS_PER_CELL = 3
_MAX_DEPARTMENTS = 72
_MAX_FAMILIES = 600

FloatArray = NDArray[np.float64]

_ROLE_SHARE = np.array([1.0, 1.3, 1.0, 1.3, 1.0, 1.0, 0.7, 0.7])
_ROLE_DEMAND = np.array([5.0, 1.0, 1.0, 1.0, 0.8, 0.8, 0.6, 0.5])
"""Choices without a relation favour devices; what a device needs then follows it."""


@dataclass(frozen=True)
class World:
    """Items and what truly relates them. Items count from 0 here; functions and families from 1.

    Function ``f`` plays role ``(f - 1) % 8`` in department ``(f - 1) // 8``; family ``k`` belongs to department
    ``(k - 1) // families``. A family is a platform that all roles of a department fit, whoever makes them, so that
    taste for a brand says nothing about families.

    Attributes:
        departments: Number of departments.
        families: Number of families per department.
        function: Function of each item.
        family: Family of each item.
        brand: Brand of each item, ``0 … BRANDS_PER_DEPARTMENT - 1`` within its department.
        style: Style word of each item; noise, except in a world where it drives taste.
        arrival: First period in which each item is available.
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
    """Builds functions, families and their graph, and distributes the items over them.

    Raises:
        UserError: If there are too few items for functions and families.
    """
    if items < MIN_ITEMS:
        raise UserError(
            f"items={items} is too few: two departments of {len(Role)} functions and two families need {MIN_ITEMS}.",
            f"Ask for at least {MIN_ITEMS} items.",
        )
    departments = int(np.clip(round(items**0.5 / 6.3), 2, _MAX_DEPARTMENTS))
    families = int(np.clip(items // (departments * len(Role) * _ITEMS_PER_CELL), 2, _MAX_FAMILIES))
    cells = departments * len(Role) * families
    # Every cell has an item, so that a rule seldom finds nothing to offer; the others are spread unevenly.
    share = np.tile(np.repeat(_ROLE_SHARE, families), departments) * rng.lognormal(0.0, 0.5, cells)
    cell = np.concatenate([np.arange(cells), rng.choice(cells, items - cells, p=share / share.sum())])
    cell = rng.permutation(cell)
    role, department = cell // families % len(Role), cell // families // len(Role)
    family = department * families + cell % families + 1
    generation = cell % families % GENERATIONS
    arrival = _arrival(generation, rng)
    return World(
        departments=departments,
        families=families,
        function=(cell // families + 1).astype(np.int32),
        family=family.astype(np.int32),
        brand=rng.integers(0, BRANDS_PER_DEPARTMENT, items, dtype=np.int32),
        style=rng.integers(0, NUM_STYLES, items, dtype=np.int32),
        arrival=arrival,
        weight=_popularity(_ROLE_DEMAND[role], arrival, rng),
        next_family=_next_family(departments, families),
        edges=build_edges(departments, rng),
    )


def _arrival(generation: NDArray[np.int64], rng: np.random.Generator) -> IntArray:
    """The first period of each item, by generation; some items come late, a few in the last period."""
    launch = np.minimum(generation * (PERIODS // GENERATIONS), PERIODS - 1)
    late = rng.random(len(generation))
    arrival = np.where(late < 0.15, rng.integers(launch, PERIODS), launch)
    return np.where(late > 0.96, PERIODS - 1, arrival).astype(np.int32)


def _popularity(demand: FloatArray, arrival: IntArray, rng: np.random.Generator) -> FloatArray:
    """Popularity by period: heavy-tailed at the start, its logarithm then a random walk."""
    walk = rng.normal(0.0, 0.35, (PERIODS, len(demand))).cumsum(axis=0)
    weight = demand * np.exp(rng.normal(0.0, 1.0, len(demand)) + walk)
    return np.asarray(weight * (np.arange(PERIODS)[:, None] >= arrival))


def _next_family(departments: int, families: int) -> IntArray:
    local = np.arange(departments * families) % families
    last = (local % GENERATIONS == GENERATIONS - 1) | (local == families - 1)
    return np.concatenate([[0], np.where(last, 0, np.arange(departments * families) + 2)]).astype(np.int32)


def function_relation(world: World) -> NDArray[np.uint8]:
    """The relation of function pairs, ``(3, F + 1, F + 1)``.

    The first axis says how the families relate: 0 not at all, 1 they are the same, 2 the tail's succeeds the head's.
    Row and column 0 are padding.
    """
    edges, size = world.edges, world.num_functions + 1
    table = np.zeros((len(Scope), size, size), np.uint8)
    anywhere = edges.where(edges.scope == Scope.ANY)
    table[:, anywhere.head, anywhere.tail] = anywhere.relation
    bound = edges.where(edges.scope != Scope.ANY)
    table[bound.scope, bound.head, bound.tail] = bound.relation
    return table


def related_pairs(world: World, edges: Edges) -> tuple[IntArray, IntArray, IntArray]:
    """Every pair of different items that the given edges relate.

    Args:
        world: The items.
        edges: Edges between functions, some or all of ``world.edges``.

    Returns:
        Heads (items from 0), relation ids and tails, ``(m,)`` each.
    """
    order = np.argsort(world.cell, kind="stable")
    bounds = np.searchsorted(world.cell[order], np.arange(world.num_functions * world.families + 1))
    relation, (low, high, tail_low, tail_high) = _blocks(world, edges)
    low, high, tail_low, tail_high = bounds[low], bounds[high], bounds[tail_low], bounds[tail_high]
    width = tail_high - tail_low
    sizes = (high - low) * width
    block = np.repeat(np.arange(len(sizes)), sizes)
    within = np.arange(sizes.sum()) - np.repeat(sizes.cumsum() - sizes, sizes)
    heads = order[low[block] + within // width[block]].astype(np.int32)
    tails = order[tail_low[block] + within % width[block]].astype(np.int32)
    other = heads != tails
    return heads[other], relation[block][other], tails[other]


def _blocks(world: World, edges: Edges) -> tuple[IntArray, NDArray[np.int64]]:
    """Rectangles of related cells: their relations, and four rows of first and end cells of heads and tails.

    An edge between any families is one rectangle; an edge bound to families is one rectangle per family.
    """
    anywhere = edges.scope == Scope.ANY
    count = np.where(anywhere, 1, world.families)
    edge = np.repeat(np.arange(len(count)), count)
    local = np.arange(len(edge)) - np.repeat(count.cumsum() - count, count)
    successive = edges.scope[edge] == Scope.NEXT
    exists = ~successive | (world.next_family[local + 1] > 0)
    edge, local, successive = edge[exists], local[exists], successive[exists]
    size = np.where(anywhere[edge], world.families, 1)
    head = (edges.head[edge].astype(np.int64) - 1) * world.families + local
    tail = (edges.tail[edge].astype(np.int64) - 1) * world.families + local + successive
    return edges.relation[edge], np.stack([head, head + size, tail, tail + size])
