"""Negatives for training: uniform over what a user has not interacted with, drawn without rejection."""

from __future__ import annotations

import copy
import hashlib
from array import array
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from common.data.epoch import SharedEpoch
from common.data.splits import event_users, is_training
from common.errors import UserError
from common.types import PAD, Split

NegativeRule = Literal["train", "complete", "none", "in-batch"]
"""What negatives avoid: the user's training items, all the user's items, nothing; ``in-batch``: other rows' targets."""


class Complement:
    """Draws items that a group does not contain, exactly uniformly and without rejection.

    Let ``s_0 < s_1 < …`` be the group's items, counted from 0. The ``r``-th item outside them is
    ``r + #{j : s_j - j <= r}``, so a uniform ``r`` gives an exactly uniform item. The count is one binary search for
    all rows together, in the sorted keys ``group * num_items + s_j - j``.

    Args:
        members: Sorted distinct ``group * num_items + item - 1``, shape ``(m,)``; overwritten.
        num_groups: Number of groups, counted from 0.
        num_items: Number of items of the catalogue.

    Attributes:
        free: Number of items outside each group, shape ``(num_groups,)``; where it is 0, nothing can be drawn.
    """

    def __init__(self, members: Int[Tensor, "m"], num_groups: int, num_items: int) -> None:
        groups = members.div(num_items, rounding_mode="floor")
        held = torch.bincount(groups, minlength=num_groups)
        self.num_items = num_items
        self.free = num_items - held
        self._first = held.cumsum(0) - held
        # In place, since tables of twenty million events leave no room for copies.
        self._keys = members.sub_(torch.arange(len(members))).add_(self._first[groups])

    def draw(self, groups: Int[Tensor, "n"], count: int, generator: torch.Generator) -> Int[Tensor, "n {count}"]:
        """Draws ``count`` items for each group, independently; fastest if equal groups are adjacent."""
        # A remainder's bias is below num_items / 2**62, and it takes a third of the time of a float64 draw.
        ranks = torch.randint(2**62, (len(groups), count), generator=generator).remainder_(self.free[groups, None])
        found = torch.searchsorted(self._keys, ranks + (groups * self.num_items)[:, None], right=True)
        return ranks.add_(found.sub_(self._first[groups, None])).add_(1)


class NegativeSampler:
    """Draws training negatives for users, seeded and vectorised.

    Rules:
        * ``train`` (default): uniform over the items outside the user's training events. Validation and test items
          can be drawn, since training must not know them.
        * ``complete``: uniform over the items outside all events of the user, held-out ones included. This is the
          rule of the released LRD code, and a leak: never being drawn reveals an item as a future target.
        * ``none``: uniform over the catalogue.
        * ``in-batch``: targets of other rows of the batch, uniform over positions and thus proportional to popularity.
          For a batch of a single row, ``none`` applies.

    Args:
        rule: What a negative avoids.
        split: Whose events are avoided.
        num_items: Number of items of the catalogue.
        count: Negatives that :meth:`fill` draws per target.
        seed: Seed of :meth:`fill`.

    Raises:
        UserError: If a user has interacted with every item, so that nothing is left to draw.
    """

    def __init__(self, rule: NegativeRule, split: Split, num_items: int, count: int = 1, seed: int = 0) -> None:
        self.rule: NegativeRule = rule
        self.num_items = num_items
        self.count = count
        self.seed = seed
        self._epoch = SharedEpoch()
        if rule not in ("train", "complete"):
            return
        members = _distinct_events(split, num_items, complete=rule == "complete")
        self._outside = Complement(members, len(split["train_end"]), num_items)
        full = (self._outside.free == 0).nonzero()
        if len(full):
            user = int(full[0])
            raise UserError(
                f"user {user} has interacted with all {num_items} items: no negative is left to draw",
                "Choose --data.negatives none or in-batch, an objective without negatives (ce), or another recipe.",
            )

    def draw(self, users: Int[Tensor, "n"], count: int, generator: torch.Generator) -> Int[Tensor, "n {count}"]:
        """Draws ``count`` items for each user, independently; fastest if equal users are adjacent.

        Raises:
            ValueError: Under ``in-batch``, which needs the batch's targets: see :meth:`fill`.
        """
        if self.rule == "in-batch":
            raise ValueError("in-batch negatives come from the targets of a batch: call fill")
        if self.rule == "none":
            return torch.randint(1, self.num_items + 1, (len(users), count), generator=generator)
        return self._outside.draw(users, count, generator)

    def beside(self, count: int) -> NegativeSampler:
        """A sampler of the same rule and epoch whose :meth:`fill` is independent of this one's."""
        other = copy.copy(self)
        other.count = count
        other.seed = int(torch.randint(2**62, (1,), generator=seeded(self.seed, count, -1)))
        return other

    def set_epoch(self, epoch: int) -> None:
        """Selects the epoch's stream of :meth:`fill`, in this process and in its loader workers."""
        self._epoch.set(epoch)

    def fill(self, users: Int[Tensor, "b"], targets: Int[Tensor, "b q"], rows: Sequence[int]) -> Int[Tensor, "b q k"]:
        """Draws ``count`` negatives for each target; ``PAD`` where there is no target.

        The draw depends only on seed, epoch and ``rows``, so an epoch has the same negatives with any number of
        workers and after a resumption.

        Args:
            users: User of each row.
            targets: Targets of each row.
            rows: Numbers that distinguish this batch from the others of the epoch.
        """
        generator = seeded(self.seed, int(self._epoch), *rows)
        row, column = targets.ne(PAD).nonzero(as_tuple=True)
        negatives = targets.new_zeros((*targets.shape, self.count))
        if self.rule == "in-batch":
            negatives[row, column] = self._others(row, targets[row, column], generator)
        else:
            negatives[row, column] = self.draw(users[row], self.count, generator)
        return negatives

    def _others(
        self, row: Int[Tensor, "n"], targets: Int[Tensor, "n"], generator: torch.Generator
    ) -> Int[Tensor, "n k"]:
        shape = (len(row), self.count)
        own = torch.bincount(row)
        first, own = (own.cumsum(0) - own)[row, None], own[row, None]
        others = len(row) - own
        if not bool(others.any()):
            return torch.randint(1, self.num_items + 1, shape, generator=generator)
        ranks = torch.randint(2**62, shape, generator=generator).remainder_(others)
        return targets[ranks + own * (ranks >= first)]


def seeded(*numbers: int) -> torch.Generator:
    """A generator whose stream depends on all of ``numbers`` and is the same on every machine."""
    digest = hashlib.blake2b(array("q", numbers).tobytes(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little", signed=True))


def _distinct_events(split: Split, num_items: int, *, complete: bool) -> Int[Tensor, "m"]:
    """Sorted distinct ``user * num_items + item - 1`` of training events, or of all events."""
    sequences = split["sequences"]
    keys = event_users(sequences) * num_items + sequences["items"] - 1
    keys = (keys if complete else keys[is_training(split)]).sort().values
    return keys[torch.cat([keys.new_ones(1, dtype=torch.bool), keys[1:] != keys[:-1]])] if len(keys) else keys
