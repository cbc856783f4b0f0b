"""Graphs beside the released one."""

from collections import Counter

import torch
from torch import Tensor

from common.types import Catalogue, Sequences
from lrd.graph_recipes import CO_OCCURRENCE, WINDOW, GraphRecipe, co_occurrence, item_relations, rewired
from tests.fixtures.histories import random_histories

NUM_ITEMS = 15


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sequences(histories: list[list[int]]) -> Sequences:
    lengths = torch.tensor([0, 0, *map(len, histories)])
    items = torch.tensor([item for history in histories for item in history])
    return Sequences(offsets=lengths.cumsum(0), items=items, times=torch.arange(len(items)))


def random_edges(count: int, num_items: int = NUM_ITEMS) -> Tensor:
    pairs = [(h, t) for h in range(1, num_items + 1) for t in range(1, num_items + 1) if h != t]
    return torch.tensor(pairs)[torch.randperm(len(pairs))[:count].sort().values]


def test_co_occurring_pairs_are_those_of_a_loop() -> None:
    histories = [[int(i) for i in torch.randint(1, NUM_ITEMS + 1, (30,))] for _ in range(12)]
    users: dict[tuple[int, int], set[int]] = {}
    for user, history in enumerate(histories):
        for end, tail in enumerate(history):
            for head in history[max(0, end - WINDOW) : end]:
                if head != tail:
                    users.setdefault((head, tail), set()).add(user)
    counts = sorted(map(len, users.values()), reverse=True)
    found = co_occurrence(sequences(histories), NUM_ITEMS, 40, generator())
    assert len({tuple(pair) for pair in found.tolist()}) == 40
    assert sorted((len(users[h, t]) for h, t in found.tolist()), reverse=True) == counts[:40]


def test_rewiring_keeps_degrees_and_makes_no_loop_and_no_double_edge() -> None:
    edges = random_edges(60)
    swapped = rewired(edges, NUM_ITEMS, generator())
    for end in (0, 1):
        assert Counter(swapped[:, end].tolist()) == Counter(edges[:, end].tolist())
    assert bool((swapped[:, 0] != swapped[:, 1]).all())
    assert len(set(map(tuple, swapped.tolist()))) == 60


def test_rewiring_forgets_which_items_were_linked() -> None:
    edges = random_edges(300, 100)
    kept = set(map(tuple, edges.tolist())) & set(map(tuple, rewired(edges, 100, generator()).tolist()))
    assert len(kept) < 30  # 300 of 9,900 pairs are edges: nine by chance


def test_each_recipe_has_its_graph() -> None:
    edges = random_edges(50)
    known = Catalogue(
        num_items=NUM_ITEMS,
        relations={"complement": edges[:30], "substitute": edges[30:]},
        train=sequences(random_histories(20, NUM_ITEMS, 9)),
    )
    sizes = {name: {key: len(rows) for key, rows in item_relations(known, name).items()} for name in RECIPES}
    both = {"complement": 30, "substitute": 20}
    assert sizes == {"kg-released": both, "kg-rewired": both, "kg-train": {CO_OCCURRENCE: 50}, "kg-attributes": {}}


def test_without_released_relations_no_recipe_has_any() -> None:
    known = Catalogue(num_items=NUM_ITEMS, relations={}, train=sequences(random_histories(20, NUM_ITEMS, 9)))
    assert [item_relations(known, name) for name in RECIPES] == [{}] * 4


RECIPES: tuple[GraphRecipe, ...] = ("kg-released", "kg-train", "kg-rewired", "kg-attributes")
