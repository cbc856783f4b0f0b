import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from common.data.negatives import Complement, NegativeRule, NegativeSampler
from common.errors import UserError
from tests.fixtures.histories import split_of, training_items

HISTORIES = [[3, 1, 3, 8, 2], [5, 6, 7], [1], [10, 9, 8, 7, 6, 5, 4]]
NUM_ITEMS = 12
RULES: tuple[NegativeRule, ...] = ("train", "complete")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(rule: NegativeRule, user: int, count: int = 20_000) -> Tensor:
    sampler = NegativeSampler(rule, split_of(HISTORIES), NUM_ITEMS)
    return sampler.draw(torch.tensor([user]), count, generator())[0]


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[list[int]], int]:
    num_items = draw(st.integers(2, 9))
    history = st.lists(st.integers(1, num_items), min_size=1, max_size=12).filter(lambda h: len(set(h)) < num_items)
    return draw(st.lists(history, min_size=1, max_size=6)), num_items


@given(worlds(), st.integers(0, 2))
def test_draws_all_items_outside_the_training_history_and_no_other(
    world: tuple[list[list[int]], int], held_out: int
) -> None:
    histories, num_items = world
    split = split_of(histories, held_out)
    sampler = NegativeSampler("train", split, num_items)
    users = torch.arange(1, len(histories) + 1)
    drawn = sampler.draw(users, 400, generator())
    for user, items in training_items(split).items():
        assert set(drawn[user - 1].tolist()) == set(range(1, num_items + 1)) - set(items)


@pytest.mark.parametrize("user", [1, 2, 3, 4])
def test_every_item_outside_is_equally_likely(user: int) -> None:
    allowed = sorted(set(range(1, NUM_ITEMS + 1)) - set(training_items(split_of(HISTORIES))[user]))
    counts = torch.bincount(draw("train", user), minlength=NUM_ITEMS + 1)[allowed]
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3


def test_train_rule_can_draw_held_out_items_and_complete_rule_cannot() -> None:
    held_out = {8, 2}
    assert held_out <= set(draw("train", 1).tolist())
    assert set(draw("complete", 1).tolist()) == set(range(1, NUM_ITEMS + 1)) - set(HISTORIES[0])


def test_none_rule_is_uniform_over_the_catalogue() -> None:
    counts = torch.bincount(draw("none", 1), minlength=NUM_ITEMS + 1)
    assert counts[0] == 0
    assert stats.chisquare(counts[1:].numpy()).pvalue > 1e-3


@pytest.mark.parametrize("rule", ["train", "complete", "none", "in-batch"])
def test_padding_gets_no_negative_and_targets_get_count(rule: NegativeRule) -> None:
    sampler = NegativeSampler(rule, split_of(HISTORIES), NUM_ITEMS, count=3)
    targets = torch.tensor([[0, 0, 3], [0, 6, 7]])
    negatives = sampler.fill(torch.tensor([1, 2]), targets, [0, 1])
    assert negatives.shape == (2, 3, 3)
    assert torch.equal(negatives.eq(0).all(-1), targets.eq(0))
    assert torch.equal(negatives.eq(0).any(-1), targets.eq(0))


def test_in_batch_negatives_are_targets_of_other_rows_and_all_of_them() -> None:
    sampler = NegativeSampler("in-batch", split_of(HISTORIES), NUM_ITEMS, count=500)
    targets = torch.tensor([[1, 2, 3], [0, 4, 5], [0, 0, 6]])
    negatives = sampler.fill(torch.tensor([1, 2, 4]), targets, [7])
    assert set(negatives[0].flatten().tolist()) == {4, 5, 6}
    assert set(negatives[1, 1:].flatten().tolist()) == {1, 2, 3, 6}
    assert set(negatives[2, 2].tolist()) == {1, 2, 3, 4, 5}


def test_in_batch_row_without_others_draws_from_the_catalogue() -> None:
    sampler = NegativeSampler("in-batch", split_of(HISTORIES), NUM_ITEMS, count=500)
    negatives = sampler.fill(torch.tensor([1]), torch.tensor([[1]]), [0])
    assert set(negatives.flatten().tolist()) == set(range(1, NUM_ITEMS + 1))


def test_a_draw_repeats_with_seed_epoch_and_rows_and_changes_with_each() -> None:
    users, targets = torch.full((8,), 4), torch.full((8, 5), 4)

    def filled(seed: int, epoch: int, rows: list[int]) -> Tensor:
        sampler = NegativeSampler("train", split_of(HISTORIES), NUM_ITEMS, count=2, seed=seed)
        sampler.set_epoch(epoch)
        return sampler.fill(users, targets, rows)

    first = filled(1, 2, [3, 4])
    assert torch.equal(first, filled(1, 2, [3, 4]))
    for other in (filled(0, 2, [3, 4]), filled(1, 3, [3, 4]), filled(1, 2, [4, 3])):
        assert not torch.equal(first, other)


def test_other_held_out_items_change_no_draw_of_the_train_rule() -> None:
    others = [[*items[:-2], 11, 12] if len(items) > 2 else items for items in HISTORIES]
    users = torch.tensor([1, 2, 3, 4])
    draws = {
        rule: [
            NegativeSampler(rule, split_of(histories), NUM_ITEMS).draw(users, 50, generator())
            for histories in (HISTORIES, others)
        ]
        for rule in RULES
    }
    assert torch.equal(*draws["train"])
    assert not torch.equal(*draws["complete"])


@pytest.mark.parametrize("rule", ["train", "complete"])
def test_a_user_who_owns_the_whole_catalogue_is_a_clear_error(rule: NegativeRule) -> None:
    with pytest.raises(UserError, match=r"user 2 has interacted with all 3 items"):
        NegativeSampler(rule, split_of([[1], [3, 1, 2]], held_out=9), 3)


def test_draw_refuses_the_in_batch_rule() -> None:
    sampler = NegativeSampler("in-batch", split_of(HISTORIES), NUM_ITEMS)
    with pytest.raises(ValueError, match="call fill"):
        sampler.draw(torch.tensor([1]), 1, generator())


def test_sampler_beside_draws_independently_under_the_same_rule_and_epoch() -> None:
    sampler = NegativeSampler("train", split_of(HISTORIES), NUM_ITEMS, seed=3)
    other = sampler.beside(count=1)
    users, targets = torch.ones(500, dtype=torch.long), torch.ones(500, 1, dtype=torch.long)
    first = [other.fill(users, targets, [0]) for _ in range(2)]
    assert torch.equal(*first)
    share = (sampler.fill(users, targets, [0]) == first[0]).float().mean()
    assert 0.05 < share < 0.25  # of ten allowed items, at random
    sampler.set_epoch(1)
    assert not torch.equal(other.fill(users, targets, [0]), first[0])


def test_complement_draws_what_a_group_does_not_hold() -> None:
    held = {0: {1, 4}, 1: set[int](), 2: {2, 3, 5}}
    members = torch.tensor(sorted(group * 5 + item - 1 for group, items in held.items() for item in items))
    outside = Complement(members, num_groups=3, num_items=5)
    assert outside.free.tolist() == [3, 5, 2]
    drawn = outside.draw(torch.arange(3), 300, generator())
    assert [set(row.tolist()) for row in drawn] == [set(range(1, 6)) - items for items in held.values()]
