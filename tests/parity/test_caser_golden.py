"""Caser against the authors' code."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from common.models.caser import Caser
from common.types import SequenceBatch
from tests.parity.golden import Golden, assert_same, assert_same_gradients, load, read


def ours(released: dict[str, Tensor], heights: int) -> dict[str, Tensor]:
    """Weights, or gradients, under our names; released users count from 0, ours from 1."""
    found = {
        "item_embedding.weight": released["item_embeddings.weight"],
        "user_embedding.weight": F.pad(released["user_embeddings.weight"], (0, 0, 1, 0)),
        "output_embedding.weight": released["W2.weight"],
        "item_bias.weight": released["b2.weight"],
        "vertical.weight": released["conv_v.weight"].flatten(1),
        "vertical.bias": released["conv_v.bias"],
        "hidden.weight": released["fc1.weight"],
        "hidden.bias": released["fc1.bias"],
    }
    for i in range(heights):
        found[f"horizontal.{i}.weight"] = released[f"conv_h.{i}.weight"].flatten(1)
        found[f"horizontal.{i}.bias"] = released[f"conv_h.{i}.bias"]
    return found


@pytest.fixture(scope="module")
def released(golden: Path) -> Golden:
    return read(golden / "caser.safetensors")


@pytest.fixture(scope="module")
def model(released: Golden) -> Caser:
    args = released.args
    names = {"ac_conv": "conv_activation", "ac_fc": "hidden_activation", "nv": "num_vertical", "nh": "num_horizontal"}
    model = Caser(
        args["num_items"] - 1,
        args["num_users"],
        args["L"],
        width=args["d"],
        dropout=args["drop"],
        **{mine: args[theirs] for theirs, mine in names.items()},
    )
    load(model, ours(released.group("param."), args["L"]))
    return model.eval()


@pytest.fixture(scope="module")
def batch(released: Golden) -> SequenceBatch:
    tensors = released.tensors
    return {
        "user_id": tensors["batch.user_id"][:, 0] + 1,
        "history": tensors["batch.history"],
        "targets": tensors["batch.positives"],
        "negatives": tensors["batch.negatives"][:, None],
    }


@pytest.mark.golden
def test_features_and_scores_are_those_released(released: Golden, model: Caser, batch: SequenceBatch) -> None:
    tensors = released.tensors
    assert_same(model.convolve(batch["history"]), tensors["out.convolutions"])
    assert_same(model.encode(batch)[:, -1], tensors["out.user_vector"])
    candidates = torch.cat([batch["targets"], batch["negatives"][:, 0]], dim=1)
    assert_same(model.score({**batch, "candidates": candidates}), tensors["out.scores"])
    assert_same(model.score_catalogue(batch), tensors["out.all_scores"])


@pytest.mark.golden
def test_loss_and_gradients_are_those_released(released: Golden, model: Caser, batch: SequenceBatch) -> None:
    loss = model.loss(batch)["loss"]
    assert_same(loss, released.tensors["out.loss"])
    model.zero_grad()
    loss.backward()
    assert_same_gradients(model, ours(released.group("grad."), released.args["L"]))
