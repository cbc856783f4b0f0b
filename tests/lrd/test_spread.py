"""How pairs spread over relations, in training, tests and tables."""

import math

import pytest
import torch

from lrd.discovery import LatentRelationDiscovery
from lrd.spread import RelationSpread
from tests.lrd.conftest import Make
from tests.lrd.test_data import model_for, quiet_trainer


def test_spread_is_the_mean_entropy_and_the_largest_share_of_a_loop() -> None:
    q = torch.randn(40, 5).mul(2).softmax(-1)
    spread = RelationSpread(5)
    for part in torch.split(q, 7):
        spread.update(part)
    favourites = q.argmax(1).tolist()
    found = spread.compute()
    assert float(found["q_largest_share"]) == pytest.approx(max(favourites.count(r) for r in range(5)) / 40)
    expected = sum(-p * math.log(p) for row in q.tolist() for p in row) / 40
    assert float(found["q_entropy"]) == pytest.approx(expected, rel=1e-5)


def test_training_logs_the_spread_of_validation_pairs(make: Make) -> None:
    module = make(val_protocol="sampled-19")
    model = model_for(module)
    trainer = quiet_trainer(1)
    trainer.fit(model, module)
    logged = trainer.callback_metrics
    assert 0 < float(logged["val/q_entropy"]) <= math.log(module.num_relations + 2) + 1e-6
    assert 0 < float(logged["val/q_largest_share"]) <= 1
    real = sum(int((batch["history"] > 0).sum()) for batch in module.val_dataloader())
    assert model.spread is not None
    assert int(model.spread.counts.sum()) == real


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
