from collections.abc import Iterator
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from common.errors import UserError
from common.models.caser import Caser
from common.types import SequenceBatch
from tests.common.models import toy
from tests.common.models.cases import SequentialCases

SMALL: dict[str, Any] = {"num_users": toy.NUM_USERS, "max_history": 3, "width": 12, "num_horizontal": 4, "dropout": 0.2}


class TestCaser(SequentialCases):
    model = Caser
    arguments = SMALL
    steps = 150

    def batches(self) -> Iterator[SequenceBatch]:
        return toy.window_batches(num_targets=1)


class TestCaserMasked(TestCaser):
    arguments = {**SMALL, "padding": "masked", "conv_activation": "identity", "hidden_activation": "tanh"}


class TestCaserPrefix(TestCaser):
    arguments = {
        **SMALL,
        "max_history": toy.MAX_HISTORY,
        "max_height": 3,
        "variant": "prefix",
        "padding": "masked",
        "objective": "bpr",
    }

    def batches(self) -> Iterator[SequenceBatch]:
        return toy.prefix_batches()


def _small(**arguments: object) -> Caser:
    return Caser(toy.NUM_ITEMS, **{**SMALL, "dropout": 0.0, **arguments})


def test_number_of_parameters_of_the_released_defaults() -> None:
    items, users = 100, 30
    model = Caser(items, users)
    tables = 50 * (users + 1) + 151 * (items + 1)
    count = {name: sum(p.numel() for p in module.parameters()) for name, module in model.named_children()}
    assert (count["vertical"], count["horizontal"], count["hidden"]) == (24, 12_080, 14_050)
    assert sum(count.values()) == 24 + 12_080 + 14_050 + tables


def test_features_equal_two_dimensional_convolutions() -> None:
    model, history = _small(max_history=5), torch.randint(1, 41, (6, 5))
    image = model.item_embedding(history)[:, None]
    kernel = model.vertical.weight.view(4, 1, 5, 1)
    expected = [F.conv2d(image, kernel, model.vertical.bias).flatten(1)]
    for height, filters in enumerate(model.horizontal, start=1):
        assert isinstance(filters, nn.Linear)
        kernel = filters.weight.view(4, 1, height, 12)
        features = F.conv2d(image, kernel, filters.bias).squeeze(3).relu()
        expected.append(F.max_pool1d(features, features.size(2)).squeeze(2))
    torch.testing.assert_close(model.convolve(history), torch.cat(expected, dim=1))


def test_a_horizontal_feature_does_not_change_when_its_run_moves() -> None:
    model = _small(max_history=6, num_horizontal=1)
    filters = model.horizontal[1]
    assert isinstance(filters, nn.Linear)
    filters.weight.data = model.item_embedding.weight[torch.tensor([7, 9])].detach().view(1, -1)
    early, late = torch.tensor([[7, 9, 1, 2, 3, 4]]), torch.tensor([[1, 2, 3, 7, 9, 4]])
    column = 4 * 12 + 1
    torch.testing.assert_close(model.convolve(early)[:, column], model.convolve(late)[:, column])


def test_the_vertical_branch_is_linear_in_the_image() -> None:
    model, history = _small(), torch.tensor([[1, 2, 3]])
    table = model.item_embedding.weight.detach().clone()
    other = torch.randn_like(table)
    zero = {}
    for name, weight in {"sum": 2 * table - 3 * other, "table": table, "other": other, "bias": 0 * table}.items():
        model.item_embedding.weight.data = weight
        zero[name] = model.convolve(history)[:, :48]
    bias = zero["bias"]
    expected = 2 * (zero["table"] - bias) - 3 * (zero["other"] - bias)
    torch.testing.assert_close(zero["sum"] - bias, expected)


def test_loss_is_a_mean_over_targets_plus_a_mean_over_negatives() -> None:
    model, batch = _small(), next(toy.window_batches())
    vectors = model.encode(batch)[:, -1]
    table, bias = model.output_table(), model.output_bias()
    assert bias is not None
    scores = [(vectors[:, None] * table[i]).sum(2) + bias[i] for i in (batch["targets"], batch["negatives"][:, 0])]
    positive, negative = scores
    expected = -positive.sigmoid().log().mean() - (1 - negative.sigmoid()).log().mean()
    torch.testing.assert_close(model.loss(batch)["loss"], expected)


@pytest.mark.parametrize("objective", ["bce", "bpr", "bpr_max", "sampled_softmax", "gbce", "ce"])
def test_every_objective_trains_all_targets(objective: str) -> None:
    model, batch = _small(objective=objective), next(toy.window_batches())
    model.loss(batch)["loss"].backward()
    grad = model.output_embedding.weight.grad
    assert grad is not None
    assert bool((grad[batch["targets"]].norm(dim=2) > 0).all())


def test_masked_padding_wins_no_maximum() -> None:
    model = _small(padding="masked", conv_activation="identity")
    with torch.no_grad():
        for name, parameter in model.horizontal.named_parameters():
            parameter.fill_(5.0 if name.endswith("bias") else -1.0)
        model.item_embedding.weight[1:].fill_(1.0)
    features = model.convolve(torch.tensor([[0, 0, 4], [0, 0, 0]]))[:, 48:]
    assert features[0].tolist() == [5.0 - 12] * 4 + [0.0] * 8
    assert not features[1].any()


def test_prefix_starts_as_rechorus_does() -> None:
    model = _small(variant="prefix", padding="masked", width=64)
    for name, weight in model.named_parameters():
        drawn = not name.startswith(("vertical", "horizontal"))
        assert (float(weight.detach().std()) == pytest.approx(0.01, rel=0.2)) == drawn, name
    assert not model.item_embedding.weight[0].any()


def test_unknown_users_have_the_mean_vector_of_trained_users() -> None:
    model, catalogue = _small().eval(), toy.catalogue()
    catalogue["train"]["offsets"][-1] = catalogue["train"]["offsets"][-2]
    model.attach(catalogue)
    mean = model.user_embedding.weight[1 : toy.NUM_USERS].mean(0)
    for user in (0, toy.NUM_USERS):
        torch.testing.assert_close(model.user_embedding(torch.tensor([user]))[0], mean)


def test_whole_sequences_are_refused() -> None:
    batch = next(toy.sequence_batches())
    batch["targets"][:, :-1] = batch["history"][:, 1:]
    with pytest.raises(UserError, match=r"data\.instances"):
        _small().loss(batch)


def test_a_window_of_a_user_who_returns_to_an_item_is_no_whole_sequence() -> None:
    batch = next(toy.window_batches(width=2, num_targets=2))
    only = {name: value[:1] if isinstance(value, torch.Tensor) else value for name, value in batch.items()}
    only |= {"history": torch.tensor([[1, 2]]), "targets": torch.tensor([[2, 3]])}
    model = _small(max_history=2)
    assert torch.isfinite(model.loss(cast(SequenceBatch, only))["loss"])
