"""A-LLMRec's stage 1 on given vectors, against its released code."""

from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from allmrec.alignment import Alignment, Pairs
from tests.parity.golden import Golden, assert_same, assert_same_gradients, load

pytestmark = pytest.mark.golden
SIDES = {"items": "item", "texts": "text"}
LAYERS = {"encoder": "fc1", "decoder": "fc2"}


def ours(released: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights, or gradients, under our names."""
    return {
        f"{side}.{layer}.{kind}": released[f"{their_side}.{their_layer}.{kind}"]
        for side, their_side in SIDES.items()
        for layer, their_layer in LAYERS.items()
        for kind in ("weight", "bias")
    }


@pytest.fixture(scope="module")
def released(golden: Path) -> Golden:
    path = golden / "allmrec_stage1.safetensors"
    with safe_open(path, "pt") as file:
        return Golden(load_file(path), dict(file.metadata()))


@pytest.fixture(scope="module")
def model(released: Golden) -> Alignment:
    weights = released.group("param.")
    latent, item_width = weights["item.fc1.weight"].shape
    model = Alignment(
        item_width,
        weights["text.fc1.weight"].size(1),
        latent,
        "released",
        weight_item=float(released.args["alpha"]),
        weight_text=float(released.args["beta"]),
    )
    load(model, ours(weights))
    return model


def test_latents_are_those_released(released: Golden, model: Alignment) -> None:
    given, out = released.group("in."), released.group("out.")
    assert_same(model.items.encode(given["item_pos"]), out["item_latent_pos"])
    assert_same(model.texts.encode(given["text_pos"]), out["text_latent_pos"])


def test_every_loss_and_gradient_is_that_released(released: Golden, model: Alignment) -> None:
    given, out = released.group("in."), released.group("out.")
    positive, negative = (Pairs(given[f"item_{sign}"], given[f"text_{sign}"]) for sign in ("pos", "neg"))
    losses = model(given["user_vector"], positive, negative)
    names = {"loss": "loss", "loss_matching": "loss_matching", "loss_rec": "loss_rec"}
    names |= {"loss_item": "loss_item_recon", "loss_text": "loss_text_recon"}
    for mine, theirs in names.items():
        assert_same(losses[mine], out[theirs])
    model.zero_grad()
    losses["loss"].backward()
    assert_same_gradients(model, ours(released.group("grad.")))
