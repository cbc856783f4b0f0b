"""Scenarios as masks over test cases, computed only from training counts and positions; no model has to run again."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from common.data.splits import event_users, is_training
from common.types import Sequences, Split

TAIL = 0.35
"""Share of items that are cold (least popular) or warm, as in A-LLMRec (https://arxiv.org/abs/2404.11343, 5.2.2)."""

HEAD = 0.2
"""Share of users with the most training events that form the head; the others form the tail (Pareto's rule)."""
HISTORY_BUCKETS = ((1, 5), (6, 10), (11, 20), (21, 50), (51, None))
COLD_USER_EVENTS = 3
"""Events of a cold user in A-LLMRec: one for training, one for validation, one for testing."""


def train_counts(split: Split, num_items: int) -> Int[Tensor, "i_plus_1"]:
    """The number of training events of each item; 0 for padding."""
    return torch.bincount(split["sequences"]["items"][is_training(split)], minlength=num_items + 1)


def popularity_rank(count: Int[Tensor, "i"], weight: Tensor) -> Tensor:
    """The share of weight at lower counts plus half of that at each item's own count, in float64.

    Items of equal count get equal values, so no slice depends on ids.

    Args:
        count: Training events of each item.
        weight: 1 for shares of items, ``count`` for shares of interactions.
    """
    values, group = torch.unique(count, return_inverse=True)
    own = torch.zeros(len(values), dtype=torch.float64).index_add(0, group, weight.double())
    return ((own.cumsum(0) - own / 2) / own.sum().clamp(min=1))[group]


def slices(split: Split, num_items: int) -> dict[str, Bool[Tensor, "m"]]:
    """The mask of each slice over the test cases.

    ``cold_item`` and ``warm_item`` are the bottom and top 35 % of items by training interactions; items without any
    interaction count as cold. ``cold_item_by_interactions`` and ``warm_item_by_interactions`` are the items that make
    up the bottom and top 35 % of interactions. ``middle_item`` and ``middle_item_by_interactions`` are all others, so
    that three slices add up to the whole in either reading. ``popularity_decile_1`` holds the least popular items;
    items of equal count share the decile of their middle, which is a later one where few events are left to train on.
    ``head_user`` is the fifth of all users with the most training events, ``tail_user`` the others.

    Args:
        split: The split whose training events count.
        num_items: Highest item id.
    """
    count, target = train_counts(split, num_items), split["sequences"]["items"][split["test"]["position"]]
    masks = {"unseen_target": count[target] == 0, **_popularity(count, target)}
    return masks | slices_of_events(split) | _activity(split, split["test"]["user"])


def slices_of_events(split: Split) -> dict[str, Bool[Tensor, "m"]]:
    """The masks of those :func:`slices` that hold whatever was trained on: ties, repeats, histories and cold users."""
    sequences, user, position = split["sequences"], split["test"]["user"], split["test"]["position"]
    history, times = position - sequences["offsets"][user], sequences["times"]
    masks = {
        "tied_in_time": (times[position] == times[(position - 1).clamp(min=0)]) & (history > 0),
        "repeat_target": _repeats(sequences)[position],
    }
    # Only splits that a source ships have targets without a history.
    if bool((history == 0).any()):
        masks["history_0"] = history == 0
    for low, high in HISTORY_BUCKETS:
        if high is None:
            masks[f"history_{low}+"] = history >= low
        else:
            masks[f"history_{low}-{high}"] = (history >= low) & (history <= high)
    events = sequences["offsets"][user + 1] - sequences["offsets"][user]
    return masks | {"cold_user": events == COLD_USER_EVENTS}


def _popularity(count: Int[Tensor, "i_plus_1"], target: Int[Tensor, "m"]) -> dict[str, Tensor]:
    by_items = popularity_rank(count[1:], torch.ones_like(count[1:]))[target - 1]
    by_interactions = popularity_rank(count[1:], count[1:])[target - 1]
    masks = dict[str, Tensor]()
    for reading, rank in (("", by_items), ("_by_interactions", by_interactions)):
        # Where most items were never trained on, their shared rank is not low, and they are cold all the same.
        cold, warm = (rank <= TAIL) | (count[target] == 0), rank >= 1 - TAIL
        masks |= {f"cold_item{reading}": cold, f"warm_item{reading}": warm, f"middle_item{reading}": ~(cold | warm)}
    decile = (by_items * 10).long().clamp(max=9)
    return masks | {f"popularity_decile_{number + 1}": decile == number for number in range(10)}


def _activity(split: Split, user: Int[Tensor, "m"]) -> dict[str, Tensor]:
    trained = (split["train_end"] - split["sequences"]["offsets"][:-1])[1:]
    head = popularity_rank(trained, torch.ones_like(trained))[user - 1] >= 1 - HEAD
    return {"head_user": head, "tail_user": ~head}


def _repeats(sequences: Sequences) -> Bool[Tensor, "n"]:
    """Returns, for each event, whether its user had the item before."""
    items, row = sequences["items"], event_users(sequences)
    order = (row * (int(items.max()) + 1 if items.numel() else 1) + items).argsort(stable=True)
    repeated = torch.zeros_like(items, dtype=torch.bool)
    later, earlier = order[1:], order[:-1]
    repeated[later] = (row[later] == row[earlier]) & (items[later] == items[earlier])
    return repeated
