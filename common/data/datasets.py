"""Torch datasets that turn rows of a split into batches, many rows at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.data import Dataset
from torch.utils.data.distributed import DistributedSampler

from common.data.negatives import NegativeSampler, seeded
from common.types import PAD, Cases, SequenceBatch, Sequences, Split

T_co = TypeVar("T_co", covariant=True)
_CHUNK = 65_536


def last_events(
    sequences: Sequences, start: Int[Tensor, "b"], end: Int[Tensor, "b"], width: int
) -> tuple[Int[Tensor, "b {width}"], Int[Tensor, "b {width}"]]:
    """Items and times of the last ``width`` events of ``start:end``, right-aligned, ``PAD`` and 0 on the left."""
    index = end[:, None] + torch.arange(-width, 0)
    real = index >= start[:, None]
    index.clamp_(min=0)
    return sequences["items"][index].long().mul_(real), sequences["times"][index].long().mul_(real)


def distinct_events(
    sequences: Sequences, start: Int[Tensor, "b"], end: Int[Tensor, "b"], leave_out: Int[Tensor, "b"]
) -> Int[Tensor, "b s"]:
    """Distinct items of ``start:end`` without ``leave_out``, ``PAD`` on the right; as wide as the longest row needs."""
    width = int((end - start).max()) if len(start) else 0
    items = last_events(sequences, start, end, width)[0].sort(dim=1, descending=True).values
    unwanted = items == leave_out[:, None]
    unwanted[:, 1:] |= (items[:, 1:] == items[:, :-1]) & (items[:, 1:] != PAD)
    return items.masked_fill_(unwanted, PAD).sort(dim=1, descending=True).values if unwanted.any() else items


def ranges(first: Int[Tensor, "n"], end: Int[Tensor, "n"]) -> Int[Tensor, "m"]:
    """All of ``first[0]:end[0]``, ``first[1]:end[1]``, … in one tensor, 32 bits wide where that suffices.

    >>> ranges(torch.tensor([0, 7, 4]), torch.tensor([2, 7, 6])).tolist()
    [0, 1, 4, 5]
    """
    count = end - first
    dtype = torch.int32 if int(end.max()) < 2**31 else torch.int64
    gaps = (first - (count.cumsum(0) - count)).to(dtype)
    return torch.repeat_interleave(gaps, count).add_(torch.arange(int(count.sum()), dtype=dtype))


def least_events(instances: str, min_history: int) -> int:
    """Training events that a user needs for an instance; see ``instances`` of the DataModule."""
    return 1 + min_history if instances == "prefix" else 2


class EpochDataset(Dataset[T_co], ABC):
    """Training data that are partly redrawn in each epoch."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of instances of an epoch."""

    @abstractmethod
    def set_epoch(self, epoch: int) -> None:
        """Selects the epoch's draw, in this process and in its loader workers."""


class TrainingDataset(EpochDataset[SequenceBatch]):
    """Training instances of a split; a subclass defines which events make an instance.

    Args:
        split: Sequences and where their training events end; later events are never read.
        max_history: Width ``l`` of histories.
        sampler: Source of negatives, or None for batches without any.
    """

    def __init__(self, split: Split, max_history: int, sampler: NegativeSampler | None = None) -> None:
        self.sequences = split["sequences"]
        self.start = split["sequences"]["offsets"][:-1].long()
        self.end = split["train_end"].long()
        self.max_history = max_history
        self.sampler = sampler

    def set_epoch(self, epoch: int) -> None:
        """Selects the epoch's stream of negatives."""
        if self.sampler is not None:
            self.sampler.set_epoch(epoch)

    @abstractmethod
    def instances(self, rows: Int[Tensor, "b"]) -> SequenceBatch:
        """The batch of ``rows``, without negatives."""

    def __getitems__(self, indices: Sequence[int]) -> SequenceBatch:
        """The batch of the instances ``indices``."""
        batch = self.instances(torch.as_tensor(indices))
        return self.with_negatives(batch, batch["targets"], indices)

    def __getitem__(self, index: int) -> SequenceBatch:
        """The batch of one instance."""
        return self.__getitems__([index])

    def with_negatives(self, batch: SequenceBatch, targets: Int[Tensor, "b q"], rows: Sequence[int]) -> SequenceBatch:
        """Adds ``negatives`` of shape ``(b, q, k)`` where the dataset has a sampler."""
        if self.sampler is not None:
            batch["negatives"] = self.sampler.fill(batch["user_id"], targets, rows)
        return batch


class SequenceDataset(TrainingDataset):
    """One instance per user: the last ``l + 1`` training items, each but the first being the target of those before it.

    Users with fewer than two training events are left out. ``target_time`` is the time of the newest target.
    """

    def __init__(self, split: Split, max_history: int, sampler: NegativeSampler | None = None) -> None:
        super().__init__(split, max_history, sampler)
        self.users = (self.end - self.start >= 2).nonzero()[:, 0]

    def __len__(self) -> int:
        """Number of users with at least two training events."""
        return len(self.users)

    def instances(self, rows: Int[Tensor, "b"]) -> SequenceBatch:
        """History ``(b, l)`` and targets ``(b, l)``."""
        user = self.users[rows]
        items, times = last_events(self.sequences, self.start[user], self.end[user], self.max_history + 1)
        history = items[:, :-1].contiguous()
        return {
            "user_id": user,
            "history": history,
            "history_time": times[:, :-1].contiguous(),
            "target_time": times[:, -1].clone(),
            "targets": items[:, 1:].masked_fill(history == PAD, PAD),
        }


class PrefixDataset(TrainingDataset):
    """One instance per training event with enough earlier ones: the event is the target, the earlier ones its history.

    Args:
        split: As in :class:`TrainingDataset`.
        max_history: As in :class:`TrainingDataset`.
        min_history: Earlier events that a target needs; 0 for models that read no history.
        sampler: As in :class:`TrainingDataset`.
    """

    def __init__(
        self,
        split: Split,
        max_history: int,
        min_history: int = 1,
        sampler: NegativeSampler | None = None,
    ) -> None:
        super().__init__(split, max_history, sampler)
        self.positions = ranges(torch.minimum(self.start + min_history, self.end), self.end)

    def __len__(self) -> int:
        """Number of training events with enough history."""
        return len(self.positions)

    def instances(self, rows: Int[Tensor, "b"]) -> SequenceBatch:
        """History ``(b, l)`` and targets ``(b, 1)``."""
        position = self.positions[rows].long()
        user = torch.searchsorted(self.start, position, right=True) - 1
        history, history_time = last_events(self.sequences, self.start[user], position, self.max_history)
        return {
            "user_id": user,
            "history": history,
            "history_time": history_time,
            "target_time": self.sequences["times"][position].long(),
            "targets": self.sequences["items"][position].long()[:, None],
        }


class WindowDataset(TrainingDataset):
    """Windows of ``l`` inputs and ``t`` targets that slide over each user's training events, as Caser trains.

    A user with fewer than ``l + t`` events gives one window, padded on the left. The released code of Caser then trains
    on padding as a target; here the first event stays an input and missing targets are ``PAD``, to be masked. One draw
    of negatives ``(b, 1, k)`` serves all targets of a window.

    Tang and Wang, "Personalized Top-N Sequential Recommendation via Convolutional Sequence Embedding", WSDM 2018,
    https://arxiv.org/abs/1809.07426

    Args:
        split: As in :class:`TrainingDataset`.
        max_history: Inputs ``l`` of a window.
        num_targets: Targets ``t`` of a window.
        sampler: As in :class:`TrainingDataset`.
    """

    def __init__(
        self,
        split: Split,
        max_history: int,
        num_targets: int = 3,
        sampler: NegativeSampler | None = None,
    ) -> None:
        super().__init__(split, max_history, sampler)
        self.num_targets = num_targets
        first = torch.minimum(self.start + max_history + num_targets, self.end) - 1
        self.newest = ranges(torch.where(self.end - self.start >= 2, first, self.end), self.end)

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.newest)

    def instances(self, rows: Int[Tensor, "b"]) -> SequenceBatch:
        """History ``(b, l)`` and targets ``(b, t)``, the newest in the last column."""
        newest = self.newest[rows].long()
        user = torch.searchsorted(self.start, newest, right=True) - 1
        cut = torch.maximum(newest + 1 - self.num_targets, self.start[user] + 1)
        history, history_time = last_events(self.sequences, self.start[user], cut, self.max_history)
        targets, times = last_events(self.sequences, cut, newest + 1, self.num_targets)
        return {
            "user_id": user,
            "history": history,
            "history_time": history_time,
            "target_time": times[:, -1].clone(),
            "targets": targets,
        }

    def __getitems__(self, indices: Sequence[int]) -> SequenceBatch:
        """The batch of the windows ``indices``."""
        batch = self.instances(torch.as_tensor(indices))
        return self.with_negatives(batch, batch["targets"][:, -1:], indices)


class EvaluationDataset(Dataset[SequenceBatch]):
    """Batches of evaluation cases: events before a case's position are the history, the event there is the target.

    An index stands for a whole batch, so that processes share batches, not cases: what a model computes for a case
    depends, in the last bits, on the rows beside it, and these are the same for any number of processes.

    Args:
        sequences: All events, held-out ones included.
        cases: User and position of each case.
        max_history: Width ``l`` of histories.
        protocol: Name of the protocol, passed on to the model.
        candidates: Items ``(m, c)``, without the target, to rank the target against; None for full ranking.
        mask_seen: Whether full ranking leaves out the user's earlier items.
        rows: Cases to evaluate, by index; None for all.
        batch_size: Cases in a batch; the last one has the rest.
    """

    def __init__(
        self,
        sequences: Sequences,
        cases: Cases,
        max_history: int,
        protocol: str = "full",
        candidates: Int[Tensor, "m c"] | None = None,
        mask_seen: bool = True,
        rows: Int[Tensor, "r"] | None = None,
        batch_size: int = 256,
    ) -> None:
        self.sequences = sequences
        self.cases = cases
        self.max_history = max_history
        self.protocol = protocol
        self.candidates = candidates
        self.mask_seen = mask_seen
        self.rows = torch.arange(len(cases["user"])) if rows is None else rows
        self.batches = self.rows.split(batch_size)

    def __len__(self) -> int:
        """Number of batches."""
        return len(self.batches)

    def __getitem__(self, index: int) -> SequenceBatch:
        """A batch."""
        return self.batch_of(self.batches[index])

    def batch_of(self, case: Int[Tensor, "b"]) -> SequenceBatch:
        """The batch of some cases, by their index in the stored split."""
        user, position = self.cases["user"][case].long(), self.cases["position"][case].long()
        start = self.sequences["offsets"][user].long()
        history, history_time = last_events(self.sequences, start, position, self.max_history)
        target = self.sequences["items"][position].long()
        batch: SequenceBatch = {
            "user_id": user,
            "history": history,
            "history_time": history_time,
            "target_time": self.sequences["times"][position].long(),
            "protocol": self.protocol,
            "case_id": case,
            "target": target,
        }
        if self.candidates is not None:
            batch["candidates"] = torch.cat([target[:, None], self.candidates[case].long()], dim=1)
        elif self.mask_seen:
            batch["seen"] = distinct_events(self.sequences, start, position, leave_out=target)
        else:
            batch["seen"] = history.new_zeros((len(case), 0))
        return batch


class HistoryDataset(Dataset[SequenceBatch]):
    """Users with their whole history, for predictions.

    Args:
        sequences: All events.
        users: Users to predict for.
        max_history: Width ``l`` of histories.
        query_time: Time of the prediction, in Unix seconds.
    """

    def __init__(self, sequences: Sequences, users: Int[Tensor, "n"], max_history: int, query_time: int) -> None:
        self.sequences = sequences
        self.users = users
        self.max_history = max_history
        self.query_time = query_time

    def __len__(self) -> int:
        """Number of users."""
        return len(self.users)

    def __getitems__(self, indices: Sequence[int]) -> SequenceBatch:
        """The batch of the users at ``indices``."""
        user = self.users[torch.as_tensor(indices)]
        start, end = self.sequences["offsets"][user].long(), self.sequences["offsets"][user + 1].long()
        history, history_time = last_events(self.sequences, start, end, self.max_history)
        return {
            "user_id": user,
            "history": history,
            "history_time": history_time,
            "target_time": torch.full_like(user, self.query_time),
            "seen": distinct_events(self.sequences, start, end, leave_out=torch.zeros_like(user)),
        }

    def __getitem__(self, index: int) -> SequenceBatch:
        """The batch of one user."""
        return self.__getitems__([index])


class EpochSampler(DistributedSampler[int]):
    """This process's share of an epoch's order, which is a function of seed and epoch.

    Lightning does not replace a sampler of this class, and sets its epoch even after a resumption; the sampler passes
    the epoch on to the dataset. Unlike its parent, it never holds the order as a list.

    Args:
        dataset: Training instances.
        shuffle: Whether the order is random.
        seed: Seed of the order.
        rank: This process.
        world_size: Number of processes; repeating instances from the start of the order makes their shares equal.
    """

    def __init__(
        self, dataset: EpochDataset[Any], shuffle: bool = True, seed: int = 0, rank: int = 0, world_size: int = 1
    ) -> None:
        super().__init__(dataset, num_replicas=world_size, rank=rank, shuffle=shuffle, seed=seed)
        self.instances = dataset
        self.first = 0
        """Place in this process's share at which the next iteration begins."""

    def set_epoch(self, epoch: int) -> None:
        """Selects the epoch's order and its stream of negatives."""
        super().set_epoch(epoch)
        self.instances.set_epoch(epoch)

    def __iter__(self) -> Iterator[int]:
        """Indices of this process's instances from ``first`` on."""
        length, order = len(self.instances), self.order()
        for first in range(self.first, self.num_samples, _CHUNK):
            turn = torch.arange(first, min(first + _CHUNK, self.num_samples))
            index = (turn * self.num_replicas + self.rank) % length
            yield from (index if order is None else order[index]).tolist()

    def order(self) -> Int[Tensor, "n"] | None:
        """Order of the epoch over all processes, which take turns; ``None`` for the instances' own order."""
        return torch.randperm(len(self.instances), generator=seeded(self.seed, self.epoch)) if self.shuffle else None
