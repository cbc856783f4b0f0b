"""Splits of sorted events into training events and evaluation cases (PROTOCOL P1); no loop over users.

Every function reads :class:`~common.types.Sequences`, whose events are in the store's order, and divides them by
position. Validation and test cases see all earlier events of their user; they differ in nothing else.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from common.types import Cases, Sequences, Split

QUANTILES = (0.8, 0.9)
"""Shares of the events that precede ``global_temporal``'s validation and test periods."""


def build_sequences(
    users: Int[Tensor, "n"], items: Int[Tensor, "n"], times: Int[Tensor, "n"], num_users: int
) -> Sequences:
    """The compressed rows of events that are sorted by user.

    Args:
        users: User id of each event, ascending.
        items: Item id of each event.
        times: Time of each event.
        num_users: Highest user id.

    Raises:
        ValueError: If the events are not sorted by user.
    """
    if users.numel() and bool((users[1:] < users[:-1]).any()):
        raise ValueError("events must be sorted by user")
    offsets = torch.zeros(num_users + 2, dtype=torch.long)
    torch.cumsum(torch.bincount(users, minlength=num_users + 1), 0, out=offsets[1:])
    return Sequences(offsets=offsets, items=items, times=times)


def event_users(sequences: Sequences) -> Int[Tensor, "n"]:
    """The user of each event."""
    offsets = sequences["offsets"].long()
    return torch.repeat_interleave(torch.arange(len(offsets) - 1), offsets.diff())


def is_training(split: Split) -> Bool[Tensor, "n"]:
    """Whether each event is a training event."""
    users = event_users(split["sequences"])
    return torch.arange(len(users)) < split["train_end"].long()[users]


def leave_one_out(sequences: Sequences) -> Split:
    """Holds out each user's last event for testing and the one before for validation.

    Users with fewer than three events serve for training only.
    """
    offsets = sequences["offsets"]
    start, end = offsets[:-1], offsets[1:]
    held_out = end - start >= 3
    user = held_out.nonzero().flatten()
    train_end = torch.where(held_out, end - 2, end)
    return Split(
        sequences=sequences,
        train_end=train_end,
        val=Cases(user=user, position=train_end[user]),
        test=Cases(user=user, position=train_end[user] + 1),
    )


def cut_times(sequences: Sequences) -> tuple[int, int]:
    """The event times at ``QUANTILES`` (rounded down to times that occur)."""
    times = sequences["times"].sort().values
    if not times.numel():
        raise ValueError("cut_times needs at least one event")
    first, second = (int(times[int(q * (times.numel() - 1))]) for q in QUANTILES)
    return first, second


def global_temporal(sequences: Sequences, cuts: tuple[int, int]) -> Split:
    """Trains on events before the first cut, validates between the cuts and tests from the second on.

    A user's target is the first event in the period, so that no event of the period but the target is ever read;
    a user without an earlier event has no history and no case. Gusak et al. (https://arxiv.org/abs/2507.16289) show
    that the choice of targets matters: it is stored, and named in the manifest.

    Args:
        sequences: Events, each user's in order of time.
        cuts: Times at which validation and testing begin.

    Raises:
        ValueError: If a user's events are not in order of time.
    """
    offsets, times = sequences["offsets"], sequences["times"]
    row = event_users(sequences)
    if bool(((row[1:] == row[:-1]) & (times[1:] < times[:-1])).any()):
        raise ValueError("global_temporal needs each user's events in order of time")
    rows = offsets.numel() - 1
    first = offsets[:-1] + torch.bincount(row[times < cuts[0]], minlength=rows)
    second = offsets[:-1] + torch.bincount(row[times < cuts[1]], minlength=rows)
    has_val = (first < second) & (first > offsets[:-1])
    has_test = (second < offsets[1:]) & (second > offsets[:-1])
    val, test = (mask.nonzero().flatten() for mask in (has_val, has_test))
    return Split(
        sequences=sequences,
        train_end=first,
        val=Cases(user=val, position=first[val]),
        test=Cases(user=test, position=second[test]),
    )


def ready_made(sequences: Sequences, part: Int[Tensor, "n"]) -> Split:
    """Keeps a split that a source ships.

    Args:
        sequences: Events, each user's training events first, then validation, then test.
        part: 0, 1 or 2 for training, validation and test events; at most one of each held-out kind per user.

    Raises:
        ValueError: If a user's parts are out of order, or a held-out part has two events.
    """
    offsets = sequences["offsets"]
    row = event_users(sequences)
    same = row[1:] == row[:-1]
    if bool((same & ((part[1:] < part[:-1]) | ((part[1:] == part[:-1]) & (part[1:] > 0)))).any()):
        raise ValueError("a user's events must be training, then one validation, then one test event")
    val, test = ((part == kind).nonzero().flatten() for kind in (1, 2))
    return Split(
        sequences=sequences,
        train_end=offsets[:-1] + torch.bincount(row[part == 0], minlength=offsets.numel() - 1),
        val=Cases(user=row[val], position=val),
        test=Cases(user=row[test], position=test),
    )


def leakage(split: Split) -> float:
    """The share of test cases whose training data holds events later than the target.

    Leave-one-out trains on other users' later events (Ji et al., https://arxiv.org/abs/2010.11060); this share says
    for how many cases.
    """
    sequences = split["sequences"]
    times, trained = sequences["times"], is_training(split)
    targets = times[split["test"]["position"]]
    if not targets.numel() or not bool(trained.any()):
        return 0.0
    return float((targets < times[trained].max()).double().mean())
