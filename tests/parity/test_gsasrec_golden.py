"""gSASRec and its loss against the author's code."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from common.models.sasrec import SASRec
from common.nn.losses import gbce_loss
from common.types import PAD, SequenceBatch
from tests.parity.golden import Golden, assert_same, assert_same_gradients, load, read


def ours(released: dict[str, Tensor], blocks: int) -> dict[str, Tensor]:
    """Weights, or gradients, under our names; the released tables end with the padding row."""
    found = {
        "item_embedding.weight": released["item_embedding.weight"][:-1].clone(),
        "output_embedding.weight": released["output_embedding.weight"][:-1].clone(),
        "position_embedding.weight": released["position_embedding.weight"],
    }
    for kind in ("weight", "bias"):
        found[f"norm.{kind}"] = released[f"seq_norm.{kind}"]
        for i in range(blocks):
            theirs, mine = f"transformer_blocks.{i}", f"blocks.{i}"
            maps = [released[f"{theirs}.multihead_attention.{part}_proj.{kind}"] for part in ("query", "key", "val")]
            found[f"{mine}.attention.in_proj.{kind}"] = torch.cat(maps)
            found[f"{mine}.attention_norm.{kind}"] = released[f"{theirs}.first_norm.{kind}"]
            found[f"{mine}.feed_forward_norm.{kind}"] = released[f"{theirs}.second_norm.{kind}"]
            found[f"{mine}.feed_forward.inner.{kind}"] = released[f"{theirs}.dense1.{kind}"]
            found[f"{mine}.feed_forward.outer.{kind}"] = released[f"{theirs}.dense2.{kind}"]
    return found


@pytest.fixture(scope="module")
def released(golden: Path) -> Golden:
    return read(golden / "gsasrec.safetensors")


@pytest.fixture(scope="module")
def model(released: Golden) -> SASRec:
    args = released.args
    model = SASRec(
        args["num_items"],
        args["sequence_length"],
        "gsasrec",
        args["embedding_dim"],
        args["num_blocks"],
        args["num_heads"],
        dropout=0.0,
        tied=args["reuse_item_embeddings"],
        objective="gbce",
        calibration=args["gbce_t"],
    )
    load(model, ours(released.group("param."), args["num_blocks"]))
    return model


def without_padding_id(items: Tensor, released: Golden) -> Tensor:
    return items.masked_fill(items == released.args["padding_id"], PAD)


@pytest.fixture(scope="module")
def batch(released: Golden) -> SequenceBatch:
    sequence = without_padding_id(released.tensors["batch.sequence"], released)
    history = sequence[:, :-1]
    return {
        "history": history,
        # The first item of a sequence follows padding alone; the released loss leaves it out, too.
        "targets": sequence[:, 1:].masked_fill(history == PAD, PAD),
        "negatives": released.tensors["batch.negatives"][:, 1:],
    }


@pytest.mark.golden
def test_states_and_logits_are_those_released(released: Golden, model: SASRec, batch: SequenceBatch) -> None:
    real = batch["history"] != PAD
    states = model.encode(batch)[real]
    items = torch.cat([batch["targets"][:, :, None], batch["negatives"]], dim=2)[real]
    assert_same(states, released.tensors["out.hidden"][real])
    assert_same(model.match(states, items), released.tensors["out.logits"][real])


@pytest.mark.golden
def test_loss_of_each_position_is_that_released(released: Golden, batch: SequenceBatch) -> None:
    args, real = released.args, batch["history"] != PAD
    logits, losses = released.tensors["out.logits"][real], released.tensors["out.loss_per_position"][real]
    found = [gbce_loss(row[:1], row[None, 1:], args["num_items"], args["gbce_t"]) for row in logits]
    assert_same(torch.stack(found), losses)


@pytest.mark.golden
def test_loss_and_gradients_are_those_released(released: Golden, model: SASRec, batch: SequenceBatch) -> None:
    loss = model.loss(batch)["loss"]
    assert_same(loss, released.tensors["out.loss"])
    model.zero_grad()
    loss.backward()
    assert_same_gradients(model, ours(released.group("grad."), released.args["num_blocks"]))


@pytest.mark.golden
def test_ranking_of_the_catalogue_is_that_released(released: Golden, model: SASRec) -> None:
    sequence = without_padding_id(released.tensors["batch.sequence"], released)
    scores, items = model.score_catalogue({"history": sequence})[:, 1:].sort(descending=True)
    assert torch.equal(items + 1, released.tensors["out.ranked_items"])
    assert_same(scores, released.tensors["out.ranked_scores"])
