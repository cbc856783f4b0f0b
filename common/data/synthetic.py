"""A world with known truth: what fits what, what texts say about it, and which rule made every choice.

Products have a *function* (printer, ink cartridge, …) and belong to a compatibility *family*; a graph of functions
defines which pairs of items are complements, substitutes, or related in a latent way that no triplet records
("consumable for a device the user owns", "successor of", …). Each next item comes from a rule table: a latent
relation of an item in the history (share ρ of the choices), an observed relation of the last item, the user's taste,
or current popularity; never from a model's score. Texts reveal function and family of a share τ of the items; a share
κ of the complement and substitute edges is observed.

The generator is frozen: it was finished before any model of relations was trained on it. A change that alters any
world is a new :data:`VERSION`, and results of different versions are not comparable.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Any, TypedDict, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.progress import Progress

from common.data.progress import console
from common.data.schema import RELATIONS as RELATION_COLUMNS
from common.data.schema import Source
from common.data.synthetic_choices import Choices, draw_choices
from common.data.synthetic_graph import FIRST_LATENT, RELATIONS
from common.data.synthetic_rules import RULES, Mix
from common.data.synthetic_text import build_items, token
from common.data.synthetic_world import World, build_world, function_relation, related_pairs
from common.errors import UserError, nearest

VERSION = 1
"""Version of the generator."""

_WORTH_A_BAR = 1_000_000


@dataclass(frozen=True)
class Dials:
    """The parameters of a named world.

    Attributes:
        rho: ρ, share of choices (after a user's first) that a latent relation makes.
        tau: τ, share of items whose text reveals function, family and style.
        kappa: κ, share of the complement and substitute edges that is observed.
        related: Whether items are related at all; if not, taste for style words and popularity make every choice.
        own_text: Whether items keep their own texts; if not, texts are permuted over items.
        latent_observed: Whether latent relations also appear in triplets.
    """

    rho: float = 0.4
    tau: float = 0.8
    kappa: float = 0.5
    related: bool = True
    own_text: bool = True
    latent_observed: bool = False


WORLDS = {
    "planted": Dials(),
    "planted-half": Dials(rho=0.2),
    "null-relations": Dials(rho=0.0),
    "null-text": Dials(own_text=False),
    "text-taste": Dials(rho=0.0, kappa=0.0, related=False),
    "observed-only": Dials(kappa=1.0, latent_observed=True),
}


class Truth(TypedDict):
    """What is true of items and their pairs, in compact form; ids are those of a store that keeps every item.

    ``item_function``, ``item_family``: function and family of each item, ``(n + 1,)``, 0 for padding.
    ``item_readable``: whether the item's own text reveals them. ``next_family``: successor of each family, 0 where
    there is none. ``function_relation``: ``(3, F + 1, F + 1)`` relation ids (indices of :data:`RELATIONS`) by how the
    families relate: 0 not at all, 1 they are the same, 2 the tail's succeeds the head's.
    """

    item_function: NDArray[np.int32]
    item_family: NDArray[np.int32]
    item_readable: NDArray[np.bool_]
    next_family: NDArray[np.int32]
    function_relation: NDArray[np.uint8]


def true_relation(
    truth: Truth | dict[str, NDArray[Any]], heads: NDArray[np.integer[Any]], tails: NDArray[np.integer[Any]]
) -> NDArray[np.uint8]:
    """The true relation of item pairs, as indices of :data:`RELATIONS`.

    Args:
        truth: Truth of a world, or of its store.
        heads: Item ids, 0 for padding, of any shape.
        tails: Item ids of a shape that broadcasts with ``heads``.

    Returns:
        Relation ids, 0 where a pair is not related; an item is not related to itself.
    """
    head_family, tail_family = truth["item_family"][heads], truth["item_family"][tails]
    joined = (head_family == tail_family) + 2 * (truth["next_family"][head_family] == tail_family)
    functions = truth["item_function"]
    found = truth["function_relation"][np.minimum(joined, 2), functions[heads], functions[tails]]
    return np.where(heads == tails, 0, found).astype(np.uint8)


def read(
    world: str = "planted",
    *,
    users: int = 2_000,
    items: int = 1_000,
    interactions: int = 20_000,
    seed: int = 0,
    rho: float | None = None,
    tau: float | None = None,
    kappa: float | None = None,
) -> Source:
    """Makes a synthetic world.

    Args:
        world: One of :data:`WORLDS`.
        users: Number of users.
        items: Number of items.
        interactions: Number of events, at least three per user; no user has an item twice.
        seed: Seed of everything random.
        rho: Share of choices that latent relations make, the world's own where ``None``. A drawn relation that has
            nothing new to offer gives way to taste: 3 % of them at ρ = 0.4, 9 % at 1; ``rule`` shows which.
        tau: Share of items whose text reveals what they are.
        kappa: Share of complement and substitute edges that is observed.

    Returns:
        The source; its interactions have a further column ``rule``, one of :data:`RULES`, and ``truth`` holds a
        :class:`Truth`.

    Raises:
        UserError: Unknown world, a share outside 0 … 1, a negative seed, or sizes that cannot work.
    """
    dials = _dials(world, rho, tau, kappa)
    if seed < 0:
        raise UserError(f"seed={seed} is negative.", "Choose a seed from 0.")
    arguments = {"world": world, "users": users, "items": items, "interactions": interactions, "seed": seed}
    arguments |= {"rho": dials.rho, "tau": dials.tau, "kappa": dials.kappa, "generator": VERSION}
    for_world, for_text, for_edges, for_choices = np.random.default_rng(seed).spawn(4)
    built = build_world(items, for_world)
    choices = _choices(built, _mix(dials), users, interactions, for_choices)
    readable = for_text.random(items) < dials.tau
    table = build_items(built, readable, for_text)
    if not dials.own_text:
        shuffled = for_text.permutation(items)
        table = table.with_columns(pl.col("title", "description").gather(shuffled))
        readable = np.zeros(items, np.bool_)
    return Source(
        name="synthetic",
        interactions=_interactions(choices, users, table["item"], for_choices),
        items=table,
        relations=_relations(built, dials, table["item"], for_edges),
        time="real",
        content_hash=hashlib.sha256(json.dumps(arguments, sort_keys=True).encode()).hexdigest(),
        truth=cast("dict[str, NDArray[Any]]", _truth(built, dials, readable)),
        arguments=arguments,
    )


def _dials(world: str, rho: float | None, tau: float | None, kappa: float | None) -> Dials:
    if world not in WORLDS:
        raise UserError(f"There is no synthetic world {world!r}.", nearest(world, WORLDS))
    own = WORLDS[world]
    dials = replace(
        own,
        rho=own.rho if rho is None else rho,
        tau=own.tau if tau is None else tau,
        kappa=own.kappa if kappa is None else kappa,
    )
    for name, value in (("rho", dials.rho), ("tau", dials.tau), ("kappa", dials.kappa)):
        if not 0 <= value <= 1:
            raise UserError(f"{name}={value} is not a share.", f"Choose {name} from 0 to 1.")
    if not dials.related and (dials.rho or dials.kappa):
        raise UserError(
            f"World {world!r} has no relations, but rho={dials.rho} and kappa={dials.kappa} ask for some.",
            "Leave both out, or choose the world 'planted'.",
        )
    return dials


def _choices(world: World, mix: Mix, users: int, interactions: int, rng: np.random.Generator) -> Choices:
    with Progress(console=console, transient=True, disable=interactions < _WORTH_A_BAR) as bar:
        task = bar.add_task("Drawing choices", total=1.0)
        return draw_choices(world, mix, users, interactions, rng, lambda share: bar.update(task, completed=share))


def _mix(dials: Dials) -> Mix:
    rest = 1 - dials.rho
    if not dials.related:
        return Mix(0.0, 0.0, 0.75, by_style=True)
    return Mix(dials.rho, rest / 3, rest / 2)


def _interactions(choices: Choices, users: int, items: pl.Series, rng: np.random.Generator) -> pl.DataFrame:
    stars = np.array([1, 2, 3, 3, 4, 4, 4, 4, 4, 5, 5, 5, 5, 5, 5, 5], np.float32)
    return pl.DataFrame(
        {
            "user": token("u", users).gather(choices.user),
            "item": items.gather(choices.item),
            "timestamp": choices.time,
            "rating": stars[rng.integers(0, len(stars), len(choices.item), dtype=np.uint8)],
            "rule": pl.Series(RULES, dtype=pl.Enum(RULES)).gather(choices.rule),
        }
    )


def _relations(world: World, dials: Dials, items: pl.Series, rng: np.random.Generator) -> pl.DataFrame:
    if not dials.related:
        return RELATION_COLUMNS.to_frame()
    listed = world.edges.where((world.edges.relation < FIRST_LATENT) | dials.latent_observed)
    heads, relation, tails = related_pairs(world, listed)
    seen = rng.random(len(heads)) < dials.kappa
    return pl.DataFrame(
        {
            "head": items.gather(heads[seen]),
            "relation": pl.Series(RELATIONS).gather(relation[seen]),
            "tail": items.gather(tails[seen]),
        }
    )


def _truth(world: World, dials: Dials, readable: NDArray[np.bool_]) -> Truth:
    table = function_relation(world)
    return {
        "item_function": np.concatenate([np.zeros(1, np.int32), world.function]),
        "item_family": np.concatenate([np.zeros(1, np.int32), world.family]),
        "item_readable": np.concatenate([np.zeros(1, np.bool_), readable]),
        "next_family": world.next_family,
        "function_relation": table if dials.related else np.zeros_like(table),
    }
