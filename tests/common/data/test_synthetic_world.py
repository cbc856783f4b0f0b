from functools import cache

import numpy as np
import pytest

from common.data.synthetic_graph import FIRST_LATENT, RELATIONS, Role, Scope, build_edges
from common.data.synthetic_world import MIN_ITEMS, PERIODS, World, build_world, function_relation, related_pairs


@cache
def build(items: int = 1_000, seed: int = 0) -> World:
    return build_world(items, np.random.default_rng(seed))


@pytest.mark.parametrize(
    ("items", "functions", "families"), [(MIN_ITEMS, 16, 2), (1_000, 40, 8), (20_000, 176, 37), (200_000, 568, 117)]
)
def test_functions_and_families_grow_with_the_catalogue(items: int, functions: int, families: int) -> None:
    world = build(items)
    assert (world.num_functions, world.families) == (functions, families)
    assert np.unique(world.cell).tolist() == list(range(functions * families))


def test_families_stay_within_their_department() -> None:
    world = build()
    assert ((world.function - 1) // len(Role) == (world.family - 1) // world.families).all()


def test_brand_and_style_say_nothing_of_family() -> None:
    world = build(20_000)
    for attribute in (world.brand, world.style):
        table = np.zeros((attribute.max() + 1, world.families))
        np.add.at(table, (attribute, (world.family - 1) % world.families), 1)
        expected = table.sum(1, keepdims=True) * table.sum(0) / table.sum()
        chi2, freedom = ((table - expected) ** 2 / expected).sum(), (table.shape[0] - 1) * (table.shape[1] - 1)
        assert abs(chi2 - freedom) < 4 * (2 * freedom) ** 0.5


@pytest.mark.parametrize("departments", [2, 5, 71])
def test_every_function_has_a_latent_relation_and_a_substitute(departments: int) -> None:
    edges = build_edges(departments, np.random.default_rng(0))
    functions = set(range(1, departments * len(Role) + 1))
    assert set(edges.head[edges.relation >= FIRST_LATENT]) == functions
    assert set(edges.head[edges.relation == RELATIONS.index("substitute")]) == functions
    assert set(edges.relation) == set(range(1, len(RELATIONS)))


def test_no_pair_of_functions_has_two_relations_in_one_scope() -> None:
    edges = build().edges
    anywhere = {(h, t) for h, t, s in zip(edges.head, edges.tail, edges.scope, strict=True) if s == Scope.ANY}
    bound = [(h, t, s) for h, t, s in zip(edges.head, edges.tail, edges.scope, strict=True) if s != Scope.ANY]
    assert len(set(bound)) == len(bound)
    assert not anywhere & {(h, t) for h, t, _ in bound}


def test_graphs_of_two_seeds_differ() -> None:
    assert not np.array_equal(function_relation(build(seed=0)), function_relation(build(seed=1)))


def test_related_pairs_are_those_of_a_naive_double_loop() -> None:
    world = build(MIN_ITEMS)
    table = function_relation(world)
    expected = set()
    for head in range(MIN_ITEMS):
        for tail in range(MIN_ITEMS):
            family, other = world.family[head], world.family[tail]
            joined = 1 if family == other else 2 if world.next_family[family] == other else 0
            relation = int(table[joined, world.function[head], world.function[tail]])
            if relation and head != tail:
                expected.add((head, relation, tail))
    found = list(zip(*(column.tolist() for column in related_pairs(world, world.edges)), strict=True))
    assert len(found) == len(set(found))
    assert set(found) == expected


def test_successors_are_of_the_same_line_and_later() -> None:
    world = build()
    family = np.flatnonzero(world.next_family)
    assert (world.next_family[family] == family + 1).all()
    assert ((world.next_family[family] - 1) // world.families == (family - 1) // world.families).all()
    first = [world.arrival[world.family == f].min() for f in (family[0], world.next_family[family[0]])]
    assert first[0] < first[1]


def test_popularity_is_zero_before_arrival_and_drifts_after() -> None:
    world = build()
    offered = np.arange(PERIODS)[:, None] >= world.arrival
    assert ((world.weight > 0) == offered).all()
    likeness = np.corrcoef(np.log(world.weight[:, world.arrival == 0]))
    assert likeness[0, 1] > 0.9
    assert likeness[0, -1] < likeness[0, 1] - 0.15


def test_devices_sell_best_where_no_relation_asks_for_more() -> None:
    world = build()
    role = (world.function - 1) % len(Role)
    per_role = np.bincount(role, world.weight.sum(0)) / np.bincount(role)
    assert per_role.argmax() == Role.DEVICE
