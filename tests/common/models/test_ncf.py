from collections.abc import Iterator
from typing import Literal

import pytest
import torch
import torch.nn.functional as F

from common.errors import UserError
from common.models.ncf import NCF
from common.types import SequenceBatch
from tests.common.models import toy
from tests.common.models.cases import TrainedCases

SMALL = {"num_users": toy.NUM_USERS, "product_width": 16, "layers": (32, 32, 16)}


class TestNeuMF(TrainedCases):
    model = NCF
    arguments = SMALL

    def batches(self) -> Iterator[SequenceBatch]:
        return toy.prefix_batches(num_negatives=4, min_history=0)


class TestGMF(TestNeuMF):
    arguments = {**SMALL, "variant": "gmf"}


class TestMLP(TestNeuMF):
    arguments = {**SMALL, "variant": "mlp"}


def _random(variant: Literal["neumf", "gmf", "mlp"], seed: int = 0) -> NCF:
    model = NCF(toy.NUM_ITEMS, toy.NUM_USERS, variant, layers=(16, 12, 6)).double().eval()
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, generator=generator)
    return model


def test_tower_is_a_perceptron_of_both_vectors_side_by_side() -> None:
    model, users, items = _random("mlp"), torch.tensor([3, 5]), torch.tensor([[7, 8], [9, 1]])
    user = model.user_tower.weight[users][:, None].expand(-1, 2, -1)
    hidden = torch.cat([user, model.item_tower.weight[items]], dim=2)
    for layer in model.tower:
        hidden = F.relu(layer(hidden))
    expected = model.tower_output(hidden).squeeze(2) + model.bias
    torch.testing.assert_close(model.pair(users, items), expected)


@pytest.mark.parametrize("variant", ["neumf", "gmf", "mlp"])
@pytest.mark.parametrize("chunk", [1, 7, 512])
def test_catalogue_equals_pairs(
    variant: Literal["neumf", "gmf", "mlp"], chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batch = _random(variant), toy.full_batch()
    model.attach(toy.catalogue())
    monkeypatch.setattr(NCF, "catalogue_chunk", chunk)
    scores = model.score_catalogue(batch)
    chunks = torch.arange(toy.NUM_ITEMS + 1)[None].split(chunk, dim=1)
    assert torch.equal(scores, torch.cat([model.pair(batch["user_id"], items) for items in chunks], dim=1))
    for user, item in ((1, 1), (4, 40), (20, 13)):
        pair = model.pair(torch.tensor([user]), torch.tensor([[item]]))
        torch.testing.assert_close(scores[user - 1, item], pair[0, 0])


def test_catalogue_maps_users_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, looked_up = _random("neumf"), []
    monkeypatch.setattr(NCF, "catalogue_chunk", 7)
    for table in (model.user_product, model.user_tower):
        table.register_forward_hook(lambda table, *_: looked_up.append(table))
    model.score_catalogue(toy.full_batch())
    assert looked_up == [model.user_product, model.user_tower]


def test_loss_is_log_loss_over_all_pairs() -> None:
    model, batch = _random("neumf"), next(toy.prefix_batches(num_negatives=4, min_history=0))
    total = torch.zeros((), dtype=torch.float64)
    for user, positive, negatives in zip(batch["user_id"], batch["targets"], batch["negatives"], strict=True):
        scores = model.pair(user[None], torch.cat([positive, negatives[0]])[None])[0].sigmoid()
        total = total - scores[0].log() - (1 - scores[1:]).log().sum()
    expected = total / (5 * len(batch["user_id"]))
    torch.testing.assert_close(model.loss(batch)["loss"], expected, rtol=1e-9, atol=0)


def test_loss_leaves_padded_targets_out() -> None:
    model, batch = _random("neumf"), next(toy.sequence_batches())
    changed: SequenceBatch = {**batch, "negatives": batch["negatives"].clone()}
    changed["negatives"][batch["targets"] == 0] = 1
    torch.testing.assert_close(model.loss(batch)["loss"], model.loss(changed)["loss"])


def test_neumf_without_tower_output_is_gmf() -> None:
    neumf, gmf, batch = _random("neumf"), _random("gmf", seed=1), toy.sampled_batch()
    torch.nn.init.zeros_(neumf.tower_output.weight)
    gmf.load_state_dict({name: neumf.state_dict()[name] for name in gmf.state_dict()})
    torch.testing.assert_close(neumf.score(batch), gmf.score(batch), rtol=1e-12, atol=0)


def test_sgd_can_be_asked_for() -> None:
    assert isinstance(NCF(5, 5, optimizer="sgd").configure_optimizers(), torch.optim.SGD)


def test_number_of_parameters_of_the_released_defaults() -> None:
    items, users = 30, 20
    model = NCF(items, users)
    tower = (64 * 32 + 32) + (32 * 16 + 16) + (16 * 8 + 8)
    tables = (users + 1 + items + 1) * (8 + 32)
    assert sum(p.numel() for p in model.parameters()) == tables + tower + (8 + 8 + 1)


@pytest.mark.parametrize("layers", [(64,), (15, 8)])
def test_impossible_towers_are_refused(layers: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="layers"):
        NCF(5, 5, layers=layers)


def test_unknown_user_scores_as_the_mean_user_of_gmf() -> None:
    model = _random("gmf")
    model.attach(toy.catalogue())
    candidates = torch.tensor([[1, 2, 3]])
    known = torch.stack([model.pair(torch.tensor([u]), candidates)[0] for u in range(1, toy.NUM_USERS + 1)])
    torch.testing.assert_close(model.pair(torch.tensor([0]), candidates)[0], known.mean(0))
