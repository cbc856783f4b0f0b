"""Scenarios against lists of histories: who is trained on, who is tested, and that nothing else changes."""

import pytest
import torch

from common.data.negatives import seeded
from common.data.scenarios import COLD_USER_EVENTS
from common.data.splits import ready_made
from common.data.views import SEED, leakage_between, users_seen, view, with_training
from common.errors import UserError
from common.types import Cases, Split
from tests.fixtures.histories import random_histories, split_of, training_items

USERS, ITEMS = 80, 40
LONG = [history * 5 for history in random_histories(USERS, ITEMS, 6)]
"""Histories of five events or more: nobody is cold by nature."""


def histories_of(split: Split, cases: Cases) -> list[tuple[list[int], int]]:
    """History and target of each case."""
    items, offsets = split["sequences"]["items"].tolist(), split["sequences"]["offsets"].tolist()
    pairs = zip(cases["user"].tolist(), cases["position"].tolist(), strict=True)
    return [(items[offsets[user] : position], items[position]) for user, position in pairs]


def trained_users(split: Split) -> set[int]:
    return {user for user, items in training_items(split).items() if items}


def test_the_draw_of_users_is_the_same_in_every_version() -> None:
    # A version of PyTorch that draws others would set all figures apart from earlier ones.
    assert torch.randperm(1000, generator=seeded(SEED))[:6].tolist() == [152, 433, 979, 917, 303, 607]


def test_overall_is_the_split_itself() -> None:
    split = split_of(LONG)
    assert view(split, "overall").split is split


@pytest.mark.parametrize("count", [1, 7, USERS])
def test_few_shot_trains_and_validates_on_k_users_and_tests_on_all(count: int) -> None:
    split = split_of(LONG)
    seen = view(split, f"few-shot-{count}")
    kept = trained_users(seen.split)
    assert len(kept) == count
    assert {user: items for user, items in training_items(seen.split).items() if user in kept} == {
        user: items for user, items in training_items(split).items() if user in kept
    }
    assert seen.val is not None
    assert set(seen.split["val"]["user"][seen.val].tolist()) == kept
    assert seen.test is None
    assert histories_of(seen.split, seen.split["test"]) == histories_of(split, split["test"])
    assert seen.slices["trained_user"].tolist() == [user in kept for user in split["test"]["user"].tolist()]
    assert (seen.slices["trained_user"] ^ seen.slices["other_user"]).all()


def test_more_users_are_added_to_fewer() -> None:
    split = split_of(LONG)
    few, more = (trained_users(view(split, f"few-shot-{count}").split) for count in (5, 20))
    assert few < more


def test_users_with_three_events_are_the_cold_ones() -> None:
    split = split_of(random_histories(USERS, ITEMS, 6))
    lengths = split["sequences"]["offsets"].diff()
    seen = view(split, "cold-users")
    assert seen.test is not None
    cold = split["test"]["user"][seen.test]
    assert 0 < len(cold) <= USERS // 10
    assert set(lengths[cold].tolist()) == {COLD_USER_EVENTS}
    assert seen.scenario == f"cold-users (three events, {len(cold)})"
    assert trained_users(seen.split) == trained_users(split) - set(cold.tolist())
    assert histories_of(seen.split, seen.split["test"]) == histories_of(split, split["test"])


@pytest.mark.parametrize(("users", "cold"), [(80, 8), (399, 39), (400, 100), (943, 100), (1200, 120), (5100, 500)])
def test_as_many_users_are_cold_as_a_figure_needs_if_the_others_suffice(users: int, cold: int) -> None:
    seen = view(split_of([[1, 2, 3, 4]] * users), "cold-users")
    assert seen.test is not None
    assert int(seen.test.sum()) == cold


@pytest.mark.parametrize(
    ("users", "exact", "rule", "cold"),
    [
        (943, 1, "truncated", 100),
        (943, 99, "truncated", 100),
        (943, 101, "three events", 100),
        (5100, 101, "three events", 101),
        (80, 7, "truncated", 8),
        (80, 8, "three events", 8),
    ],
)
def test_users_with_three_events_are_the_cold_ones_only_if_a_figure_can_rest_on_them(
    users: int, exact: int, rule: str, cold: int
) -> None:
    histories = [[1, 2, 3]] * exact + [[1, 2, 3, 4]] * (users - exact)
    assert view(split_of(histories), "cold-users").scenario == f"cold-users ({rule}, {cold})"


def partly_held_out() -> Split:
    """A ready-made split that tests two users in three."""
    sequences = split_of(LONG)["sequences"]
    last = sequences["offsets"][1:] - 1
    part = torch.zeros_like(sequences["items"])
    part[last[1:][torch.arange(USERS) % 3 > 0]] = 2
    part[(part == 2).nonzero().flatten() - 1] = 1
    return ready_made(sequences, part)


@pytest.mark.parametrize("split", [split_of(LONG), partly_held_out()], ids=["leave_one_out", "ready_made"])
def test_where_nobody_is_cold_drawn_users_keep_their_last_three_events(split: Split) -> None:
    seen = view(split, "cold-users")
    assert seen.test is not None
    assert seen.val is not None
    cold = set(split["test"]["user"][seen.test].tolist())
    assert len(cold) == len(split["test"]["user"]) // 10
    assert not cold & trained_users(seen.split)
    assert not cold & set(split["val"]["user"][seen.val].tolist())
    assert torch.equal(seen.split["test"]["user"], split["test"]["user"])  # stored candidates belong to places
    pairs = zip(histories_of(split, split["test"]), histories_of(seen.split, seen.split["test"]), strict=True)
    for user, ((before, target), (after, same)) in zip(split["test"]["user"].tolist(), pairs, strict=True):
        assert same == target
        assert after == (before[-2:] if user in cold else before)


@pytest.mark.parametrize(
    ("scenario", "message"),
    [
        ("few-shot-100", "asks for 100 users, but only 80 have a validation case\nChoose few-shot-80 or fewer"),
        ("few-shot-0", "is not a scenario"),
        ("cold-user", "Did you mean 'cold-users'"),
    ],
)
def test_mistakes_are_told_with_the_cure(scenario: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        view(split_of(LONG), scenario)


def test_cold_users_need_ten_users() -> None:
    with pytest.raises(UserError, match="needs ten users or more\nThere are 9"):
        view(split_of(LONG[:9]), "cold-users")


@pytest.mark.parametrize("histories", [LONG, random_histories(USERS, ITEMS, 6)])
@pytest.mark.parametrize("trained", ["overall", "cold-users", "few-shot-5", "few-shot-20"])
@pytest.mark.parametrize("tested", ["overall", "cold-users", "few-shot-5", "few-shot-20"])
def test_a_training_has_seen_what_a_scenario_withholds_exactly_where_their_events_tell(
    histories: list[list[int]], trained: str, tested: str
) -> None:
    split = split_of(histories)
    learnt, granted = (training_items(view(split, name).split) for name in (trained, tested))
    expected = sum(len(items) > len(granted[user]) for user, items in learnt.items())
    assert users_seen(view(split, trained).split, view(split, tested).split) == expected
    if trained == tested or tested == "overall":
        assert not expected


@pytest.mark.parametrize("histories", [LONG, random_histories(USERS, ITEMS, 6)])
@pytest.mark.parametrize("trained", ["overall", "cold-users", "few-shot-5", "few-shot-20"])
@pytest.mark.parametrize("tested", ["overall", "cold-users", "few-shot-5", "few-shot-20"])
def test_a_test_has_its_own_histories_and_the_events_of_the_training(
    histories: list[list[int]], trained: str, tested: str
) -> None:
    learnt, seen = (view(split_of(histories), name).split for name in (trained, tested))
    if users_seen(learnt, seen):
        return
    both = with_training(seen, learnt)
    assert training_items(both) == training_items(learnt)
    assert histories_of(both, both["test"]) == histories_of(seen, seen["test"])


@pytest.mark.parametrize("histories", [LONG, random_histories(USERS, ITEMS, 6)])
@pytest.mark.parametrize(
    ("trained", "tested"),
    [("overall", "overall"), ("cold-users", "cold-users"), ("few-shot-3", "few-shot-3"), ("few-shot-3", "overall")],
)
def test_what_leaks_is_later_than_targets_of_the_scenario_and_was_trained_on(
    histories: list[list[int]], trained: str, tested: str
) -> None:
    learnt, seen = (view(split_of(histories), name) for name in (trained, tested))
    # Event i of user u happens at 1000 i + u.
    events = {user: len(items) for user, items in training_items(learnt.split).items() if items}
    last = max(1000 * (count - 1) + user for user, count in events.items())
    users = seen.split["test"]["user"].tolist()
    taking_part = [True] * len(users) if seen.test is None else seen.test.tolist()
    times = [1000 * (len(histories[u - 1]) - 1) + u for u, part in zip(users, taking_part, strict=True) if part]
    cases = None if seen.test is None else seen.test.nonzero().flatten()
    assert leakage_between(learnt, seen, cases) == pytest.approx(sum(time < last for time in times) / len(times))
