import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from common.data.negatives import NegativeSampler
from common.data.sessions import SessionDataset, lock_step
from common.errors import UserError
from tests.fixtures.histories import random_histories, split_of, training_items

HISTORIES = st.lists(st.lists(st.integers(1, 30), max_size=9), min_size=1, max_size=9)


def walk(histories: dict[int, list[int]], slots: int) -> list[list[tuple[int, int, int]]]:
    """Steps of (user, item, next item), by the rule as told: a slot takes the next user when its own has ended."""
    waiting = [user for user, items in histories.items() if len(items) > 1]
    held: list[tuple[int, int] | None] = [(waiting.pop(0), 0) for _ in range(min(slots, len(waiting)))]
    steps = []
    while any(held):
        steps.append([(u, histories[u][t], histories[u][t + 1]) for u, t in filter(None, held)])
        for slot, state in enumerate(held):
            if state is not None:
                user, t = state
                ended = t + 2 == len(histories[user])
                held[slot] = (user, t + 1) if not ended else (waiting.pop(0), 0) if waiting else None
    return steps


@given(HISTORIES, st.integers(1, 4))
def test_steps_equal_a_walk_in_lock_step(histories: list[list[int]], slots: int) -> None:
    split = split_of(histories)
    dataset = SessionDataset(split, slots)
    batches = [dataset[step] for step in range(len(dataset))]
    found = [
        list(zip(b["user_id"].tolist(), b["history"][:, 0].tolist(), b["targets"][:, 0].tolist(), strict=True))
        for b in batches
    ]
    assert found == walk(training_items(split), slots)


def test_times_go_with_their_events() -> None:
    batch = SessionDataset(split_of([[1, 2, 3], [4, 5, 6]], held_out=0), 2)[1]
    assert batch["history_time"].tolist() == [[1001], [1002]]
    assert batch["target_time"].tolist() == [2001, 2002]


def test_users_walk_in_order_of_their_first_event() -> None:
    split = split_of([[1, 2], [3, 4], [5, 6]], held_out=0)
    split["sequences"]["times"] = torch.tensor([50, 60, 10, 90, 30, 40])
    dataset = SessionDataset(split, 1)
    assert [int(dataset[step]["user_id"]) for step in range(len(dataset))] == [2, 3, 1]


@given(HISTORIES, st.integers(1, 3), st.integers(1, 3))
def test_processes_share_the_users_and_take_equally_many_steps(
    histories: list[list[int]], slots: int, world: int
) -> None:
    split = split_of([*histories, *[[1, 2, 3]] * world], held_out=0)
    shards = [SessionDataset(split, slots, rank=rank, world_size=world) for rank in range(world)]
    assert len({len(shard) for shard in shards}) == 1
    users = [{user for step in range(len(shard)) for user in shard[step]["user_id"].tolist()} for shard in shards]
    assert sorted(user for own in users for user in own) == [u for u, h in training_items(split).items() if len(h) > 1]


def test_negatives_avoid_the_history_and_differ_between_processes() -> None:
    split = split_of(random_histories(20, 200, 12))
    sampler = NegativeSampler("train", split, 200, count=50)
    first = SessionDataset(split, 8, sampler)[0]
    owned = training_items(split)
    for user, row in zip(first["user_id"].tolist(), first["negatives"][:, 0].tolist(), strict=True):
        assert not set(row) & set(owned[user])
    users, targets = first["user_id"], first["targets"]
    assert torch.equal(sampler.fill(users, targets, [0, 0]), first["negatives"])
    assert not torch.equal(sampler.fill(users, targets, [1, 0]), first["negatives"])


def test_more_steps_at_a_time_are_refused() -> None:
    dataset = SessionDataset(split_of([[1, 2, 3]], held_out=0), 2)
    with pytest.raises(ValueError, match="batch_size=None"):
        dataset.__getitems__([0, 1])


def test_more_processes_than_sessions_are_refused() -> None:
    split = split_of([[1, 2, 3], [4]], held_out=0)
    with pytest.raises(UserError, match=r"1 users have the two training events .* too few for 2 processes") as caught:
        SessionDataset(split, 2, rank=1, world_size=2)
    assert "Train on 1 with --trainer.devices" in caught.value.cure


def test_no_user_with_two_events_gives_no_step() -> None:
    assert len(SessionDataset(split_of([[1], [2]], held_out=0), 2)) == 0


def test_lock_step_serves_the_first_slot_to_be_free() -> None:
    first, slot = lock_step(torch.tensor([2, 2, 1, 5]), 2)
    assert first.tolist() == [0, 0, 2, 2]
    assert slot.tolist() == [0, 1, 0, 1]
