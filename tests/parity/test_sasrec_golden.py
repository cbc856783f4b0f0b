"""SASRec as A-LLMRec pre-trains it, against its released code."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from common.models.sasrec import SASRec
from common.types import SequenceBatch
from tests.parity.golden import Golden, assert_same, assert_same_gradients, load, read


def ours(released: dict[str, Tensor], blocks: int) -> dict[str, Tensor]:
    """Weights, or gradients, under our names."""
    names = {
        "item_embedding.weight": "item_emb.weight",
        "position_embedding.weight": "pos_emb.weight",
        "norm.weight": "last_layernorm.weight",
        "norm.bias": "last_layernorm.bias",
    }
    for i in range(blocks):
        for kind in ("weight", "bias"):
            names |= {
                f"blocks.{i}.attention.in_proj.{kind}": f"attention_layers.{i}.in_proj_{kind}",
                f"blocks.{i}.attention.out_proj.{kind}": f"attention_layers.{i}.out_proj.{kind}",
                f"blocks.{i}.attention_norm.{kind}": f"attention_layernorms.{i}.{kind}",
                f"blocks.{i}.feed_forward_norm.{kind}": f"forward_layernorms.{i}.{kind}",
                f"blocks.{i}.feed_forward.inner.{kind}": f"forward_layers.{i}.conv1.{kind}",
                f"blocks.{i}.feed_forward.outer.{kind}": f"forward_layers.{i}.conv2.{kind}",
            }
    assert sorted(names.values()) == sorted(released)
    return {mine: released[name].squeeze(-1) if "conv" in name else released[name] for mine, name in names.items()}


@pytest.fixture(scope="module")
def released(golden: Path) -> Golden:
    return read(golden / "allmrec_sasrec.safetensors")


@pytest.fixture(scope="module")
def model(released: Golden) -> SASRec:
    args = released.args
    model = SASRec(args["items"], args["maxlen"], "allmrec", args["hidden"], args["blocks"], args["heads"], dropout=0.0)
    load(model, ours(released.group("param."), args["blocks"]))
    return model


@pytest.fixture(scope="module")
def batch(released: Golden) -> SequenceBatch:
    given = released.group("batch.")
    return {"history": given["seq"], "targets": given["pos"], "negatives": given["neg"][:, :, None]}


@pytest.mark.golden
def test_outputs_are_those_released(released: Golden, model: SASRec, batch: SequenceBatch) -> None:
    states, real = model.encode(batch), batch["history"] != 0
    items = torch.stack([batch["targets"], batch["negatives"].squeeze(-1)], dim=2)
    logits = model.match(states[real], items[real])
    assert_same(logits[:, 0], released.tensors["out.pos_logits"][real])
    assert_same(logits[:, 1], released.tensors["out.neg_logits"][real])
    assert_same(states[:, -1], released.tensors["out.user_vector"])


@pytest.mark.golden
def test_loss_and_gradients_are_those_released(released: Golden, model: SASRec, batch: SequenceBatch) -> None:
    loss = model.loss(batch)["loss"]
    assert_same(loss, released.tensors["out.loss"])
    model.zero_grad()
    loss.backward()
    assert_same_gradients(model, ours(released.group("grad."), released.args["blocks"]))
