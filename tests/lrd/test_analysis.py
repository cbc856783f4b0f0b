"""Analysis of relations against naive loops."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from common.types import Cases, Catalogue
from lrd.analysis import (
    compositions,
    cosines,
    degree_matched,
    explain,
    history_pairs,
    infer,
    neighbours,
    projection,
    random_pairs,
    training_pairs,
    two_hops,
)
from lrd.backbones.kda import KDA
from lrd.discovery import LatentRelationDiscovery
from lrd.graph import Graph
from lrd.module import LRD
from tests.common.models import toy
from tests.fixtures.histories import random_histories, split_of

SPLIT = split_of(random_histories(12, 20, 14))


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def edges(count: int, num_items: int = 20, seed: int = 0) -> Tensor:
    drawn = torch.randint(1, num_items + 1, (count, 2), generator=torch.Generator().manual_seed(seed))
    return drawn[drawn[:, 0] != drawn[:, 1]]


def model() -> LRD:
    graph = Graph(toy.catalogue())
    sizes = (toy.NUM_USERS, toy.NUM_ITEMS, graph.num_entities, len(graph.relations), 5)
    made = LRD(*sizes, backbone=KDA(8, heads=2), discovery=LatentRelationDiscovery(2))
    vectors = torch.nn.functional.pad(torch.randn(toy.NUM_ITEMS, 5), (0, 0, 1, 0))
    made.attach({**toy.catalogue(), "text_vectors": vectors, "num_interactions": 100})
    torch.nn.init.normal_(made.backbone.entities.weight)
    torch.nn.init.normal_(made.backbone.relations)
    return made.eval()


def test_held_out_pairs_are_those_of_a_loop() -> None:
    items, offsets = SPLIT["sequences"]["items"].tolist(), SPLIT["sequences"]["offsets"].tolist()
    cases = Cases(user=SPLIT["test"]["user"], position=SPLIT["test"]["position"])
    expected = set()
    for user, position in zip(cases["user"].tolist(), cases["position"].tolist(), strict=True):
        expected |= {(item, items[position]) for item in items[offsets[user] : position][-5:]}
    assert sorted(map(tuple, history_pairs(SPLIT["sequences"], cases, 5).tolist())) == sorted(expected)


def test_training_pairs_are_those_of_a_loop() -> None:
    items, offsets = SPLIT["sequences"]["items"].tolist(), SPLIT["sequences"]["offsets"].tolist()
    expected = set()
    for start, end in pairwise(offsets):
        expected |= {21 * items[i] + items[j] for j in range(start, end) for i in range(max(start, j - 4), j)}
    assert training_pairs(SPLIT["sequences"], 20, 4).tolist() == sorted(expected)


def test_two_hops_are_those_of_a_loop() -> None:
    first, second, pairs = edges(15), edges(15, seed=1), random_pairs(200, 20, generator())
    linked = [{frozenset(edge) for edge in part.tolist()} for part in (first, second)]
    expected = [
        any({head, x} in linked[0] and {x, tail} in linked[1] for x in range(1, 21)) for head, tail in pairs.tolist()
    ]
    assert two_hops(neighbours(first, 20), neighbours(second, 20), pairs).tolist() == expected
    assert 0 < sum(expected) < 200


def test_compositions_are_those_of_a_loop_beside_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lrd.analysis.RANDOM_PAIRS", 2000)
    parts = {"complement": edges(10), "substitute": edges(10, seed=1)}
    linked = {name: {frozenset(edge) for edge in part.tolist()} for name, part in parts.items()}
    linked["any"] = linked["complement"] | linked["substitute"]

    def share(first: str, second: str, pairs: Tensor) -> float:
        joined = [
            any({head, x} in linked[first] and {x, tail} in linked[second] for x in range(1, 21))
            for head, tail in pairs.tolist()
        ]
        return sum(joined) / len(joined)

    pairs, labels = random_pairs(500, 20, generator()), torch.arange(500) % 3 // 2
    found = compositions(
        Catalogue(num_items=20, relations=parts), pairs, labels, ["virtual", "latent 1", "latent 2"], seed=0
    )
    drawn = generator()
    at_random = random_pairs(2000, 20, drawn)
    degrees = torch.tensor([sum(item in edge for edge in linked["any"]) for item in range(21)])
    expected = []
    for relation, name in enumerate(["virtual", "latent 1"]):
        own = pairs[labels == relation]
        matched = degree_matched(own, degrees, drawn)
        for joint in ["any", *(f"{one} + {other}" for one in parts for other in parts)]:
            first, _, second = joint.partition(" + ")
            shares = [share(first, second or first, chosen) for chosen in (own, at_random, matched)]
            row = dict(zip(("share", "random", "degree_matched"), shares, strict=True))
            expected.append({"relation": name, "pairs": len(own), "joined_by": joint, **row})
    assert found == [pytest.approx(row) for row in expected]


def test_random_pairs_are_of_two_items_and_matched_ones_of_like_degree() -> None:
    pairs = random_pairs(5000, 200, generator())
    assert bool((pairs[:, 0] != pairs[:, 1]).all())
    assert set(pairs.flatten().tolist()) == set(range(1, 201))
    degrees = torch.arange(201)
    matched = degree_matched(pairs, degrees, generator())
    assert int((matched - pairs).abs().max()) == 5
    assert bool((matched[:, 0] != matched[:, 1]).all())
    few = degree_matched(random_pairs(200, 2, generator()), degrees[:3], generator())
    assert set(map(tuple, few.tolist())) == {(1, 2), (2, 1)}


def test_vectors_are_compared_by_direction_and_projected_by_variance() -> None:
    vectors = torch.tensor([[3.0, 0, 0], [-6.0, 0, 0], [0, 1.0, 0]])
    torch.testing.assert_close(cosines(vectors), torch.tensor([[1.0, -1, 0], [-1, 1, 0], [0, 0, 1]]))
    flat = projection(vectors)
    torch.testing.assert_close(torch.cdist(flat, flat), torch.cdist(vectors, vectors))


def test_inferred_relations_are_those_of_each_pair_alone() -> None:
    made = model()
    assert made.discovery is not None
    pairs = random_pairs(9, toy.NUM_ITEMS, generator())
    together = infer(made.discovery, pairs, made.backbone.entities)
    torch.testing.assert_close(together.sum(1), torch.ones(9))
    for pair, expected in zip(pairs, together, strict=True):
        torch.testing.assert_close(infer(made.discovery, pair[None], made.backbone.entities)[0], expected)


def test_explanation_is_the_strongest_of_all_links_of_a_loop() -> None:
    made, batch = model(), toy.full_batch()
    items = batch["target"]
    backbone = made.backbone
    decay = backbone.decay(batch)
    assert decay is not None
    for row, link in enumerate(explain(made, batch, items)):
        candidate, best = backbone.entities(items[row]), (-torch.inf, 0, 0)
        slots = [i for i, item in enumerate(batch["history"][row].tolist()) if item]
        history = backbone.entities(batch["history"][row, slots])
        for relation, vector in enumerate(backbone.relation_vectors(items[row : row + 1, None])[0, 0]):
            weights = (history @ (vector * candidate)).softmax(0) * decay[row, relation, slots]
            for slot, value in zip(slots, (weights * (history @ candidate)).tolist(), strict=True):
                best = max(best, (value, relation, int(batch["history"][row, slot])))
        assert (link.relation, link.item) == best[1:]
        torch.testing.assert_close(torch.tensor(link.strength), torch.tensor(best[0]))
