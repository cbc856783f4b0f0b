"""KDA beside RCF."""

import pytest
import torch
from torch import Tensor

from common.types import Catalogue, SequenceBatch
from lrd.backbones.kda import KDA
from lrd.backbones.rcf import RCF
from lrd.graph import Graph
from tests.common.models import toy

SIZES = (toy.NUM_USERS, toy.NUM_ITEMS, toy.NUM_ITEMS + 1 + 4, 3 + 2)


def built(backbone: RCF, known: Catalogue | None = None) -> RCF:
    torch.manual_seed(0)
    backbone.build(*SIZES)
    known = known or toy.catalogue()
    backbone.attach(known, Graph(known))
    return backbone.eval()


def scores(backbone: RCF, batch: SequenceBatch) -> Tensor:
    with torch.inference_mode():
        result: Tensor = backbone(batch, batch["candidates"])
    return result


def test_decay_of_one_is_rcf() -> None:
    rcf, kda = built(RCF(16)), built(KDA(16, spectrum="random"))
    assert isinstance(kda, KDA)
    kda.load_state_dict(rcf.state_dict(), strict=False)
    kda.curves.real.data.zero_()[:, 0] = 66
    kda.curves.imaginary.data.zero_()
    batch = toy.sampled_batch()
    torch.testing.assert_close(scores(kda, batch), scores(rcf, batch))


def test_spectrum_is_of_training_events_and_latent_relations_start_from_the_virtual_one() -> None:
    kda, other = built(KDA(16)), built(KDA(16, spectrum="random"))
    assert isinstance(kda, KDA)
    assert isinstance(other, KDA)
    assert torch.equal(kda.curves.real[3:], kda.curves.real[:1].expand(2, -1))
    assert kda.curves.real.abs().max() > 1 > other.curves.real.abs().max()


def test_query_time_is_read_only_under_the_query_clock() -> None:
    batch = toy.sampled_batch()
    later: SequenceBatch = {**batch, "target_time": batch["target_time"] + 50 * toy.DAY}
    by_query, by_event = built(KDA(16)), built(KDA(16, clock="last_event"))
    assert not torch.equal(scores(by_query, batch), scores(by_query, later))
    assert torch.equal(scores(by_event, batch), scores(by_event, later))
    assert not torch.equal(scores(by_query, batch), scores(by_event, batch))


def test_rounds_add_no_parameters_and_order_means_nothing_to_rcf() -> None:
    few, many = built(RCF(16, rounds=1)), built(RCF(16, rounds=5))
    assert sum(p.numel() for p in few.parameters()) == sum(p.numel() for p in many.parameters())
    batch = toy.sampled_batch()
    mirrored: SequenceBatch = {**batch, "history": batch["history"].flip(1)}
    torch.testing.assert_close(scores(many, batch), scores(many, mirrored))


def test_with_one_relation_of_zero_and_no_rounds_the_view_is_the_mean_of_the_history() -> None:
    rcf, batch = RCF(16, rounds=0, include_values=False), toy.sampled_batch()
    rcf.build(toy.NUM_USERS, toy.NUM_ITEMS, toy.NUM_ITEMS + 1, 1)
    for parameter in rcf.parameters():
        torch.nn.init.normal_(parameter)
    rcf.relations.data.zero_()
    found = scores(rcf.eval(), batch)
    history, candidates = rcf.entities(batch["history"]), rcf.entities(batch["candidates"])
    real = (batch["history"] > 0)[..., None]
    mean = (history * real).sum(1) / real.sum(1)
    expected = ((rcf.users(batch["user_id"]) + mean)[:, None] * candidates).sum(-1)
    torch.testing.assert_close(found, expected + rcf.item_bias[batch["candidates"]])


@pytest.mark.parametrize("at_a_time", [1, 7, 20, 45])
@pytest.mark.parametrize("backbone", [RCF, KDA])
def test_scores_of_a_batch_are_those_of_one_pass(backbone: type[RCF], at_a_time: int, threads: int) -> None:
    model, batch = built(backbone(16)), toy.sampled_batch()
    with torch.no_grad():
        torch.testing.assert_close(model.score(batch, at_a_time), model(batch, batch["candidates"]))
