from functools import cache
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from common.data import synthetic
from common.data.synthetic import true_relation
from common.data.synthetic_choices import draw_choices, draw_lengths
from common.data.synthetic_graph import FIRST_LATENT, RELATIONS, Role
from common.data.synthetic_rules import POPULARITY, RULES, TASTE, Mix, Shelf
from common.data.synthetic_world import HORIZON, PERIODS, START, build_world

Array = NDArray[Any]


class Log(NamedTuple):
    """Events user by user, oldest first; ids from 1."""

    user: Array
    item: Array
    time: Array
    rule: Array
    truth: dict[str, Array]

    def same_user(self, lag: int = 1) -> Array:
        return np.flatnonzero(self.user[lag:] == self.user[:-lag]) + lag


@cache
def log(rho: float = 0.4, interactions: int = 20_000, seed: int = 0) -> Log:
    source = synthetic.read(rho=rho, users=interactions // 10, interactions=interactions, seed=seed)
    events = source.interactions.sort("user", "timestamp")
    assert source.truth is not None
    rule = events["rule"].to_physical().to_numpy()
    user, item = (events[name].str.slice(1).cast(pl.Int64).to_numpy() for name in ("user", "item"))
    return Log(user, item, events["timestamp"].to_numpy(), rule, source.truth)


def is_latent(rule: Array) -> Array:
    return (rule >= FIRST_LATENT - 1) & (rule < TASTE)


@pytest.mark.parametrize("rho", [0.0, 0.2, 0.4])
def test_rho_is_the_share_of_later_choices_that_latent_relations_make(rho: float) -> None:
    events = log(rho)
    assert is_latent(events.rule[events.same_user()]).mean() == pytest.approx(rho, abs=0.025)


def test_a_relation_rule_has_its_cause_in_the_history() -> None:
    events = log()
    unexplained = events.rule < TASTE
    for lag in range(1, 60):
        rows = events.same_user(lag)
        rows = rows[unexplained[rows]]
        found = true_relation(events.truth, events.item[rows - lag], events.item[rows])
        unexplained[rows[found == events.rule[rows] + 1]] = False
    assert unexplained.sum() == 0


def test_an_observed_relation_follows_the_last_item() -> None:
    events = log()
    rows = events.same_user()
    rows = rows[events.rule[rows] < FIRST_LATENT - 1]
    found = true_relation(events.truth, events.item[rows - 1], events.item[rows])
    assert (found == events.rule[rows] + 1).all()
    assert {RELATIONS[r] for r in found} == {"complement", "substitute"}


def test_first_choices_are_taste_or_popularity() -> None:
    events = log()
    first = np.flatnonzero(np.diff(events.user, prepend=0))
    assert set(events.rule[first]) == {TASTE, POPULARITY}


def latent_lift(events: Log, rows: Array) -> float:
    """Share of latent pairs among consecutive events, over the same with tails dealt anew.

    Tails are dealt within departments of head and tail and within a period: what taste and drift explain stays.
    """
    head, tail = events.item[rows - 1], events.item[rows]
    department = (events.truth["item_function"] - 1) // len(Role)
    period = (events.time[rows] - START) * PERIODS // HORIZON
    stratum = (department[tail] * 100 + department[head]) * PERIODS + period
    dealt = np.empty_like(tail)
    dealt[np.argsort(stratum, kind="stable")] = tail[np.lexsort((np.random.default_rng(0).random(len(tail)), stratum))]
    # Nobody buys an item twice in a row, but dealing may come out so.
    other = dealt != head
    chance = true_relation(events.truth, head[other], dealt[other]) >= FIRST_LATENT
    return float((true_relation(events.truth, head, tail) >= FIRST_LATENT).mean() / chance.mean())


def test_without_rho_latent_pairs_have_no_lift_over_independence() -> None:
    null, planted = log(0.0, 100_000), log(0.4, 100_000)
    rows = null.same_user()
    assert latent_lift(null, rows[null.rule[rows] >= TASTE]) == pytest.approx(1.0, abs=0.05)
    assert latent_lift(null, rows) < 1.05
    assert latent_lift(planted, planted.same_user()) > 2


def hit_rates(events: Log) -> tuple[float, float]:
    """HR@10 on each user's last event: of who knows the relations of the last eight items, and of popularity."""
    size = len(events.truth["item_function"])
    last = np.flatnonzero(np.diff(events.user, append=0))
    popularity = np.bincount(np.delete(events.item, last), minlength=size).astype(float)
    everything = np.arange(size)
    step = (true_relation(events.truth, everything[:, None], everything) > 0) * (popularity + 1)
    step /= step.sum(axis=1, keepdims=True).clip(1)
    oracle = np.tile(popularity / popularity.sum() * 0.05, (len(last), 1))
    seen = np.zeros_like(oracle, dtype=bool)
    for lag in range(1, 200):
        rows = np.flatnonzero((last >= lag) & (events.user[last - lag] == events.user[last]))
        earlier = events.item[last[rows] - lag]
        seen[rows, earlier] = True
        if lag <= 8:
            oracle[rows] += 0.5**lag * step[earlier]
    return hit_rate(np.where(seen, -1, oracle), events.item[last]), hit_rate(
        np.where(seen, -1, popularity), events.item[last]
    )


def hit_rate(score: Array, target: Array) -> float:
    rank = (score > score[np.arange(len(target)), target][:, None]).sum(axis=1)
    return float((rank < 10).mean())


@pytest.mark.parametrize("seed", [0, 1])
def test_knowing_the_relations_beats_popularity_by_far(seed: int) -> None:
    oracle, popularity = hit_rates(log(seed=seed))
    assert oracle > 3 * popularity
    assert oracle > 0.3


def test_order_matters_to_who_knows_the_relations() -> None:
    events = log()
    shuffled = events.item[np.lexsort((np.random.default_rng(0).random(len(events.item)), events.user))]
    assert hit_rates(events._replace(item=shuffled))[0] < 0.8 * hit_rates(events)[0]


def test_a_device_comes_before_what_is_bought_for_it() -> None:
    events = log()
    before = after = 0
    for lag in (1, 2, 3):
        rows = events.same_user(lag)
        older, newer = events.item[rows - lag], events.item[rows]
        before += (true_relation(events.truth, older, newer) == RELATIONS.index("consumable_for")).sum()
        after += (true_relation(events.truth, newer, older) == RELATIONS.index("consumable_for")).sum()
    assert before > 4 * after


def test_what_sells_drifts() -> None:
    events = log(0.4, 100_000)
    third = (events.time - START) * 3 // HORIZON
    sales = np.stack([np.bincount(events.item[third == t], minlength=1_001) for t in range(3)])
    likeness: Array = np.asarray(np.corrcoef(np.log(sales[:, sales[0] > 20] + 1)))
    assert likeness[0, 2] < likeness[0, 1] - 0.05


def test_items_sell_only_after_their_arrival() -> None:
    rng = np.random.default_rng(0)
    world = build_world(500, rng)
    choices = draw_choices(world, Mix(0.4, 0.2, 0.3), 500, 5_000, rng)
    period = (choices.time - START) * PERIODS // HORIZON
    assert (period >= world.arrival[choices.item]).all()
    assert (world.arrival == PERIODS - 1).sum() > 10


def test_cold_items_and_cold_users_exist() -> None:
    events = log()
    per_item = np.bincount(events.item, minlength=1_001)[1:]
    per_user = np.bincount(events.user)[1:]
    assert (per_item < 5).mean() > 0.1
    assert ((per_user >= 3) & (per_user <= 5)).mean() > 0.2
    assert per_user.max() > 40


def test_times_ascend_within_a_user_and_stay_in_the_two_years() -> None:
    events = log()
    rows = events.same_user()
    assert (events.time[rows] > events.time[rows - 1]).all()
    assert events.time.min() >= START
    assert events.time.max() <= START + HORIZON + 200
    assert (events.time % 60 != 0).mean() > 0.9


def test_names_of_items_tell_neither_time_nor_popularity() -> None:
    events = log()
    count = np.bincount(events.item, minlength=1_001)[1:]
    total_time = np.bincount(events.item, events.time - START, minlength=1_001)[1:]
    sold = np.flatnonzero(count)
    assert abs(np.corrcoef(np.arange(1_000), count)[0, 1]) < 0.1
    assert abs(np.corrcoef(sold, total_time[sold] / count[sold])[0, 1]) < 0.1


def test_names_of_users_do_not_tell_the_length_of_their_histories() -> None:
    length = np.bincount(log().user)[1:]
    assert abs(np.corrcoef(np.arange(len(length)), length)[0, 1]) < 0.08


@pytest.mark.parametrize(
    ("users", "items", "interactions"), [(1, 64, 3), (50, 64, 480), (7, 1_000, 1_100), (900, 100, 2_700)]
)
def test_lengths_add_up_at_the_edges_of_what_is_possible(users: int, items: int, interactions: int) -> None:
    length = draw_lengths(users, items, interactions, np.random.default_rng(0))
    assert (len(length), length.sum()) == (users, interactions)
    assert length.min() >= 3
    assert length.max() <= items // 5
    assert (np.diff(length) <= 0).all()


@pytest.mark.parametrize(("users", "items", "interactions"), [(50, 64, 480), (7, 1_000, 1_100)])
def test_users_who_own_much_of_the_catalogue_still_find_something_new(
    users: int, items: int, interactions: int
) -> None:
    source = synthetic.read(users=users, items=items, interactions=interactions)
    assert not source.interactions.select("user", "item").is_duplicated().any()


def test_a_shelf_draws_by_weight_within_the_run_of_the_period() -> None:
    rng = np.random.default_rng(0)
    group = np.array([2, 0, 1, 0, 1, 2], np.int32)
    weight = np.zeros((PERIODS, 6))
    weight[3] = [9.0, 1.0, 2.0, 3.0, 0.0, 9.0]
    shelf, rows = Shelf(group, 3, weight), 20_000
    ask = (np.zeros(rows, np.int64), np.full(rows, 2), np.full(rows, 3, np.int32))
    share = np.bincount(shelf.draw(*ask, rng), minlength=6) / rows
    np.testing.assert_allclose(share, [0, 1 / 6, 2 / 6, 3 / 6, 0, 0], atol=0.02)
    empty = (ask[0], ask[1], np.full(rows, 4, np.int32))
    assert (shelf.draw(*empty, rng) == -1).all()


def test_every_rule_is_in_use() -> None:
    assert set(log().rule) == set(range(len(RULES)))
