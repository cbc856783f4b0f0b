"""CTRL as A-LLMRec runs it, against its released code."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from allmrec.baselines.ctrl import CTRL
from allmrec.baselines.fine_grained import FineGrained
from common.types import SequenceBatch
from tests.parity import test_sasrec_golden as sasrec
from tests.parity.golden import Golden, assert_same, assert_same_gradients, read


class GivenTexts(nn.Module):
    """Stands where sentences are encoded, and gives the file's vectors."""

    def __init__(self, vectors: Tensor) -> None:
        super().__init__()
        self.vectors = vectors.clone().requires_grad_()
        self.shown = 50

    def forward(self, histories: list[list[int]], device: torch.device) -> Tensor:
        assert len(histories) == len(self.vectors)
        return self.vectors


def ours(released: dict[str, Tensor], blocks: int) -> dict[str, Tensor]:
    """Weights, or gradients, under our names; those of the second stage are absent among the gradients."""
    extra = {"alignment.project_text": "projection", "alignment.project_state": "projection2"}
    extra |= {f"alignment.state_parts.{i}": f"finegrain1_{i + 1}" for i in range(3)}
    extra |= {f"alignment.text_parts.{i}": f"finegrain2_{i + 1}" for i in range(3)}
    if "final_layer.weight" in released:
        extra |= {"final": "final_layer"}
    names = {f"{mine}.{kind}": f"{theirs}.{kind}" for mine, theirs in extra.items() for kind in ("weight", "bias")}
    rest = {name: value for name, value in released.items() if name not in names.values() and name != "in.text"}
    return sasrec.ours(rest, blocks) | {mine: released[name] for mine, name in names.items()}


@pytest.fixture(scope="module")
def released(golden: Path) -> Golden:
    return read(golden / "ctrl.safetensors")


@pytest.fixture
def model(released: Golden) -> CTRL:
    args = released.args
    width = args["hidden_units"]
    sizes: dict[str, Any] = {"width": width, "num_blocks": args["num_blocks"], "num_heads": args["num_heads"]}
    model = CTRL(
        args["item_num"],
        args["maxlen"],
        align_epochs=0,
        contrast="bce",
        chunk=args["chunk"],
        dropout=0.0,
        **sizes,
    )
    # The sentence model is replaced by given vectors, of another width than any that could be loaded.
    model.alignment = FineGrained(width, args["text_dim"], width, 3)
    model.double().load_state_dict(ours(released.group("param."), args["num_blocks"]), strict=True)
    model.texts = GivenTexts(released.tensors["in.text"])  # type: ignore[assignment]  # has the tower's methods
    return model


@pytest.fixture(scope="module")
def batch(released: Golden) -> SequenceBatch:
    given = released.group("batch.")
    return {"history": given["history"], "targets": given["positives"], "negatives": given["negatives"][:, :, None]}


@pytest.mark.golden
def test_similarities_are_those_released(released: Golden, model: CTRL, batch: SequenceBatch) -> None:
    assert model.alignment is not None
    states = model.states(batch)[batch["history"] != 0]
    assert_same(states, released.tensors["out.features"])
    chunk = released.args["chunk"]
    pieces = zip(torch.split(states, chunk), torch.split(released.tensors["in.text"], chunk), strict=True)
    for i, (state, text) in enumerate(pieces):
        there, back = model.alignment(state, text)
        assert_same(there, released.tensors[f"out.similarity_tab_to_text.{i}"])
        assert_same(back, released.tensors[f"out.similarity_text_to_tab.{i}"])


@pytest.mark.golden
def test_alignment_and_gradients_are_those_released(released: Golden, model: CTRL, batch: SequenceBatch) -> None:
    loss = model.alignment_loss(batch)
    assert_same(loss, released.tensors["out.loss"])
    loss.backward()
    given: nn.Module | None = model.texts
    assert isinstance(given, GivenTexts)
    assert given.vectors.grad is not None
    assert_same(given.vectors.grad, released.tensors["grad.in.text"])
    # The map of the second stage has no part in the first.
    del model.final
    assert_same_gradients(model, ours(released.group("grad."), released.args["num_blocks"]))


@pytest.mark.golden
def test_scores_of_the_second_stage_are_those_released(released: Golden, model: CTRL, batch: SequenceBatch) -> None:
    states, real = model.encode(batch), batch["history"] != 0
    items = torch.stack([batch["targets"], batch["negatives"].squeeze(-1)], dim=2)
    logits = model.match(states[real], items[real])
    assert_same(logits[:, 0], released.tensors["out.finetune_pos_logits"][real])
    assert_same(logits[:, 1], released.tensors["out.finetune_neg_logits"][real])
    assert_same(states[:, -1], released.tensors["out.finetune_user_vector"])
