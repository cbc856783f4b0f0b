"""Floors from counts and times: unless a sequence model beats them, its effort is for nothing."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from common.errors import above_zero
from common.models.closed_form import ClosedFormRecommender
from common.types import Catalogue, SequenceBatch

DAY = 86_400
"""Seconds per day."""
Clock = Literal["query", "last_event"]
"""Time that a floor looks back from: that of the target event, or that of the user's last known event."""


def query_time(batch: SequenceBatch, clock: Clock) -> Int[Tensor, "b"]:
    """Time that each row looks back from, in Unix seconds; 0 for a user without history under ``last_event``."""
    return batch["target_time"] if clock == "query" else batch["history_time"][:, -1]


def clock_information(clock: Clock) -> frozenset[str]:
    """What a model that reads this clock adds to its information set."""
    return frozenset({"query_time" if clock == "query" else "event_times"})


class EventLog:
    """Training events of all users in order of time.

    A state of all items is kept after every ``num_items + 1`` events, which takes no more memory than the log. What
    lies before a given time is the last state before it and fewer further events than a state has items, however long
    the log is.

    Args:
        catalogue: Its ``train`` and ``num_items`` are read.
        half_life: Seconds in which an event's weight is halved; infinite for plain counts.
    """

    def __init__(self, catalogue: Catalogue, half_life: float = float("inf")) -> None:
        self.times, order = catalogue["train"]["times"].long().cpu().sort(stable=True)
        self.items = catalogue["train"]["items"].long().cpu()[order]
        self.width = catalogue["num_items"] + 1
        self.half_life = half_life
        # The time of each state is that of its last event; the first state has none.
        self.marks = F.pad(self.times, (1, 0))[:: self.width]

    def counts(self, before: Int[Tensor, "b"]) -> Float[Tensor, "b i_plus_1"]:
        """Weight of the events of each item before each time, which is their number for an infinite half-life.

        Args:
            before: Unix seconds, in any order.
        """
        moments, states, since = self._places(before)
        scores = self._counted[states].mul_(self._weight(moments - self.marks[states])[:, None])
        # Row by row is four times as fast as one sum over all rows, whose index would outgrow the result.
        for row, moment, events in zip(scores, moments, since, strict=True):
            row.index_add_(0, self.items[events], self._weight(moment - self.times[events]))
        return scores

    def first_times(self) -> Int[Tensor, "i_plus_1"]:
        """Time of each item's first event; the largest integer where it has none."""
        never = torch.full((self.width,), torch.iinfo(torch.long).max)
        return never.scatter_reduce(0, self.items, self.times, "amin")

    def last_times(self, before: Int[Tensor, "b"]) -> Int[Tensor, "b i_plus_1"]:
        """Time of each item's last event before each time; the smallest integer where there is none."""
        _, states, since = self._places(before)
        latest = self._latest[states]
        for row, events in zip(latest, since, strict=True):
            row.scatter_reduce_(0, self.items[events], self.times[events], "amax")
        return latest

    @cached_property
    def _counted(self) -> Float[Tensor, "s i_plus_1"]:
        """Weights of the events before each state: those of the state before it, faded, and its block."""
        # A Trainer may make bf16 the default type, which keeps two to three digits of a count.
        counted = torch.zeros(len(self.marks), self.width, dtype=torch.float32)
        for state, (times, items) in enumerate(self._blocks(), start=1):
            faded = counted[state - 1] * self._weight(self.marks[state] - self.marks[state - 1])
            counted[state] = faded.index_add_(0, items, self._weight(self.marks[state] - times))
        return counted

    @cached_property
    def _latest(self) -> Int[Tensor, "s i_plus_1"]:
        """Time of each item's last event before each state."""
        latest = torch.full((len(self.marks), self.width), torch.iinfo(torch.long).min)
        for state, (times, items) in enumerate(self._blocks(), start=1):
            latest[state] = latest[state - 1].scatter_reduce(0, items, times, "amax")
        return latest

    def _blocks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Times and items of the events between each state and the next."""
        whole = len(self.times) - len(self.times) % self.width
        return zip(*(events[:whole].view(-1, self.width) for events in (self.times, self.items)), strict=True)

    def _places(self, before: Int[Tensor, "b"]) -> tuple[Int[Tensor, "b"], Int[Tensor, "b"], list[slice]]:
        """The times, the last state before each, and the events in between."""
        moments = before.cpu().long().contiguous()
        ends = torch.searchsorted(self.times, moments)
        return moments, ends // self.width, [slice(end - end % self.width, end) for end in ends.tolist()]

    def _weight(self, ages: Int[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        if self.half_life == float("inf"):
            return torch.ones(ages.shape, dtype=torch.float32)
        # The first mark is no event's, and may be later than the next one or a moment: its counts are 0, and 0 · ∞ NaN.
        return (-ages.clamp_min(0).double() / self.half_life).exp2().float()


class Popularity(ClosedFormRecommender):
    """Scores an item by its number of training events, regardless of time.

    Under a leave-one-out split these include events later than the query; ``RecentPopularity`` and
    ``DecayPopularity`` leave those out.

    Args:
        num_items: Number of items.
    """

    def __init__(self, num_items: int) -> None:
        super().__init__(num_items)
        self.save_hyperparameters()
        # Whole numbers, which no change of the module's type rounds.
        self.register_buffer("counts", torch.zeros(num_items + 1, dtype=torch.long), persistent=False)
        self.counts: Tensor

    def attach(self, catalogue: Catalogue) -> None:
        """Reads the items' counts."""
        super().attach(catalogue)
        self.counts = catalogue["train_count"].long().to(self.device)

    def score_catalogue(self, batch: SequenceBatch) -> Float[Tensor, "b i_plus_1"]:
        """The same counts for every user."""
        return self.counts.float().repeat(len(batch["history"]), 1)


class _TimeFloor(ClosedFormRecommender):
    """A floor that looks back from a query time at the log of training events."""

    information_set = clock_information("query")
    log_of_events: EventLog

    def __init__(self, num_items: int, clock: Clock, half_life: float = float("inf")) -> None:
        super().__init__(num_items)
        self.clock: Clock = clock
        self.half_life = half_life
        self.information_set = clock_information(clock)

    def attach(self, catalogue: Catalogue) -> None:
        """Sorts the training events by time."""
        super().attach(catalogue)
        self.log_of_events = EventLog(catalogue, self.half_life * DAY)


class RecentPopularity(_TimeFloor):
    """Scores an item by its training events in the ``days`` before the query, events of the same second left out.

    Args:
        num_items: Number of items.
        days: Length of the window; infinite for all events before the query.
        clock: Time to look back from: the ``query`` or the user's ``last_event``.
    """

    def __init__(self, num_items: int, days: float = 30.0, clock: Clock = "query") -> None:
        above_zero(days=days)
        super().__init__(num_items, clock)
        self.save_hyperparameters()
        self.days = days

    def score_catalogue(self, batch: SequenceBatch) -> Float[Tensor, "b i_plus_1"]:
        """Events before the query, less those before the window's start."""
        # On the CPU, where counts are made: not every accelerator has float64.
        now = query_time(batch, self.clock).cpu()
        since = (now.double() - self.days * DAY).clamp_min(torch.iinfo(torch.long).min).round().long()
        return self.log_of_events.counts(now).sub_(self.log_of_events.counts(since)).to(self.device)


class DecayPopularity(_TimeFloor):
    """Scores an item by its training events before the query, halved in weight every ``half_life`` days.

    Args:
        num_items: Number of items.
        half_life: Days.
        clock: Time to look back from: the ``query`` or the user's ``last_event``.
    """

    def __init__(self, num_items: int, half_life: float = 30.0, clock: Clock = "query") -> None:
        above_zero(half_life=half_life)
        super().__init__(num_items, clock, half_life)
        self.save_hyperparameters()

    def score_catalogue(self, batch: SequenceBatch) -> Float[Tensor, "b i_plus_1"]:
        """Weighted events of each item."""
        return self.log_of_events.counts(query_time(batch, self.clock)).to(self.device)


class NewestFirst(_TimeFloor):
    """Scores an item by how late its first training event was; items without one by the query come last, tied.

    The score is the rank of that first time among all first times: seconds since 1970 are not exact in fp32.

    Args:
        num_items: Number of items.
        clock: Time to look back from: the ``query`` or the user's ``last_event``.
    """

    def __init__(self, num_items: int, clock: Clock = "query") -> None:
        super().__init__(num_items, clock)
        self.save_hyperparameters()

    def attach(self, catalogue: Catalogue) -> None:
        """Ranks the items' first times."""
        super().attach(catalogue)
        self.first = self.log_of_events.first_times()
        self.order = torch.unique(self.first, return_inverse=True)[1] + 1

    def score_catalogue(self, batch: SequenceBatch) -> Float[Tensor, "b i_plus_1"]:
        """Rank of the first time, 0 where it is later than the query."""
        begun = self.first <= query_time(batch, self.clock).cpu()[:, None]
        return torch.where(begun, self.order, 0).float().to(self.device)
