"""TiSASRec as LRD runs it, against its released code."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from common.models.tisasrec import TiSASRec
from common.types import SequenceBatch
from tests.parity.golden import Golden, assert_same, assert_same_gradients, load, read

SENTINEL = 0xFFFF


def ours(released: dict[str, Tensor], blocks: int) -> dict[str, Tensor]:
    """Weights, or gradients, under our names; released positions count backwards from 1, and row 0 is padding."""
    found = {
        "item_embedding.weight": released["i_embeddings.weight"],
        "position_keys.weight": released["p_k_embeddings.weight"][1:].flip(0),
        "position_values.weight": released["p_v_embeddings.weight"][1:].flip(0),
        "interval_keys.weight": released["t_k_embeddings.weight"],
        "interval_values.weight": released["t_v_embeddings.weight"],
    }
    for i in range(blocks):
        theirs, mine = f"transformer_block.{i}", f"blocks.{i}"
        for kind in ("weight", "bias"):
            maps = [released[f"{theirs}.masked_attn_head.{part}_linear.{kind}"] for part in "qkv"]
            found[f"{mine}.attention.in_proj.{kind}"] = torch.cat(maps)
            found[f"{mine}.attention_norm.{kind}"] = released[f"{theirs}.layer_norm1.{kind}"]
            found[f"{mine}.feed_forward_norm.{kind}"] = released[f"{theirs}.layer_norm2.{kind}"]
            found[f"{mine}.feed_forward.inner.{kind}"] = released[f"{theirs}.linear1.{kind}"]
            found[f"{mine}.feed_forward.outer.{kind}"] = released[f"{theirs}.linear2.{kind}"]
    return found


def right_aligned(rows: Tensor, lengths: Tensor) -> Tensor:
    """Moves the padding of each row from the right to the left."""
    width = rows.size(1)
    source = torch.arange(width) - (width - lengths[:, None])
    return torch.where(source >= 0, rows.gather(1, source.clamp(min=0)), 0)


@pytest.fixture(scope="module")
def released(golden: Path) -> Golden:
    return read(golden / "lrd_tisasrec.safetensors")


@pytest.fixture(scope="module")
def batch(released: Golden) -> SequenceBatch:
    given = released.group("batch.")
    return {
        "history": right_aligned(given["history_items"], given["lengths"]),
        "history_time": right_aligned(given["history_times"], given["lengths"]),
        "targets": given["item_id"][:, :1],
        "negatives": given["item_id"][:, None, 1:],
        "candidates": given["item_id"],
    }


@pytest.fixture
def model(released: Golden, monkeypatch: pytest.MonkeyPatch) -> TiSASRec:
    args, weights = released.args, ours(released.group("param."), released.args["num_layers"])
    model = TiSASRec(
        num_items=int(args["n_items"]) - 1,
        max_history=args["history_max"],
        variant="lrd",
        width=args["emb_size"],
        num_blocks=args["num_layers"],
        num_heads=args["num_heads"],
        time_span=args["time_max"],
        max_unit=SENTINEL,
        dropout=0.0,
        objective="bpr_max",
    )
    load(model, weights)
    # The released unit is the least over the user's complete history, which no model of ours is shown.
    units = released.tensors["batch.user_min_intervals"][:, None]
    monkeypatch.setattr(model, "units", lambda times: units)
    return model


@pytest.mark.golden
def test_scores_and_loss_are_those_released(released: Golden, model: TiSASRec, batch: SequenceBatch) -> None:
    assert_same(model.score(batch), released.tensors["out.prediction"])
    assert_same(model.loss(batch)["loss"], released.tensors["out.loss"])


@pytest.mark.golden
def test_gradients_are_those_released(released: Golden, model: TiSASRec, batch: SequenceBatch) -> None:
    model.loss(batch)["loss"].backward()
    assert_same_gradients(model, ours(released.group("grad."), released.args["num_layers"]))


@pytest.mark.golden
def test_with_the_sentinel_our_units_are_those_released_on_day_data(
    released: Golden, model: TiSASRec, batch: SequenceBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    times, units = batch["history_time"], released.tensors["batch.user_min_intervals"]
    if bool((times % 86_400 != 0).any()):
        pytest.skip("the file's times are finer than days")
    monkeypatch.undo()
    assert torch.equal(model.units(times).squeeze(1), units)
