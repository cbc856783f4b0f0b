"""The rules that make choices in the synthetic world: relations, taste and popularity, each a vectorised draw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.data.synthetic_graph import RELATIONS, Edges, IntArray, Role, Scope
from common.data.synthetic_world import BRANDS_PER_DEPARTMENT, NUM_STYLES, FloatArray, World

LongArray = NDArray[np.int64]

RULES = (*RELATIONS[1:], "taste", "popularity")
"""What can make a choice: a relation of an item in the history, the user's taste, or popularity of the moment."""
TASTE = RULES.index("taste")
POPULARITY = RULES.index("popularity")


@dataclass(frozen=True)
class Mix:
    """How often each rule is drawn for a choice that has a history; shares add up to 1.

    Attributes:
        latent: Share ρ of the latent relations.
        observed: Share of complement and substitute.
        taste: Share of taste; popularity has the rest.
        by_style: Whether taste is for style words rather than for brands.
    """

    latent: float
    observed: float
    taste: float
    by_style: bool = False


class Shelf:
    """Items sorted by group, from which runs of groups are sampled by the popularity of a period.

    With one cumulative sum over all periods and items, a weighted draw from any run is a single binary search.

    Args:
        group: Group of each item.
        num_groups: Number of groups.
        weight: Popularity, ``(PERIODS, n)``.
    """

    def __init__(self, group: IntArray, num_groups: int, weight: FloatArray) -> None:
        self.order = np.argsort(group, kind="stable")
        self.bounds = np.searchsorted(group[self.order], np.arange(num_groups + 1))
        self.cumulative = np.concatenate([[0.0], weight[:, self.order].ravel().cumsum()])

    def draw(self, first: LongArray, stop: LongArray, period: IntArray, rng: np.random.Generator) -> LongArray:
        """Draws an item from groups ``first … stop - 1`` for each row, -1 where none is on offer in the period."""
        base = period.astype(np.int64) * len(self.order)
        low, high = self.bounds[first] + base, self.bounds[stop] + base
        left, right = self.cumulative[low], self.cumulative[high]
        at = np.searchsorted(self.cumulative, left + rng.random(len(low)) * (right - left), side="right") - 1
        item = self.order[np.clip(at, low, np.maximum(high - 1, low)) % len(self.order)]
        return np.where(right > left, item, -1)


class Relatives:
    """Draws items that an edge relates to given ones.

    Args:
        world: The items.
        edges: The edges in play, sorted by head.
        shelf: Items sorted by cell.
    """

    def __init__(self, world: World, edges: Edges, shelf: Shelf) -> None:
        self.world, self.edges, self.shelf = world, edges, shelf
        self.first = np.searchsorted(edges.head, np.arange(world.num_functions + 2))

    def draw(self, item: LongArray, period: IntArray, rng: np.random.Generator) -> tuple[LongArray, LongArray]:
        """An item for each given one, -1 where none is on offer, and the rule that chose it."""
        world, edges = self.world, self.edges
        if not len(edges.head):
            return np.full(len(item), -1), np.full(len(item), POPULARITY)
        function, family = world.function[item], world.family[item]
        degree = self.first[function + 1] - self.first[function]
        edge = np.minimum(self.first[function] + (rng.random(len(item)) * degree).astype(np.int64), len(edges.head) - 1)
        scope = edges.scope[edge]
        family = np.where(scope == Scope.NEXT, world.next_family[family], family)
        anywhere = scope == Scope.ANY
        base = (edges.tail[edge].astype(np.int64) - 1) * world.families
        first = base + np.where(anywhere, 0, (family - 1) % world.families)
        stop = np.where(anywhere, base + world.families, first + 1)
        chosen = self.shelf.draw(first, stop, period, rng)
        exists = (degree > 0) & (family > 0)
        return np.where(exists, chosen, -1), edges.relation[edge].astype(np.int64) - 1


class Tastes:
    """Each user's three departments and a favourite brand (or style) in each.

    Args:
        world: The items.
        users: Number of users.
        by_style: Whether the favourite is a style.
        rng: Source of randomness.
    """

    def __init__(self, world: World, users: int, by_style: bool, rng: np.random.Generator) -> None:
        attribute = world.style if by_style else world.brand
        self.size = NUM_STYLES if by_style else BRANDS_PER_DEPARTMENT
        department = (world.function - 1) // len(Role)
        self.shelf = Shelf(department * self.size + attribute, world.departments * self.size, world.weight)
        self.department = rng.integers(0, world.departments, (users, 3), dtype=np.int32)
        self.favourite = rng.integers(0, self.size, (users, 3), dtype=np.int32)

    def draw(self, user: LongArray, period: IntArray, rng: np.random.Generator) -> LongArray:
        """Draws an item to each user's taste."""
        which = np.searchsorted([0.6, 0.9], rng.random(len(user)))
        base = self.department[user, which].astype(np.int64) * self.size
        devoted = rng.random(len(user)) < 0.6
        first = np.where(devoted, base + self.favourite[user, which], base)
        return self.shelf.draw(first, np.where(devoted, first + 1, base + self.size), period, rng)
