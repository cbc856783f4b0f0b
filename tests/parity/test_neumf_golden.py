"""NeuMF against RecBole's, which has the structure of the authors' code."""

from pathlib import Path

import pytest
import torch.nn.functional as F
from torch import Tensor

from common.models.ncf import NCF
from tests.parity.golden import Golden, assert_same, assert_same_gradients, load, read


def ours(released: dict[str, Tensor], product_width: int) -> dict[str, Tensor]:
    """Weights, or gradients, under our names; the released prediction layer reads product and tower in one."""
    output = released["predict_layer.weight"]
    found = {
        "bias": released["predict_layer.bias"],
        "product_output.weight": output[:, :product_width],
        "tower_output.weight": output[:, product_width:],
    }
    for side in ("user", "item"):
        found[f"{side}_product.weight"] = released[f"{side}_mf_embedding.weight"]
        found[f"{side}_tower.weight"] = released[f"{side}_mlp_embedding.weight"]
    layers = sorted({int(key.split(".")[2]) for key in released if key.startswith("mlp_layers")})
    for i, theirs in enumerate(layers):
        for kind in ("weight", "bias"):
            found[f"tower.{i}.{kind}"] = released[f"mlp_layers.mlp_layers.{theirs}.{kind}"]
    return found


@pytest.fixture(scope="module")
def released(golden: Path) -> Golden:
    return read(golden / "neumf.safetensors")


@pytest.fixture(scope="module")
def model(released: Golden) -> NCF:
    args = released.args
    model = NCF(
        args["n_items"] - 1,
        args["n_users"] - 1,
        product_width=args["mf_embedding_size"],
        layers=(2 * args["mlp_embedding_size"], *args["mlp_hidden_size"]),
    )
    load(model, ours(released.group("param."), args["mf_embedding_size"]))
    return model


def logits(model: NCF, released: Golden) -> Tensor:
    return model.pair(released.tensors["batch.user_id"], released.tensors["batch.item_id"][:, None])[:, 0]


@pytest.mark.golden
def test_logits_are_those_released(released: Golden, model: NCF) -> None:
    assert_same(logits(model, released), released.tensors["out.logits"])
    assert_same(logits(model, released).sigmoid(), released.tensors["out.scores"])


@pytest.mark.golden
def test_loss_and_gradients_are_those_released(released: Golden, model: NCF) -> None:
    loss = F.binary_cross_entropy_with_logits(logits(model, released), released.tensors["batch.label"])
    assert_same(loss, released.tensors["out.loss"])
    model.zero_grad()
    loss.backward()
    assert_same_gradients(model, ours(released.group("grad."), released.args["mf_embedding_size"]))
