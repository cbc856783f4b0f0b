"""Scenarios that change which users are trained on, as views of a stored split."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from common.data.negatives import seeded
from common.data.scenarios import COLD_USER_EVENTS
from common.data.splits import leakage
from common.errors import UserError, nearest
from common.types import Cases, Sequences, Split

OVERALL, COLD_USERS, FEW_SHOT = "overall", "cold-users", "few-shot-"
MOST_COLD_USERS = 500
"""Most users that are drawn as cold; A-LLMRec does not report their number."""
FEWEST_COLD_USERS = 100
"""Fewest where they are at most a quarter of all: figures of fewer cases are marked (PROTOCOL S5)."""
SEED = 1
"""Seed of every draw: never a run's own, so that all runs of a scenario have the same users. Nor is it that of test
users, which would then be those of the scenario first."""


@dataclass(frozen=True)
class View:
    """A split as a scenario sees it; cases keep their positions, so that stored candidates still match them.

    Attributes:
        scenario: Its name, with the rule that was applied.
        split: Events, training events and cases.
        val: Whether each validation case takes part; ``None`` for all.
        test: Whether each test case takes part; ``None`` for all.
        always: Which test cases take part however few users are drawn to be tested, if the scenario has such.
        slices: Slices of the test cases that the scenario defines.
        drawn: Users that the scenario has drawn; none without a draw.
    """

    scenario: str
    split: Split
    val: Bool[Tensor, "v"] | None = None
    test: Bool[Tensor, "m"] | None = None
    always: Bool[Tensor, "m"] | None = None
    slices: dict[str, Bool[Tensor, "m"]] = field(default_factory=dict)
    drawn: Int[Tensor, "k"] = field(default_factory=lambda: torch.empty(0, dtype=torch.long))


def view(split: Split, scenario: str) -> View:
    """A split as a scenario sees it.

    ``few-shot-K`` trains and validates on K users and tests on all; the slices ``trained_user`` and ``other_user``
    separate the two, and are what it is read by: if test users are drawn, they are drawn from the others and tested
    beside all K, who then weigh more in the mean over both than they do among all users. ``cold-users`` tests users
    without training on any of their events: users with exactly three events (as in A-LLMRec,
    https://arxiv.org/abs/2404.11343, 5.2.3) or, if these are fewer than 100 and than are drawn, users drawn from all,
    of whom only the last three events are kept; under ``full``, items of the removed ones compete like any others. They
    are a tenth of the users at most, but up to 100 where these are no more than a quarter, and never more than 500.

    Args:
        split: A leave-one-out split.
        scenario: ``overall``, ``cold-users`` or ``few-shot-K``.

    Raises:
        UserError: If there is no such scenario, or not enough users for it.
    """
    require_scenario(scenario, "--data.scenario")
    if scenario == OVERALL:
        return View(OVERALL, split)
    if scenario == COLD_USERS:
        return _cold_users(split)
    return _few_shot(split, int(scenario.removeprefix(FEW_SHOT)))


def require_scenario(scenario: str, option: str) -> None:
    """Checks that there is such a scenario.

    Args:
        scenario: Its name.
        option: The option that names it.

    Raises:
        UserError: If there is none.
    """
    if scenario not in (OVERALL, COLD_USERS) and not re.fullmatch(FEW_SHOT + "[1-9][0-9]*", scenario):
        cure = nearest(scenario, [OVERALL, COLD_USERS, FEW_SHOT + "256"])
        raise UserError(f"{option} {scenario!r} is not a scenario.", cure)


def _few_shot(split: Split, count: int) -> View:
    users = split["val"]["user"]
    if count > len(users):
        raise UserError(
            f"--data.scenario {FEW_SHOT}{count} asks for {count} users, but only {len(users)} have a validation case",
            f"Choose {FEW_SHOT}{len(users)} or fewer." if len(users) else "Choose another scenario.",
        )
    drawn = _drawn(users, count)
    kept = _mask(split, drawn)
    trained = kept[split["test"]["user"]]
    return View(
        f"{FEW_SHOT}{count}",
        without_training(split, ~kept),
        val=kept[users],
        always=trained,
        slices={"trained_user": trained, "other_user": ~trained},
        drawn=drawn,
    )


def _cold_users(split: Split) -> View:
    sequences, users = split["sequences"], split["test"]["user"]
    exact = users[sequences["offsets"].diff()[users] == COLD_USER_EVENTS]
    # A tenth of the users, or a quarter at most: the others must still teach the model.
    fewest = FEWEST_COLD_USERS if len(users) >= 4 * FEWEST_COLD_USERS else 0
    wanted = min(MOST_COLD_USERS, max(fewest, len(users) // 10))
    if not wanted:
        raise UserError(f"--data.scenario {COLD_USERS} needs ten users or more", f"There are {len(users)}.")
    enough = len(exact) >= min(wanted, FEWEST_COLD_USERS)
    drawn = _drawn(exact if enough else users, wanted)
    cold = _mask(split, drawn)
    if not enough:
        split = _truncated(split, cold)
    return View(
        f"{COLD_USERS} ({'three events' if enough else 'truncated'}, {int(cold.sum())})",
        without_training(split, cold),
        val=~cold[split["val"]["user"]],
        test=cold[users],
        drawn=drawn,
    )


def without_training(split: Split, users: Bool[Tensor, "u_plus_1"]) -> Split:
    """The split in which no event of ``users`` is a training event; their cases keep their histories."""
    start = split["sequences"]["offsets"][:-1]
    return {**split, "train_end": torch.where(users, start, split["train_end"])}


def with_training(tested: Split, trained: Split) -> Split:
    """The events and cases of ``tested`` with the training events of ``trained``, none of which ``tested`` withholds.

    Whoever has training events is then truncated in neither split, so that they are the same events in both.
    """
    lengths = trained["train_end"] - trained["sequences"]["offsets"][:-1]
    return {**tested, "train_end": tested["sequences"]["offsets"][:-1] + lengths}


def leakage_between(trained: View, tested: View, cases: Int[Tensor, "r"] | None = None) -> float:
    """The share of test cases of ``tested`` for which the training events of ``trained`` hold later ones.

    Args:
        trained: Whose training events count.
        tested: Whose test cases count.
        cases: Those that are tested, by index; all when omitted.
    """
    split = with_training(tested.split, trained.split)
    if cases is not None:
        test = split["test"]
        split = {**split, "test": Cases(user=test["user"][cases], position=test["position"][cases])}
    return leakage(split)


def users_seen(trained: Split, tested: Split) -> int:
    """Number of users with more training events in ``trained`` than in ``tested``; both must be of one store."""
    seen, granted = (part["train_end"] - part["sequences"]["offsets"][:-1] for part in (trained, tested))
    return int((seen > granted).sum())


def _truncated(split: Split, users: Bool[Tensor, "u_plus_1"]) -> Split:
    """The split in which ``users`` have only their last three events, with the same cases in the same order."""
    sequences = split["sequences"]
    offsets, lengths = sequences["offsets"], sequences["offsets"].diff()
    removed = torch.where(users, (lengths - COLD_USER_EVENTS).clamp(min=0), 0)
    kept = torch.arange(int(offsets[-1])) >= torch.repeat_interleave(offsets[:-1] + removed, lengths)
    # Of a user and all users before.
    gone = removed.cumsum(0)
    start = offsets[:-1] + removed - gone

    def moved(cases: Cases) -> Cases:
        return Cases(user=cases["user"], position=cases["position"] - gone[cases["user"]])

    return Split(
        sequences=Sequences(
            offsets=torch.cat([start, offsets[-1:] - gone[-1:]]),
            items=sequences["items"][kept],
            times=sequences["times"][kept],
        ),
        train_end=torch.maximum(split["train_end"] - gone, start),
        val=moved(split["val"]),
        test=moved(split["test"]),
    )


def _drawn(users: Int[Tensor, "n"], count: int) -> Int[Tensor, "k"]:
    return users[torch.randperm(len(users), generator=seeded(SEED))[:count]]


def _mask(split: Split, users: Int[Tensor, "k"]) -> Bool[Tensor, "u_plus_1"]:
    mask = torch.zeros(len(split["train_end"]), dtype=torch.bool)
    return mask.index_fill(0, users, True)
