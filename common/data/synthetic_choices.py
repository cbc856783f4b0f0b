"""Who buys what when: the choices of the synthetic world by its rule table, one step at a time for all users."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.data.synthetic_graph import FIRST_LATENT, IntArray
from common.data.synthetic_rules import POPULARITY, TASTE, LongArray, Mix, Relatives, Shelf, Tastes
from common.data.synthetic_world import HORIZON, PERIODS, START, World
from common.errors import UserError, at_least

MIN_LENGTH = 3
_MAX_LENGTH = 200
_ATTEMPTS = 4
_LATENT = -1
_OBSERVED = -2


@dataclass(frozen=True)
class Choices:
    """Events user by user, oldest first.

    Attributes:
        user: User of each event, from 0.
        item: Item of each event, from 0.
        time: Unix seconds, strictly increasing within a user.
        rule: Index into :data:`RULES`.
    """

    user: IntArray
    item: IntArray
    time: LongArray
    rule: NDArray[np.uint8]


class Chooser:
    """Applies the rule table to a step of many users at once.

    Args:
        world: The items.
        mix: Shares of the rules.
        users: Number of users.
        rng: Source of randomness.
    """

    def __init__(self, world: World, mix: Mix, users: int, rng: np.random.Generator) -> None:
        self.mix, self.rng = mix, rng
        self.all = Shelf(world.cell, world.num_functions * world.families, world.weight)
        self.stop = world.num_functions * world.families
        edges = world.edges
        self.latent = Relatives(world, edges.where(edges.relation >= FIRST_LATENT), self.all)
        self.observed = Relatives(world, edges.where(edges.relation < FIRST_LATENT), self.all)
        self.tastes = Tastes(world, users, mix.by_style, rng)

    def choose(self, history: list[IntArray], period: IntArray) -> tuple[IntArray, NDArray[np.uint8]]:
        """Chooses the next item of users ``0 … n - 1``.

        Args:
            history: Items of each earlier step, each covering at least these users.
            period: Period of each user's event.

        Returns:
            Items that their users have not had, and the rules that chose them.
        """
        item = np.full(len(period), -1, np.int32)
        rule = np.full(len(period), POPULARITY, np.uint8)
        plan = self._plan(len(period), bool(history))
        pending, attempt = np.arange(len(period)), 0
        while len(pending):
            candidate, by = self._propose(plan[pending], pending, history, period[pending])
            taken = candidate < 0
            for earlier in history:
                taken |= earlier[pending] == candidate
            done = pending[~taken]
            item[done], rule[done] = candidate[~taken], by[~taken]
            pending, attempt = pending[taken], attempt + 1
            # Taste may have nothing left to offer either; popularity always has.
            plan[pending] = np.where(attempt < _ATTEMPTS, plan[pending], TASTE if attempt == _ATTEMPTS else POPULARITY)
        return item, rule

    def _plan(self, users: int, has_history: bool) -> LongArray:
        mix, draw = self.mix, self.rng.random(users)
        if not has_history:
            return np.where(draw < 0.75, TASTE, POPULARITY)
        bounds = np.cumsum([mix.latent, mix.observed, mix.taste])
        return np.array([_LATENT, _OBSERVED, TASTE, POPULARITY])[np.searchsorted(bounds, draw, side="right")]

    def _propose(
        self, plan: LongArray, user: LongArray, history: list[IntArray], period: IntArray
    ) -> tuple[LongArray, LongArray]:
        item, rule = np.empty(len(plan), np.int64), plan.copy()
        for kind in (_LATENT, _OBSERVED, TASTE, POPULARITY):
            rows = np.flatnonzero(plan == kind)
            if not len(rows):
                continue
            if kind == TASTE:
                item[rows] = self.tastes.draw(user[rows], period[rows], self.rng)
            elif kind == POPULARITY:
                item[rows] = self.all.draw(
                    np.zeros(len(rows), np.int64), np.full(len(rows), self.stop), period[rows], self.rng
                )
            else:
                # An observed relation follows the last item; a latent one any item, more likely a late one.
                relatives = self.latent if kind == _LATENT else self.observed
                lag = self.rng.geometric(0.5, len(rows)) if kind == _LATENT else np.ones(len(rows), np.int64)
                cause = _look_back(history, user[rows], lag)
                item[rows], rule[rows] = relatives.draw(cause, period[rows], self.rng)
        return item, rule


def _look_back(history: list[IntArray], user: LongArray, lag: LongArray) -> LongArray:
    """The item ``lag`` steps ago, or the first one where the history is shorter."""
    step = np.maximum(len(history) - lag, 0)
    found = np.empty(len(user), np.int64)
    for s in np.unique(step):
        rows = np.flatnonzero(step == s)
        found[rows] = history[s][user[rows]]
    return found


def draw_lengths(users: int, items: int, interactions: int, rng: np.random.Generator) -> LongArray:
    """Draws history lengths that add up to ``interactions``, longest first: a few long ones, many of three to five.

    Raises:
        UserError: If users would have fewer than three events, or more than the items allow.
    """
    at_least(1, "", users=users)
    if interactions < MIN_LENGTH * users:
        raise UserError(
            f"interactions={interactions} is too few for users={users}: each user needs {MIN_LENGTH} or more.",
            f"Ask for at least {MIN_LENGTH * users} interactions or for fewer users.",
        )
    mean = interactions / users
    longest = min(max(_MAX_LENGTH, int(2 * mean)), items // 5)
    if mean > 0.8 * longest:
        raise UserError(
            f"interactions={interactions} is too many for users={users} and items={items}: a history holds no item "
            f"twice and at most {longest} events.",
            f"Ask for at most {int(0.8 * longest * users)} interactions, or for more users or items.",
        )
    share = rng.lognormal(0.0, 1.0, users)
    extra = interactions - MIN_LENGTH * users
    length = np.minimum(MIN_LENGTH + (share / share.sum() * extra).astype(np.int64), longest)
    while missing := interactions - int(length.sum()):
        room = rng.permutation(np.flatnonzero(length < longest))[:missing]
        length[room] += 1
    return -np.sort(-length)


def draw_times(length: LongArray, rng: np.random.Generator) -> list[LongArray]:
    """Draws event times, step by step for users sorted by length: sessions of hours, weeks apart."""
    users = len(length)
    start = rng.random(users) * 0.85 * HORIZON
    span = (HORIZON - start) * rng.beta(1.5, 1.5, users)
    elapsed, steps = np.zeros(users), []
    for count in _active(length):
        gap = rng.exponential(1.0, count) * np.where(rng.random(count) < 0.5, 0.02, 1.0)
        elapsed[:count] += gap
        steps.append(elapsed[:count].astype(np.float32))
    scale = span / elapsed
    # One second per step keeps a user's times distinct even where a gap rounds to zero.
    return [
        START + t + (start[: len(at)] + scale[: len(at)] * at * 0.999).astype(np.int64) for t, at in enumerate(steps)
    ]


def _active(length: LongArray) -> LongArray:
    """How many users, sorted longest first, have an event at each step."""
    return np.searchsorted(-length, -np.arange(length[0]), side="left")


def draw_choices(
    world: World,
    mix: Mix,
    users: int,
    interactions: int,
    rng: np.random.Generator,
    report: Callable[[float], None] | None = None,
) -> Choices:
    """Draws all events of all users, one step of every history at a time.

    Args:
        world: The items.
        mix: Shares of the rules.
        users: Number of users.
        interactions: Number of events over all users.
        rng: Source of randomness.
        report: Called with the finished share after each step.

    Raises:
        UserError: If the sizes are impossible, see :func:`draw_lengths`.
    """
    length = draw_lengths(users, len(world.function), interactions, rng)
    times = draw_times(length, rng)
    chooser = Chooser(world, mix, users, rng)
    # Users are sorted by length here; their names must not reveal it.
    name = rng.permutation(users)
    offset = np.zeros(users + 1, np.int64)
    offset[name + 1] = length
    start = offset.cumsum()[name]
    out = Choices(
        np.empty(interactions, np.int32),
        np.empty(interactions, np.int32),
        np.empty(interactions, np.int64),
        np.empty(interactions, np.uint8),
    )
    history: list[IntArray] = []
    finished = 0
    for t, time in enumerate(times):
        rows = start[: len(time)] + t
        period = ((time - START) * PERIODS // (HORIZON + len(times))).astype(np.int32)
        item, rule = chooser.choose(history, period)
        history.append(item)
        out.user[rows], out.item[rows], out.time[rows], out.rule[rows] = name[: len(time)], item, time, rule
        finished += len(time)
        if report:
            report(finished / interactions)
    return out
