"""NextItNet against the PyTorch port that A-LLMRec links, whose padding is an item like any other."""

from pathlib import Path

import pytest
import torch.nn.functional as F
from torch import Tensor

from common.models.nextitnet import NextItNet
from common.types import SequenceBatch
from tests.parity.golden import Golden, assert_same, assert_same_gradients, load, read


def ours(released: dict[str, Tensor], blocks: int) -> dict[str, Tensor]:
    """Weights, or gradients, under our names; a released kernel is (out, in, 1, tap), ours (out, tap · in)."""
    found = {
        "item_embedding.weight": released["embeding.weight"],
        "output_embedding.weight": released["final_layer.weight"],
        "item_bias.weight": released["final_layer.bias"][:, None],
    }
    for i in range(blocks):
        for theirs, mine in (("1", "near"), ("2", "far")):
            kernel = released[f"residual_blocks.{i}.conv{theirs}.weight"]
            found[f"blocks.{i}.{mine}.linear.weight"] = kernel.squeeze(2).transpose(1, 2).flatten(1)
            found[f"blocks.{i}.{mine}.linear.bias"] = released[f"residual_blocks.{i}.conv{theirs}.bias"]
            for kind in ("weight", "bias"):
                found[f"blocks.{i}.{mine}_norm.{kind}"] = released[f"residual_blocks.{i}.ln{theirs}.{kind}"]
    return found


@pytest.fixture(scope="module")
def released(golden: Path) -> Golden:
    return read(golden / "nextitnet.safetensors")


@pytest.fixture(scope="module")
def model(released: Golden) -> NextItNet:
    args = released.args
    model = NextItNet(
        args["item_size"] - 1,
        args["dilated_channels"],
        args["kernel_size"],
        tuple(args["dilations"]),
        final_relu=False,
        padding="released",
    )
    load(model, ours(released.group("param."), len(args["dilations"])))
    return model


@pytest.fixture(scope="module")
def batch(released: Golden) -> SequenceBatch:
    sequence = released.tensors["batch.sequence"]
    return {"history": sequence[:, :-1], "targets": sequence[:, 1:]}


@pytest.mark.golden
def test_states_and_scores_are_those_released(released: Golden, model: NextItNet, batch: SequenceBatch) -> None:
    tensors = released.tensors
    states = model.encode(batch)
    assert_same(states, tensors["out.hidden"])
    assert_same(model.match_all(states.flatten(0, 1)), tensors["out.logits"].flatten(0, 1))
    assert_same(model.score_catalogue(batch), tensors["out.last_logits"])


@pytest.mark.golden
def test_loss_without_padding_is_that_released(released: Golden, model: NextItNet, batch: SequenceBatch) -> None:
    logits = model.match_all(model.encode(batch).flatten(0, 1))
    loss = F.cross_entropy(logits, batch["targets"].flatten(), ignore_index=released.args["pad"])
    assert_same(loss, released.tensors["out.loss_without_padding"])


@pytest.mark.golden
def test_loss_and_gradients_are_those_released(released: Golden, model: NextItNet, batch: SequenceBatch) -> None:
    loss = model.loss(batch)["loss"]
    assert_same(loss, released.tensors["out.loss"])
    model.zero_grad()
    loss.backward()
    assert_same_gradients(model, ours(released.group("grad."), len(released.args["dilations"])))
