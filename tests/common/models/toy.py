"""A toy world that any model can learn by heart: 20 users walk along one cycle of 38 items; 2 items are never met."""

from collections.abc import Iterator
from functools import cache

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from common.types import Catalogue, SequenceBatch

NUM_USERS, NUM_ITEMS, MAX_HISTORY = 20, 40, 8
UNTRAINED = (39, 40)
DAY = 86_400
_CYCLE = torch.randperm(38, generator=torch.Generator().manual_seed(1)) + 1
_LENGTHS = 6 + torch.arange(NUM_USERS) % 4


def events(user: int) -> tuple[Tensor, Tensor]:
    """Items and times of a user (0-based): 6 to 9 steps along the cycle, a day apart."""
    steps = torch.arange(int(_LENGTHS[user]))
    return _CYCLE[(2 * user + steps) % 38], DAY * (1000 + 3 * user + steps)


def catalogue(returning: bool = False) -> Catalogue:
    """Every key of a catalogue; all events of all users are training events.

    Args:
        returning: Whether each user ends, a day later, with its first item again.
    """
    rows = [events(user) for user in range(NUM_USERS)]
    if returning:
        rows = [(torch.cat([items, items[:1]]), torch.cat([times, times[-1:] + DAY])) for items, times in rows]
    lengths = torch.tensor([len(items) for items, _ in rows])
    items = torch.cat([row[0] for row in rows])
    ids = torch.arange(NUM_ITEMS + 1)
    return {
        "num_users": NUM_USERS,
        "num_items": NUM_ITEMS,
        "time": "real",
        "train": {
            "offsets": torch.cat([torch.zeros(2, dtype=torch.long), lengths.cumsum(0)]),
            "items": items,
            "times": torch.cat([row[1] for row in rows]),
        },
        "train_count": torch.bincount(items, minlength=NUM_ITEMS + 1),
        "titles": ["", *(f"item {i}" for i in range(1, NUM_ITEMS + 1))],
        "texts": ["", *(f"item {i}" for i in range(1, NUM_ITEMS + 1))],
        "relations": {"complement": torch.stack([_CYCLE[:-1], _CYCLE[1:]], dim=1)},
        "attributes": {"category": ids % 3 + (ids > 0)},
    }


def _padded(rows: list[Tensor], width: int) -> Tensor:
    return torch.stack([torch.nn.functional.pad(row[-width:], (max(0, width - len(row)), 0)) for row in rows])


def rows_of(instances: list[tuple[int, int]], width: int = MAX_HISTORY) -> SequenceBatch:
    """Histories of ``(user, position)`` pairs: all events before ``position``, and the time of the event there."""
    known = [events(user) for user, _ in instances]
    cut = [position for _, position in instances]
    return {
        "user_id": torch.tensor([user + 1 for user, _ in instances]),
        "history": _padded([items[:end] for (items, _), end in zip(known, cut, strict=True)], width),
        "history_time": _padded([times[:end] for (_, times), end in zip(known, cut, strict=True)], width),
        "target_time": torch.stack([times[end] for (_, times), end in zip(known, cut, strict=True)]),
    }


def full_batch(width: int = MAX_HISTORY) -> SequenceBatch:
    """Full ranking of every user's last event."""
    last = [(user, int(_LENGTHS[user]) - 1) for user in range(NUM_USERS)]
    seen = torch.stack([torch.nn.functional.pad(events(u)[0][:end], (0, 8 - end)) for u, end in last])
    return {
        **rows_of(last, width),
        "protocol": "full",
        "case_id": torch.arange(NUM_USERS),
        "target": torch.stack([events(user)[0][end] for user, end in last]),
        "seen": seen,
    }


def sampled_batch(width: int = MAX_HISTORY) -> SequenceBatch:
    """The same cases among 20 candidates: the target, then 19 items that the user never met."""
    batch = full_batch(width)
    del batch["seen"]
    negatives = torch.stack([_unmet(user)[:19] for user in range(NUM_USERS)])
    batch["protocol"] = "sampled-19"
    batch["candidates"] = torch.cat([batch["target"][:, None], negatives], dim=1)
    return batch


def sequence_batches(num_negatives: int = 1) -> Iterator[SequenceBatch]:
    """Endless training batches, an instance a user: its last events, each with the next as target."""
    batch = rows_of([(user, int(_LENGTHS[user]) - 1) for user in range(NUM_USERS)])
    batch["targets"] = _padded([events(user)[0][1:] for user in range(NUM_USERS)], MAX_HISTORY)
    while True:
        yield {**batch, "negatives": _drawn(batch["user_id"], MAX_HISTORY, num_negatives)}


def prefix_batches(num_negatives: int = 1, min_history: int = 1) -> Iterator[SequenceBatch]:
    """Endless training batches, an instance an event with at least ``min_history`` earlier ones."""
    pairs = [(user, end) for user in range(NUM_USERS) for end in range(min_history, int(_LENGTHS[user]))]
    batch = rows_of(pairs)
    batch["targets"] = torch.stack([events(user)[0][end : end + 1] for user, end in pairs])
    while True:
        yield {**batch, "negatives": _drawn(batch["user_id"], 1, num_negatives)}


def window_batches(width: int = 3, num_targets: int = 2, num_negatives: int = 3) -> Iterator[SequenceBatch]:
    """Endless training batches, an instance a window of ``width`` inputs and ``num_targets`` targets."""
    ends = [(user, end) for user in range(NUM_USERS) for end in range(1, int(_LENGTHS[user]) - num_targets + 1)]
    batch = rows_of(ends, width)
    batch["targets"] = torch.stack([events(user)[0][end : end + num_targets] for user, end in ends])
    while True:
        yield {**batch, "negatives": _drawn(batch["user_id"], 1, num_negatives)}


def session_batches(num_negatives: int = 1) -> Iterator[SequenceBatch]:
    """Endless training batches, one step of all users in parallel; a new pass begins with the first events."""
    while True:
        for step in range(5):
            batch = rows_of([(user, step + 1) for user in range(NUM_USERS)], width=1)
            batch["targets"] = torch.stack([events(user)[0][step + 1 : step + 2] for user in range(NUM_USERS)])
            yield {**batch, "negatives": _drawn(batch["user_id"], 1, num_negatives)}


@cache
def _unmet(user: int) -> Tensor:
    met = torch.zeros(NUM_ITEMS + 1, dtype=torch.bool)
    met[0] = True
    met[events(user)[0]] = True
    return (~met).nonzero().squeeze(1)


def _drawn(user_id: Tensor, positions: int, num_negatives: int) -> Tensor:
    """Items that each user never met, shape ``(b, positions, num_negatives)``."""
    pools = [_unmet(user - 1) for user in user_id.tolist()]
    draws = [pool[torch.randint(len(pool), (positions, num_negatives))] for pool in pools]
    return torch.stack(draws)


class Batches(Dataset[SequenceBatch]):
    """Given batches as a data set."""

    def __init__(self, batches: list[SequenceBatch]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> SequenceBatch:
        return self.batches[index]


def loader(*batches: SequenceBatch) -> DataLoader[SequenceBatch]:
    """Loads given batches as they are."""
    return DataLoader(Batches(list(batches)), batch_size=None)
