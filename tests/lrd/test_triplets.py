"""Triplets and their corruptions."""

from collections import Counter

import pytest
import torch
from scipy import stats

from common.types import Catalogue
from lrd.graph import Graph
from lrd.triplets import TripletDataset
from lrd.types import TripletBatch

NUM_ITEMS = 8
EDGES = {"complement": [[1, 2], [1, 3], [4, 2], [5, 6]], "substitute": [[2, 1], [7, 8]]}
COLOURS = [0, 1, 1, 2, 2, 2, 3, 0, 0]
CATALOGUE = Catalogue(
    num_users=1,
    num_items=NUM_ITEMS,
    relations={name: torch.tensor(pairs) for name, pairs in EDGES.items()},
    attributes={"colour": torch.tensor(COLOURS), "everywhere": torch.tensor([0] + [1] * NUM_ITEMS)},
)
GRAPH = Graph(CATALOGUE)
COLOUR, EVERYWHERE = 3, 4
FIRST_COLOUR = NUM_ITEMS + 1
USABLE = 6 + 5  # edges, and items whose colour another item has; one colour is single, one value is everywhere


def drawn(length: int, corruptions: int = 1, seed: int = 0, epoch: int = 0) -> TripletBatch:
    dataset = TripletDataset(GRAPH, length, corruptions, seed)
    dataset.set_epoch(epoch)
    return dataset.__getitems__(range(length))


def true_triplet(head: int, relation: int, tail: int, value: int) -> bool:
    if relation >= COLOUR:
        return COLOURS[head] == COLOURS[tail] == value - FIRST_COLOUR
    return [head, tail] in EDGES[GRAPH.relations[relation]]


def rows(batch: TripletBatch, column: int) -> list[tuple[int, int, int, int]]:
    columns = (batch["head"][:, column], batch["relation"], batch["tail"][:, column], batch["value"])
    return [tuple(row) for row in torch.stack(columns, dim=1).tolist()]


def test_true_column_is_true_and_corruptions_never_are() -> None:
    batch = drawn(4000, corruptions=2)
    assert all(true_triplet(*row) for row in rows(batch, 0))
    assert not any(true_triplet(*row) for column in (1, 2) for row in rows(batch, column))


def test_attributes_join_two_different_items_and_edges_add_no_value() -> None:
    batch = drawn(2000)
    attribute = batch["relation"] == COLOUR
    assert bool((batch["head"][:, 0] != batch["tail"][:, 0]).all())
    assert bool((batch["value"][attribute] >= FIRST_COLOUR).all())
    assert not batch["value"][~attribute].any()


def test_heads_and_tails_are_corrupted_equally_often_and_one_at_a_time() -> None:
    batch = drawn(4000)
    same_head = batch["head"][:, 1] == batch["head"][:, 0]
    same_tail = batch["tail"][:, 1] == batch["tail"][:, 0]
    assert bool((same_head != same_tail).all())
    assert stats.binomtest(int(same_head.sum()), 4000).pvalue > 1e-3


def test_corruptions_are_uniform_over_what_is_not_true() -> None:
    batch = drawn(6000)
    tails = [t for (h, r, t, _), h0 in zip(rows(batch, 1), batch["head"][:, 0].tolist(), strict=True) if h == h0]
    of_edge = [row for row, true in zip(rows(batch, 1), rows(batch, 0), strict=True) if true[:3] == (1, 1, 2)]
    counts = Counter(tail for head, _, tail, _ in of_edge if head == 1 and tail != 2)
    assert set(counts) == {1, 4, 5, 6, 7, 8}
    assert stats.chisquare(list(counts.values())).pvalue > 1e-3
    assert set(tails) == set(range(1, NUM_ITEMS + 1))


def test_an_epoch_goes_through_all_triplets_before_any_comes_back() -> None:
    batch = drawn(2 * USABLE)
    keys = [(h, r, t if r < COLOUR else 0) for h, r, t, _ in rows(batch, 0)]
    assert len(set(keys[:USABLE])) == len(set(keys[USABLE:])) == USABLE
    assert EVERYWHERE not in batch["relation"].tolist()


def test_draws_follow_seed_and_epoch_alone() -> None:
    first, again = drawn(50, seed=1, epoch=2), drawn(50, seed=1, epoch=2)
    assert all(torch.equal(first[key], again[key]) for key in ("head", "relation", "tail", "value"))
    for other in (drawn(50, seed=2, epoch=2), drawn(50, seed=1, epoch=3)):
        assert not torch.equal(first["head"], other["head"])


@pytest.mark.parametrize("attributes", [{}, {"single": torch.tensor([0, 1, 2])}])
def test_graph_without_usable_triplets_is_empty(attributes: dict[str, torch.Tensor]) -> None:
    graph = Graph(Catalogue(num_users=1, num_items=2, relations={}, attributes=attributes))
    assert len(TripletDataset(graph, 10)) == 0
