import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from common.data.datasets import (
    EpochSampler,
    EvaluationDataset,
    HistoryDataset,
    PrefixDataset,
    SequenceDataset,
    TrainingDataset,
    WindowDataset,
)
from common.data.negatives import NegativeSampler
from common.types import SequenceBatch, Split
from tests.fixtures.histories import random_histories, split_of, training_items

NUM_ITEMS = 30
HISTORIES = st.lists(st.lists(st.integers(1, NUM_ITEMS), max_size=9), min_size=1, max_size=7)
Row = tuple[int, list[int], list[int]]


def left_padded(items: list[int], width: int) -> list[int]:
    return [0] * (width - len(items[-width:])) + items[-width:]


def rows_of(dataset: TrainingDataset) -> list[Row]:
    if not len(dataset):
        return []
    batch = dataset.__getitems__(range(len(dataset)))
    return list(zip(batch["user_id"].tolist(), batch["history"].tolist(), batch["targets"].tolist(), strict=True))


def training_tensors(split: Split) -> list[Tensor]:
    sampler = NegativeSampler("train", split, NUM_ITEMS, count=2)
    batches: list[SequenceBatch] = [
        dataset.__getitems__(range(len(dataset)))
        for dataset in (
            SequenceDataset(split, 4, sampler),
            PrefixDataset(split, 3, 1, sampler),
            WindowDataset(split, 3, 2, sampler),
        )
    ]
    return [value for batch in batches for value in batch.values() if isinstance(value, Tensor)]


@given(HISTORIES, st.integers(1, 5))
def test_sequences_equal_a_loop_over_users(histories: list[list[int]], width: int) -> None:
    split = split_of(histories)
    expected: list[Row] = [
        (user, left_padded(items[:-1], width), left_padded(items[1:], width))
        for user, items in training_items(split).items()
        if len(items) > 1
    ]
    assert rows_of(SequenceDataset(split, width)) == expected


@given(HISTORIES, st.integers(1, 5), st.integers(0, 3))
def test_prefixes_equal_a_loop_over_events(histories: list[list[int]], width: int, min_history: int) -> None:
    split = split_of(histories)
    expected: list[Row] = [
        (user, left_padded(items[:cut], width), [items[cut]])
        for user, items in training_items(split).items()
        for cut in range(min_history, len(items))
    ]
    assert rows_of(PrefixDataset(split, width, min_history)) == expected


@given(HISTORIES, st.integers(1, 4), st.integers(1, 3))
def test_windows_equal_a_loop_over_users(histories: list[list[int]], width: int, num_targets: int) -> None:
    split = split_of(histories)
    expected: list[Row] = []
    for user, items in training_items(split).items():
        size = width + num_targets
        windows = [items[end - size : end] for end in range(size, len(items) + 1)] or [items] * (len(items) > 1)
        for window in windows:
            cut = max(len(window) - num_targets, 1)
            expected.append((user, left_padded(window[:cut], width), left_padded(window[cut:], num_targets)))
    assert rows_of(WindowDataset(split, width, num_targets)) == expected


@given(HISTORIES)
def test_times_go_with_their_events_and_the_newest_target(histories: list[list[int]]) -> None:
    split = split_of([*histories, [1, 2, 3, 4]])
    for dataset in (SequenceDataset(split, 3), PrefixDataset(split, 3), WindowDataset(split, 2, 2)):
        batch = dataset.__getitems__(range(len(dataset)))
        real = batch["history"] != 0
        assert torch.equal(batch["history_time"].eq(0), ~real)
        assert torch.equal(batch["history_time"] % 1000, batch["user_id"][:, None] * real)
        steps = batch["target_time"] // 1000 - batch["history_time"][:, -1] // 1000
        wanted = batch["targets"].ne(0).sum(1) if isinstance(dataset, WindowDataset) else torch.ones_like(steps)
        assert torch.equal(steps, wanted)


def test_negatives_follow_targets_and_avoid_the_training_history() -> None:
    split = split_of(random_histories(20, NUM_ITEMS, 12))
    batch = SequenceDataset(split, 6, NegativeSampler("train", split, NUM_ITEMS, count=4)).__getitems__(range(10))
    assert batch["negatives"].shape == (10, 6, 4)
    assert torch.equal(batch["negatives"].eq(0).all(-1), batch["targets"].eq(0))
    owned = training_items(split)
    for user, row in zip(batch["user_id"].tolist(), batch["negatives"].tolist(), strict=True):
        assert not {item for position in row for item in position} & set(owned[user])


def test_one_draw_of_negatives_serves_a_window() -> None:
    split = split_of(random_histories(20, NUM_ITEMS, 12))
    batch = WindowDataset(split, 5, 3, NegativeSampler("train", split, NUM_ITEMS, count=4)).__getitems__([0, 5, 6])
    assert batch["negatives"].shape == (3, 1, 4)
    assert bool((batch["negatives"] > 0).all())


def test_shuffling_held_out_items_changes_no_training_tensor() -> None:
    histories = random_histories(40, NUM_ITEMS, 10)
    held_out = [item for items in histories if len(items) > 2 for item in items[-2:]]
    drawn = iter(torch.tensor(held_out)[torch.randperm(len(held_out))].tolist())
    shuffled = [[*items[:-2], next(drawn), next(drawn)] if len(items) > 2 else items for items in histories]
    assert shuffled != histories
    for first, second in zip(training_tensors(split_of(histories)), training_tensors(split_of(shuffled)), strict=True):
        assert torch.equal(first, second)


@given(HISTORIES, st.integers(1, 4))
def test_full_ranking_leaves_out_each_earlier_item_once_and_never_the_target(
    histories: list[list[int]], width: int
) -> None:
    split = split_of([*histories, [5, 5, 6, 5]])
    events, cases = split["sequences"]["items"].tolist(), split["test"]
    batch = EvaluationDataset(split["sequences"], cases, width)[0]
    for row, (user, position) in enumerate(zip(cases["user"].tolist(), cases["position"].tolist(), strict=True)):
        earlier = events[split["sequences"]["offsets"][user] : position]
        seen = batch["seen"][row].tolist()
        real = [item for item in seen if item]
        assert seen == real + [0] * (len(seen) - len(real))
        assert sorted(real) == sorted(set(earlier) - {events[position]})
        assert batch["history"][row].tolist() == left_padded(earlier, width)
        assert int(batch["target"][row]) == events[position]
        assert int(batch["case_id"][row]) == row


def test_sampled_candidates_have_the_target_in_front_of_the_stored_ones() -> None:
    split = split_of(random_histories(9, NUM_ITEMS, 8))
    stored = torch.arange(3 * len(split["val"]["user"]), dtype=torch.int32).reshape(-1, 3)
    dataset = EvaluationDataset(split["sequences"], split["val"], 4, "sampled-3", stored)
    batch = dataset.batch_of(torch.tensor([2, 0]))
    assert torch.equal(batch["candidates"][:, 0], batch["target"])
    assert torch.equal(batch["candidates"][:, 1:], stored[[2, 0]].long())
    assert batch["protocol"] == "sampled-3"
    assert "seen" not in batch


def test_full_unmasked_leaves_nothing_out() -> None:
    split = split_of(random_histories(9, NUM_ITEMS, 8))
    batch = EvaluationDataset(split["sequences"], split["val"], 4, "full-unmasked", mask_seen=False)[0]
    assert batch["seen"].shape == (len(split["val"]["user"]), 0)


def test_an_index_is_a_batch_and_the_last_has_the_rest() -> None:
    split = split_of(random_histories(30, NUM_ITEMS, 8))
    rows = torch.tensor([1, 4, 6, 7, 9])
    dataset = EvaluationDataset(split["sequences"], split["test"], 4, rows=rows, batch_size=2)
    assert len(dataset) == 3
    assert [batch["case_id"].tolist() for batch in (dataset[i] for i in range(3))] == [[1, 4], [6, 7], [9]]


def test_predictions_read_the_whole_history() -> None:
    histories = [[1, 2], [3, 4, 5, 4], []]
    batch = HistoryDataset(split_of(histories)["sequences"], torch.tensor([2, 3]), 3, 99).__getitems__([0, 1])
    assert batch["history"].tolist() == [[4, 5, 4], [0, 0, 0]]
    assert [set(row) - {0} for row in batch["seen"].tolist()] == [{3, 4, 5}, set()]
    assert batch["target_time"].tolist() == [99, 99]


@given(st.integers(1, 40), st.integers(1, 4), st.booleans())
def test_shares_of_an_epoch_are_equal_and_cover_all_instances(length: int, world: int, shuffle: bool) -> None:
    dataset = SequenceDataset(split_of([[1, 2]] * length), 2)
    shares = [list(EpochSampler(dataset, shuffle, 0, rank, world)) for rank in range(world)]
    assert len({len(share) for share in shares}) == 1
    assert {index for share in shares for index in share} == set(range(length))
    assert sum(map(len, shares)) < length + world


def test_the_order_of_an_epoch_repeats_and_differs_between_epochs_and_seeds() -> None:
    dataset = SequenceDataset(split_of([[1, 2]] * 50), 2)

    def order(seed: int, epoch: int) -> list[int]:
        sampler = EpochSampler(dataset, seed=seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(0, 1) == order(0, 1)
    assert order(0, 1) != order(0, 2)
    assert order(0, 1) != order(1, 1)
