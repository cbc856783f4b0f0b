"""How pairs spread over relations, in training, tests and tables."""

import math

import pytest
import torch

from lrd.discovery import LatentRelationDiscovery
from lrd.spread import RelationSpread
from tests.common.models.float64 import Float64
from tests.lrd.conftest import Make
from tests.lrd.test_data import model_for, quiet_trainer


def test_spread_is_that_of_a_loop_over_the_pairs_of_each_case_once() -> None:
    q, real = torch.randn(40, 3, 5).mul(2).softmax(-1), torch.rand(40, 3) < 0.7
    spread = RelationSpread(5)
    # Shares of processes are made equal with what was there before.
    for part in torch.split(torch.tensor([*range(39, -1, -1), 0, 1]), 7):
        spread.update(part, q[part], real[part])
    pairs = q[real]
    favourites = pairs.argmax(1).tolist()
    found = spread.compute()
    assert found["q_largest_share"] == pytest.approx(max(favourites.count(r) for r in range(5)) / len(pairs))
    expected = sum(-p * math.log(p) for row in pairs.tolist() for p in row) / len(pairs)
    assert found["q_entropy"] == pytest.approx(expected, rel=1e-5)


def test_pairs_need_no_float64_of_the_device() -> None:
    with Float64() as made:
        RelationSpread(5).update(torch.arange(4), torch.rand(4, 3, 5), torch.ones(4, 3, dtype=torch.bool))
    assert not made.found


def test_training_logs_the_same_spread_of_validation_pairs_whatever_the_batches(make: Make) -> None:
    model, logged = model_for(make()), []
    for parameter in discovery_of(model.discovery).parameters():
        torch.nn.init.normal_(parameter)
    for size in (60, 25):
        module, trainer = make(val_protocol="sampled-19", eval_batch_size=size), quiet_trainer(1)
        trainer.validate(model, module, verbose=False)
        found = trainer.callback_metrics
        logged.append({name: float(found[f"val/{name}"]) for name in ("q_entropy", "q_largest_share")})
    assert len(module.events["val"]["user"]) % 25
    assert logged[0] == pytest.approx(logged[1], rel=1e-6)
    assert 0 < logged[0]["q_entropy"] <= math.log(module.num_relations + 2) + 1e-6
    assert 0 < logged[0]["q_largest_share"] <= 1


@pytest.mark.parametrize(("bias", "marks"), [(0.0, []), (100.0, ["one relation for all pairs"])])
def test_a_table_says_where_one_relation_stands_for_all_pairs(bias: float, marks: list[str], make: Make) -> None:
    module = make(test_protocols=["sampled-19"])
    model = model_for(module)
    model.attach(module.catalogue)
    classify = discovery_of(model.discovery).classify
    with torch.no_grad():
        discovery_of(model.discovery).project.weight.normal_()
        classify.weight.normal_()
        classify.bias.zero_()[3] = bias
    quiet_trainer(1).test(model, module, verbose=False)
    assert model.table_marks() == ["texts by vectors.npy", *marks]
    assert set(model.extra_metrics()) == {
        f"test/sampled-19/overall/{name}" for name in ("q_entropy", "q_largest_share")
    }


def discovery_of(found: LatentRelationDiscovery | None) -> LatentRelationDiscovery:
    assert found is not None
    return found


def test_counts_of_pairs_are_no_weights(make: Make) -> None:
    assert not [name for name in model_for(make()).state_dict() if "spread" in name]
