"""Scenario masks against loops over cases."""

import pytest
import torch

from common.data.scenarios import HEAD, HISTORY_BUCKETS, TAIL, popularity_rank, slices, slices_of_events
from common.data.splits import ready_made
from common.types import Split
from tests.fixtures.histories import random_histories, split_of, training_items

ITEMS = 40


@pytest.fixture(name="split")
def split_fixture() -> Split:
    return split_of(random_histories(60, ITEMS, 30))


def counts_of(split: Split) -> list[int]:
    trained = [item for items in training_items(split).values() for item in items]
    return [trained.count(item) for item in range(1, ITEMS + 1)]


def targets_of(split: Split) -> list[int]:
    return split["sequences"]["items"][split["test"]["position"]].tolist()


@pytest.mark.parametrize("by_interactions", [False, True])
def test_cold_and_warm_items_hold_their_share(split: Split, by_interactions: bool) -> None:
    counts = counts_of(split)
    weights = counts if by_interactions else [1] * ITEMS
    rank = [
        (sum(w for c, w in zip(counts, weights, strict=True) if c < own)
         + sum(w for c, w in zip(counts, weights, strict=True) if c == own) / 2) / sum(weights)
        for own in counts
    ]  # fmt: skip
    masks, suffix = slices(split, ITEMS), "_by_interactions" if by_interactions else ""
    targets = targets_of(split)
    assert masks[f"cold_item{suffix}"].tolist() == [rank[item - 1] <= TAIL for item in targets]
    assert masks[f"warm_item{suffix}"].tolist() == [rank[item - 1] >= 1 - TAIL for item in targets]
    assert masks[f"middle_item{suffix}"].tolist() == [TAIL < rank[item - 1] < 1 - TAIL for item in targets]


def test_items_never_trained_on_are_cold_however_many_there_are(split: Split) -> None:
    masks = slices(split, 10 * ITEMS)
    assert (masks["cold_item"] | ~masks["unseen_target"]).all()
    untrained: Split = {**split, "train_end": split["sequences"]["offsets"][:-1]}
    nothing = slices(untrained, ITEMS)
    assert nothing["unseen_target"].all()
    assert nothing["cold_item"].all()
    assert not nothing["warm_item"].any()


def test_popularity_ranks_are_midranks() -> None:
    rank = popularity_rank(torch.tensor([5, 1, 1, 9]), torch.ones(4))
    assert rank.tolist() == [0.625, 0.25, 0.25, 0.875]


@pytest.mark.parametrize("items", [ITEMS, 10 * ITEMS])
@pytest.mark.parametrize("reading", ["", "_by_interactions"])
def test_cold_warm_and_other_items_partition_the_cases(split: Split, reading: str, items: int) -> None:
    untrained: Split = {**split, "train_end": split["sequences"]["offsets"][:-1]}
    for masks in (slices(split, items), slices(untrained, items)):
        parts = torch.stack([masks[f"{part}_item{reading}"] for part in ("cold", "middle", "warm")])
        assert (parts.sum(0) == 1).all()


def test_slices_of_events_are_those_that_no_training_changes(split: Split) -> None:
    untrained: Split = {**split, "train_end": split["sequences"]["offsets"][:-1]}
    whole, nothing, of_events = slices(split, ITEMS), slices(untrained, ITEMS), slices_of_events(split)
    assert of_events.keys() < whole.keys()
    assert all(torch.equal(mask, whole[name]) for name, mask in of_events.items())
    assert {name for name in whole if torch.equal(whole[name], nothing[name])} == set(of_events)


def test_deciles_and_history_buckets_partition_the_cases(split: Split) -> None:
    masks = slices(split, ITEMS)
    assert "history_0" not in masks
    for prefix in ("popularity_decile_", "history_"):
        together = torch.stack([mask for name, mask in masks.items() if name.startswith(prefix)])
        assert (together.sum(0) == 1).all()


def test_targets_without_a_history_have_a_bucket_of_their_own() -> None:
    sequences = split_of([[1], [1, 2, 3]])["sequences"]
    masks = slices(ready_made(sequences, torch.tensor([2, 0, 1, 2])), 3)
    assert masks["history_0"].tolist() == [True, False]
    assert masks["history_1-5"].tolist() == [False, True]


def test_head_users_are_the_fifth_with_most_training_events(split: Split) -> None:
    trained, masks = training_items(split), slices(split, ITEMS)
    counts = [len(trained[user]) for user in sorted(trained) if user]
    below = {own: sum((c < own) + (c == own) / 2 for c in counts) / len(counts) for own in counts}
    head = [below[len(trained[user])] >= 1 - HEAD for user in split["test"]["user"].tolist()]
    assert masks["head_user"].tolist() == head
    assert 0 < sum(head) < len(head) / 3
    assert torch.equal(masks["tail_user"], ~masks["head_user"])


def test_history_buckets_count_all_events_before_the_target(split: Split) -> None:
    low, high = HISTORY_BUCKETS[1]
    lengths = split["test"]["position"] - split["sequences"]["offsets"][split["test"]["user"]]
    assert slices(split, ITEMS)[f"history_{low}-{high}"].tolist() == [low <= length <= high for length in lengths]


def test_repeats_and_unseen_targets_equal_a_loop(split: Split) -> None:
    items, offsets = split["sequences"]["items"].tolist(), split["sequences"]["offsets"].tolist()
    masks, counts = slices(split, ITEMS), counts_of(split)
    cases = zip(split["test"]["user"].tolist(), split["test"]["position"].tolist(), strict=True)
    assert masks["repeat_target"].tolist() == [items[place] in items[offsets[user] : place] for user, place in cases]
    assert masks["unseen_target"].tolist() == [counts[item - 1] == 0 for item in targets_of(split)]


def test_ties_look_at_the_event_before() -> None:
    split = split_of([[1, 2, 3], [1, 2, 3]])
    split["sequences"]["times"] = torch.tensor([0, 5, 5, 0, 5, 6])
    assert slices(split, 3)["tied_in_time"].tolist() == [True, False]


def test_cold_users_have_three_events() -> None:
    assert slices(split_of([[1, 2, 3], [1, 2, 3, 4]]), 4)["cold_user"].tolist() == [True, False]


def test_held_out_items_do_not_move_a_popularity_slice(split: Split) -> None:
    before = slices(split, ITEMS)
    items = split["sequences"]["items"].clone()
    items[split["val"]["position"]] = 1
    split["sequences"]["items"] = items
    after = slices(split, ITEMS)
    # A validation item is part of the history of the test case, where the target may repeat it.
    assert all(torch.equal(before[name], after[name]) for name in before.keys() - {"repeat_target"})
