"""Session-parallel training steps, as GRU4Rec reads its data."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from common.data.datasets import TrainingDataset
from common.data.negatives import NegativeSampler
from common.errors import UserError
from common.types import SequenceBatch, Split


class SessionDataset(TrainingDataset):
    """Session-parallel steps, as GRU4Rec trains: ``slots`` users walk their training events in lock step.

    Users are ordered by the time of their first event. When one ends, the next takes its slot; when none is left, the
    slot closes and the batch shrinks. Index ``i`` is step ``i``; steps must be read in order. A row continues a
    session exactly if the previous step had its ``user_id`` with this ``history`` as target; otherwise it starts one.

    Hidasi et al., "Session-based Recommendations with Recurrent Neural Networks", ICLR 2016,
    https://arxiv.org/abs/1511.06939. Here a session is a user's whole training history.

    Args:
        split: As in :class:`TrainingDataset`.
        slots: Number of users at a time.
        sampler: As in :class:`TrainingDataset`.
        rank: This process, which takes every ``world_size``-th user.
        world_size: Number of processes. All take as many steps as the longest; a shorter one starts over.

    Raises:
        UserError: If there are fewer sessions than processes.
    """

    def __init__(
        self, split: Split, slots: int, sampler: NegativeSampler | None = None, rank: int = 0, world_size: int = 1
    ) -> None:
        super().__init__(split, 1, sampler)
        self.rank = rank
        users = (self.end - self.start >= 2).nonzero()[:, 0]
        if len(users) < world_size > 1:
            raise UserError(
                f"{len(users)} users have the two training events that a session takes, too few for {world_size} "
                "processes.",
                f"Train on {max(len(users), 1)} with --trainer.devices.",
            )
        users = users[self.sequences["times"][self.start[users]].argsort(stable=True)]
        ends = []
        for shard in range(world_size):
            own = users[shard::world_size]
            lengths = self.end[own] - self.start[own] - 1
            first_step, slot = lock_step(lengths, slots)
            ends.append(int((first_step + lengths).max()) if len(own) else 0)
            if shard == rank:
                self._plan(own, first_step, slot, ends[shard])
        self.steps = max(ends)

    def __len__(self) -> int:
        """Number of steps."""
        return self.steps

    def instances(self, rows: Int[Tensor, "b"]) -> SequenceBatch:
        """The slots in use at one step: history ``(b, 1)`` and targets ``(b, 1)``."""
        step = rows % self.own_steps
        # A slot's session is the last one that has begun: one binary search in (slot, first step).
        session = torch.searchsorted(self.keys, self.slots * self.own_steps + step, right=True) - 1
        position = self.shift[session] + step
        user = self.users[session]
        running = position + 1 < self.end[user]
        user, position = user[running], position[running]
        items, times = self.sequences["items"], self.sequences["times"]
        return {
            "user_id": user,
            "history": items[position].long()[:, None],
            "history_time": times[position].long()[:, None],
            "target_time": times[position + 1].long(),
            "targets": items[position + 1].long()[:, None],
        }

    def __getitems__(self, indices: Sequence[int]) -> SequenceBatch:
        """The batch of one step.

        Raises:
            ValueError: If more than one step is asked for.
        """
        if len(indices) != 1:
            raise ValueError(f"a batch of sessions is one step, not {len(indices)}: load with batch_size=None")
        batch = self.instances(torch.as_tensor(indices))
        return self.with_negatives(batch, batch["targets"], [self.rank, *indices])

    def _plan(self, users: Int[Tensor, "n"], first_step: Int[Tensor, "n"], slot: Int[Tensor, "n"], steps: int) -> None:
        self.own_steps = max(steps, 1)
        self.slots = torch.arange(int(slot.max()) + 1 if len(slot) else 0)
        self.keys, order = (slot * self.own_steps + first_step).sort()
        self.users = users[order]
        self.shift = self.start[self.users] - first_step[order]


def lock_step(lengths: Int[Tensor, "n"], slots: int) -> tuple[Int[Tensor, "n"], Int[Tensor, "n"]]:
    """First step and slot of each session, where the next session takes the slot that is freed first.

    >>> first, slot = lock_step(torch.tensor([3, 1, 1, 2]), 2)
    >>> first.tolist(), slot.tolist()
    ([0, 0, 1, 2], [0, 1, 1, 1])
    """
    free = [(0, slot) for slot in range(slots)]
    begun = []
    for length in lengths.tolist():
        step, slot = free[0]
        begun.append((step, slot))
        heapq.heapreplace(free, (step + length, slot))
    first_step, slot_of = torch.tensor(begun, dtype=torch.long).reshape(-1, 2).T.contiguous()
    return first_step, slot_of
