"""Floors from counts and times: unless a sequence model beats them, its effort is for nothing."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from common.models.closed_form import ClosedFormRecommender
from common.types import Catalogue, SequenceBatch

DAY = 86_400
"""Seconds per day."""
Clock = Literal["query", "last_event"]
"""Time that a floor looks back from: that of the target event, or that of the user's last known event."""

_EVENTS_PER_PASS = 1 << 22


def query_time(batch: SequenceBatch, clock: Clock) -> Int[Tensor, "b"]:
    """Time that each row looks back from, in Unix seconds; 0 for a user without history under ``last_event``."""
    return batch["target_time"] if clock == "query" else batch["history_time"][:, -1]


def clock_information(clock: Clock) -> frozenset[str]:
    """What a model that reads this clock adds to its information set."""
    return frozenset({"query_time" if clock == "query" else "event_times"})


class EventLog:
    """Training events of all users in order of time.

    Counts are made in passes of four million events, which bounds working memory.

    Args:
        catalogue: Its ``train`` and ``num_items`` are read.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self.times, order = catalogue["train"]["times"].long().cpu().sort(stable=True)
        self.items = catalogue["train"]["items"].long().cpu()[order]
        self.width = catalogue["num_items"] + 1

    def counts(self, before: Int[Tensor, "b"], half_life: float = float("inf")) -> Float[Tensor, "b i_plus_1"]:
        """Events of each item before each time, halved in weight every ``half_life`` seconds.

        Times are visited in order, so that each event is read once and each row follows from the previous one:
        ``S_r = S_{r-1} · 2^{-(t_r - t_{r-1}) / h} + new events``, where nothing can overflow.

        Args:
            before: Unix seconds, in any order.
            half_life: Seconds; infinite for plain counts.
        """
        moments, row = torch.unique(before.cpu().long(), return_inverse=True)
        ends = torch.searchsorted(self.times, moments)
        scores = torch.zeros(len(moments), self.width)
        for start in range(0, int(ends[-1]) if len(ends) else 0, _EVENTS_PER_PASS):
            events = torch.arange(start, min(start + _EVENTS_PER_PASS, int(ends[-1])))
            rows = torch.searchsorted(ends, events, right=True)
            ages = (moments[rows] - self.times[events]).double()
            scores.view(-1).index_add_(0, rows * self.width + self.items[events], (-ages / half_life).exp2().float())
        fading = (-moments.diff().double() / half_life).exp2().tolist()
        for after, factor in enumerate(fading, start=1):
            scores[after].add_(scores[after - 1], alpha=factor)
        return scores[row]

    def first_times(self) -> Int[Tensor, "i_plus_1"]:
        """Time of each item's first event; the largest integer where it has none."""
        never = torch.full((self.width,), torch.iinfo(torch.long).max)
        return never.scatter_reduce(0, self.items, self.times, "amin")

    def last_times(self, before: Int[Tensor, "b"]) -> Int[Tensor, "b i_plus_1"]:
        """Time of each item's last event before each time; -1 where there is none."""
        moments, row = torch.unique(before.cpu().long(), return_inverse=True)
        ends = torch.searchsorted(self.times, moments)
        latest = torch.full((len(moments), self.width), -1)
        for start in range(0, int(ends[-1]) if len(ends) else 0, _EVENTS_PER_PASS):
            events = torch.arange(start, min(start + _EVENTS_PER_PASS, int(ends[-1])))
            cells = torch.searchsorted(ends, events, right=True) * self.width + self.items[events]
            latest.view(-1).scatter_reduce_(0, cells, self.times[events], "amax")
        return latest.cummax(0).values[row]


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
        self.register_buffer("counts", torch.zeros(num_items + 1), persistent=False)
        self.counts: Tensor

    def attach(self, catalogue: Catalogue) -> None:
        """Reads the items' counts."""
        super().attach(catalogue)
        self.counts = catalogue["train_count"].float().to(self.device)

    def score_catalogue(self, batch: SequenceBatch) -> Float[Tensor, "b i_plus_1"]:
        """The same counts for every user."""
        return self.counts.repeat(len(batch["history"]), 1)


class _TimeFloor(ClosedFormRecommender):
    """A floor that looks back from a query time at the log of training events."""

    log_of_events: EventLog

    def __init__(self, num_items: int, clock: Clock) -> None:
        super().__init__(num_items)
        self.clock: Clock = clock
        self.information_set = clock_information(clock)

    def attach(self, catalogue: Catalogue) -> None:
        """Sorts the training events by time."""
        super().attach(catalogue)
        self.log_of_events = EventLog(catalogue)


class RecentPopularity(_TimeFloor):
    """Scores an item by its training events in the ``days`` before the query, events of the same second left out.

    Args:
        num_items: Number of items.
        days: Length of the window.
        clock: Time to look back from: the ``query`` or the user's ``last_event``.
    """

    def __init__(self, num_items: int, days: float = 30.0, clock: Clock = "query") -> None:
        super().__init__(num_items, clock)
        self.save_hyperparameters()
        self.days = days

    def score_catalogue(self, batch: SequenceBatch) -> Float[Tensor, "b i_plus_1"]:
        """Events before the query, less those before the window's start."""
        now = query_time(batch, self.clock)
        since = now - round(self.days * DAY)
        return self.log_of_events.counts(now).sub_(self.log_of_events.counts(since)).to(self.device)


class DecayPopularity(_TimeFloor):
    """Scores an item by its training events before the query, halved in weight every ``half_life`` days.

    Args:
        num_items: Number of items.
        half_life: Days.
        clock: Time to look back from: the ``query`` or the user's ``last_event``.
    """

    def __init__(self, num_items: int, half_life: float = 30.0, clock: Clock = "query") -> None:
        super().__init__(num_items, clock)
        self.save_hyperparameters()
        self.half_life = half_life

    def score_catalogue(self, batch: SequenceBatch) -> Float[Tensor, "b i_plus_1"]:
        """Weighted events of each item."""
        now = query_time(batch, self.clock)
        return self.log_of_events.counts(now, half_life=self.half_life * DAY).to(self.device)


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
