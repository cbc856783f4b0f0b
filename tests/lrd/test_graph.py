"""Numbers of relations and entities."""

from typing import cast

import pytest
import torch

from common.errors import UserError
from common.types import Catalogue
from lrd.graph import Graph

CATALOGUE = Catalogue(
    num_users=2,
    num_items=3,
    relations={"complement": torch.tensor([[1, 2]]), "substitute": torch.tensor([[2, 3], [3, 2]])},
    attributes={"category": torch.tensor([0, 1, 2, 0]), "brand": torch.tensor([0, 1, 1, 1])},
)


def test_values_follow_the_items_with_one_unknown_a_kind() -> None:
    graph = Graph(CATALOGUE)
    assert graph.relations == ["virtual", "complement", "substitute", "category", "brand"]
    assert graph.num_entities == 4 + 3 + 2
    assert graph.relation_of.tolist() == [0] * 4 + [3] * 3 + [4] * 2
    assert graph.value_of.tolist() == [[0] * 5, [0, 0, 0, 5, 8], [0, 0, 0, 6, 8], [0, 0, 0, 4, 8]]


def test_triplets_are_edges_and_known_values() -> None:
    expected = [[1, 1, 2], [2, 2, 3], [3, 2, 2], [1, 3, 5], [2, 3, 6], [1, 4, 8], [2, 4, 8], [3, 4, 8]]
    assert Graph(CATALOGUE).triplets.tolist() == expected


def test_an_attribute_that_no_item_has_is_no_relation() -> None:
    nothing = torch.zeros(4, dtype=torch.long)
    attributes = {"brand": CATALOGUE["attributes"]["brand"], "category": nothing}
    known = cast(Catalogue, {**CATALOGUE, "attributes": attributes})
    graph = Graph(known)
    assert graph.relations == ["virtual", "complement", "substitute", "brand"]
    assert graph.num_entities == 4 + 2


@pytest.mark.parametrize(
    ("learnt", "known"), [([], {1, 5, 8}), ([1], {1, 2, 3, 5, 8}), ([3, 4], {1, 2, 5, 6, 8}), ([7], {1, 3, 5, 8})]
)
def test_entities_are_known_by_events_and_by_the_triplets_that_are_learnt(learnt: list[int], known: set[int]) -> None:
    graph, trained = Graph(CATALOGUE), torch.tensor([False, True, False, False])
    found = graph.known(trained, torch.tensor(learnt, dtype=torch.long))
    assert set(found.nonzero()[:, 0].tolist()) == known


def test_an_item_without_a_value_knows_that_of_none() -> None:
    trained, nothing = torch.tensor([False, False, False, True]), torch.empty(0, dtype=torch.long)
    assert Graph(CATALOGUE).known(trained, nothing).nonzero()[:, 0].tolist() == [3, 4, 8]


def test_catalogue_without_relations_has_the_virtual_one() -> None:
    graph = Graph(Catalogue(num_users=1, num_items=2, relations={}, attributes={}))
    assert graph.relations == ["virtual"]
    assert graph.triplets.shape == (0, 3)


@pytest.mark.parametrize("part", ["relations", "attributes"])
def test_the_name_of_the_virtual_relation_is_taken(part: str) -> None:
    named = {"virtual": next(iter(CATALOGUE[part].values()))}  # type: ignore[literal-required]  # of two keys
    with pytest.raises(UserError, match="'virtual', which is what pairs without any are called"):
        Graph(cast(Catalogue, {**CATALOGUE, part: named}))
