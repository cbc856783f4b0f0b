"""What a corruption avoids, and which triplets are learnt."""

import pytest
import torch

from common.types import Catalogue
from lrd.backbones.rcf import RCF
from lrd.corruptions import Corruptions
from lrd.graph import Graph
from tests.lrd.test_triplets import GRAPH


def catalogue() -> Catalogue:
    """Item 1 has a colour of its own, 2 an edge to every item, 3 and 4 share a colour."""
    edges = torch.tensor([[2, tail] for tail in range(1, 5)])
    return Catalogue(num_items=4, relations={"like": edges}, attributes={"colour": torch.tensor([0, 1, 0, 2, 2])})


def test_groups_hold_what_a_loop_finds_true() -> None:
    corruptions, count = Corruptions(GRAPH), GRAPH.num_items
    members = {(int(key) // count, int(key) % count + 1) for key in corruptions.members()}
    triplets = [tuple(row) for row in GRAPH.triplets.tolist()]
    for row, (head, relation, tail) in enumerate(triplets):
        heads = {h for h, r, t in triplets if (r, t) == (relation, tail)}
        tails = heads if tail > count else {t for h, r, t in triplets if (h, r) == (head, relation)}
        groups = int(corruptions.tail_group[row]), int(corruptions.head_group[row])
        assert [{item for group, item in members if group == own} for own in groups] == [tails, heads]


def test_a_value_of_one_item_and_a_head_of_all_tails_are_not_learnt() -> None:
    graph = Graph(catalogue())
    assert graph.triplets[Corruptions(graph).usable()].tolist() == [[3, 2, 7], [4, 2, 7]]


@pytest.mark.parametrize(("learns", "known"), [(True, [3, 4]), (False, [])])
def test_an_item_whose_triplets_are_never_learnt_is_not_known(learns: bool, known: list[int]) -> None:
    backbone, graph = RCF(4, heads=1), Graph(catalogue())
    backbone.build(1, 4, graph.num_entities, len(graph.relations))
    backbone.attach({**catalogue(), "train_count": torch.zeros(5, dtype=torch.long)}, graph, learns)
    assert backbone.entities.trained is not None
    assert backbone.entities.trained[:5].nonzero()[:, 0].tolist() == known
