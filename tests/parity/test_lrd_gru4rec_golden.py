"""GRU4Rec's prefix variant against LRD's code."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from common.models.gru4rec import GRU4Rec
from common.types import SequenceBatch
from tests.parity.golden import Golden, assert_same, assert_same_gradients, load, read


def ours(released: dict[str, Tensor]) -> dict[str, Tensor]:
    gates = {key.replace("rnn.", "gru."): value for key, value in released.items() if key.startswith("rnn.")}
    return gates | {
        "item_embedding.weight": released["i_embeddings.weight"],
        "project.weight": released["out.weight"],
    }


@pytest.fixture(scope="module")
def released(golden: Path) -> Golden:
    return read(golden / "lrd_gru4rec.safetensors")


@pytest.fixture(scope="module")
def model(released: Golden) -> GRU4Rec:
    args = released.args
    model = GRU4Rec(int(args["n_items"]) - 1, "prefix", args["hidden_size"], args["emb_size"])
    load(model, ours(released.group("param.")))
    return model


@pytest.fixture(scope="module")
def batch(released: Golden) -> SequenceBatch:
    """The released batch pads on the right."""
    rows, lengths = released.tensors["batch.history_items"], released.tensors["batch.lengths"]
    items = released.tensors["batch.item_id"]
    return {
        "history": torch.stack([row.roll(-int(length)) for row, length in zip(rows, lengths, strict=True)]),
        "targets": items[:, :1],
        "negatives": items[:, None, 1:],
        "candidates": items,
    }


@pytest.mark.golden
def test_scores_are_those_released(released: Golden, model: GRU4Rec, batch: SequenceBatch) -> None:
    assert_same(model.score(batch), released.tensors["out.prediction"])


@pytest.mark.golden
def test_loss_and_gradients_are_those_released(released: Golden, model: GRU4Rec, batch: SequenceBatch) -> None:
    loss = model.loss(batch)["loss"]
    assert_same(loss, released.tensors["out.loss"])
    model.zero_grad()
    loss.backward()
    assert_same_gradients(model, ours(released.group("grad.")))
