"""Agreement with known truth."""

import numpy as np
import pytest
import torch
from torch import Tensor

from common.types import Catalogue
from lrd.agreement import adjusted_mutual_information, agreement, related_pairs, untrained
from lrd.backbones.rcf import RCF
from lrd.discovery import LatentRelationDiscovery
from lrd.module import LRD

NUM_ITEMS, FUNCTIONS = 60, 3


def truth() -> dict[str, Tensor]:
    """Items of one family and three functions; what relates two of them follows from their functions."""
    function = torch.nn.functional.pad(torch.arange(NUM_ITEMS) % FUNCTIONS + 1, (1, 0))
    table = torch.zeros(3, FUNCTIONS + 1, FUNCTIONS + 1, dtype=torch.uint8)
    table[1, 1:, 1:] = torch.tensor([[0, 1, 2], [3, 0, 4], [5, 6, 0]])
    return {
        "item_function": function,
        "item_family": (function > 0).long(),
        "next_family": torch.tensor([0, 0]),
        "function_relation": table,
    }


def pairs() -> Tensor:
    items = torch.arange(1, NUM_ITEMS + 1)
    return torch.cartesian_prod(items, items)


def model() -> LRD:
    made = LRD(
        1, NUM_ITEMS, NUM_ITEMS + 1, 1, FUNCTIONS, backbone=RCF(8, heads=2), discovery=LatentRelationDiscovery(8)
    )
    vectors = torch.nn.functional.one_hot(truth()["item_function"], FUNCTIONS + 1)[:, 1:].float()
    known = Catalogue(num_items=NUM_ITEMS, text_vectors=vectors)
    assert made.discovery is not None
    made.discovery.attach(known)
    return made.eval()


def test_information_is_one_for_equal_partitions_and_near_zero_for_random_labels() -> None:
    labels, each = np.random.default_rng(0).integers(0, 5, 2000), np.arange(2000)
    assert adjusted_mutual_information(labels, (labels + 2) % 5, each)["low"] > 0.999
    chance = adjusted_mutual_information(labels, np.random.default_rng(1).integers(0, 5, 2000), each)
    assert chance["low"] < 0 < chance["high"] < 0.02


def test_interval_is_as_wide_as_independent_draws_scatter() -> None:
    def drawn(seed: int, resamples: int) -> dict[str, float]:
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, 4, 400)
        found = np.where(rng.random(400) < 0.5, labels, rng.integers(0, 4, 400))
        return adjusted_mutual_information(labels, found, np.arange(400), resamples)

    scatter = float(np.std([drawn(seed, 0)["ami"] for seed in range(200)]))
    widths = [row["high"] - row["low"] for row in (drawn(seed, 100) for seed in range(10))]
    assert float(np.mean(widths)) == pytest.approx(2 * 1.96 * scatter, rel=0.2)


def test_pairs_of_one_target_are_no_further_evidence() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, 300)
    found = np.where(rng.random(300) < 0.5, labels, rng.integers(0, 5, 300))
    once = adjusted_mutual_information(labels, found, np.arange(300))
    again = adjusted_mutual_information(labels.repeat(4), found.repeat(4), np.arange(300).repeat(4))
    assert again["ami"] == pytest.approx(once["ami"], abs=0.02)
    assert again["high"] - again["low"] == pytest.approx(once["high"] - once["low"], rel=0.15)


def test_only_pairs_related_in_truth_count() -> None:
    found, labels = related_pairs(truth(), pairs())
    function = truth()["item_function"]
    assert len(found) == NUM_ITEMS * NUM_ITEMS * 2 // 3
    assert bool((function[found[:, 0]] != function[found[:, 1]]).all())
    assert set(labels.tolist()) == {1, 2, 3, 4, 5, 6}


def test_probe_reads_what_vectors_tell_and_permuted_labels_nothing() -> None:
    found = agreement(model(), truth(), pairs()[::2], pairs()[1::2], resamples=20)
    assert found["probe"]["ami"] > 0.99
    assert abs(found["permuted"]["ami"]) < 0.02
    assert found["k_means"]["ami"] > 0.9
    assert set(found) == {"discovered", "permuted", "k_means", "untrained", "probe"}


@pytest.mark.parametrize("relations", [0, 1])
def test_where_pairs_are_related_in_one_way_or_none_there_is_nothing_to_agree_about(relations: int) -> None:
    world = truth()
    world["function_relation"] = world["function_relation"].clamp(max=relations)
    assert agreement(model(), world, pairs()[::2], pairs()[1::2], resamples=0) == {}


def test_without_two_relations_in_training_there_is_no_probe() -> None:
    function = truth()["item_function"]
    seen = pairs()[(function[pairs()] == torch.tensor([1, 2])).all(1)]
    assert "probe" not in agreement(model(), truth(), pairs()[::7], seen, resamples=0)


def test_a_classifier_that_knows_the_functions_is_found_out() -> None:
    made = model()
    assert made.discovery is not None
    with torch.no_grad():
        made.discovery.project.weight.zero_()[:FUNCTIONS] = torch.eye(FUNCTIONS)
        made.discovery.project.bias.zero_()
        made.discovery.classify.weight.zero_()
        made.discovery.classify.bias.zero_()
        for relation in range(9):
            made.discovery.classify.weight[relation, relation // 3] = 5
            made.discovery.classify.weight[relation, 8 + relation % 3] = 5
    found = agreement(made, truth(), pairs()[::2], pairs()[1::2], resamples=0)
    assert found["discovered"]["ami"] > 0.99
    assert found["untrained"]["ami"] < 0.9


def test_untrained_extractor_keeps_the_vectors_and_leaves_the_trained_one_alone() -> None:
    trained = model().discovery
    assert trained is not None
    before = trained.classify.weight.clone()
    fresh = untrained(trained)
    assert torch.equal(fresh.language, trained.language)
    assert not torch.equal(fresh.classify.weight, before)
    assert torch.equal(trained.classify.weight, before)
