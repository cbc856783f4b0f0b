"""GRU4Rec's session variant against the authors' PyTorch code, with both of its losses."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from common.models.gru4rec import GRU4Rec
from common.nn.losses import Objective
from common.types import Catalogue
from tests.parity.golden import Golden, assert_same, assert_same_gradients, load, read

OBJECTIVES: dict[str, Objective] = {"bpr-max": "bpr_max", "cross-entropy": "sampled_softmax"}


def ours(released: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights, or gradients, under our names; released items count from 0, ours from 1."""
    tables = {"item_embedding.weight": released["Wy.weight"], "item_bias.weight": released["By.weight"]}
    gates = {f"gru.{part}_l0": released[f"G.0.{part}"] for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
    return {name: F.pad(table, (0, 0, 1, 0)) for name, table in tables.items()} | gates


@pytest.fixture(scope="module", params=["gru4rec_bprmax", "gru4rec_xe"])
def released(golden: Path, request: pytest.FixtureRequest) -> Golden:
    return read(golden / f"{request.param}.safetensors")


@pytest.fixture
def model(released: Golden) -> GRU4Rec:
    args = released.args
    model = GRU4Rec(
        args["n_items"],
        hidden_size=args["layers"][0],
        num_extras=args["n_sample"],
        sample_alpha=args["sample_alpha"],
        logq=args["logq"],
        elu=args["elu_param"] or None,
        sparse=False,
        objective=OBJECTIVES[args["loss"]],
        score_penalty=args["bpreg"],
    )
    load(model, ours(released.group("param.")))
    catalogue: Catalogue = {"train_count": F.pad(released.tensors["in.item_count"], (1, 0)).long()}
    model.attach(catalogue)
    model.num_slots = args["batch_size"]
    model.slot_state = released.tensors["in.hidden"]
    model.slot_next = released.tensors["batch.item_id"] + 1
    model.slot_user = torch.arange(args["batch_size"]) + 1
    return model


def advanced(model: GRU4Rec, released: Golden) -> Tensor:
    return model.advance(model.slot_user, model.slot_next, released.tensors["batch.target"] + 1)


@pytest.mark.golden
def test_state_and_scores_are_those_released(released: Golden, model: GRU4Rec) -> None:
    states = advanced(model, released)
    assert_same(states, released.tensors["out.hidden"])
    assert_same(model.match_all(states)[:, 1:], released.tensors["out.all_scores"])


@pytest.mark.golden
def test_loss_and_gradients_are_those_released(released: Golden, model: GRU4Rec) -> None:
    tensors = released.tensors
    loss = model.step_loss(advanced(model, released), tensors["batch.target"] + 1, tensors["batch.samples"] + 1)
    assert_same(loss, tensors["out.loss"])
    loss.backward()
    assert_same_gradients(model, ours(released.group("grad.")))


@pytest.mark.golden
def test_replay_from_zero_is_that_released(released: Golden, model: GRU4Rec) -> None:
    states = model.eval().encode({"history": released.tensors["batch.sequence"] + 1})[:, -1]
    assert_same(states, released.tensors["out.sequence_hidden"])
    assert_same(model.match_all(states)[:, 1:], released.tensors["out.sequence_scores"])
