"""RecFormer's text, encoder and losses, against its released code."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LongformerConfig
from transformers.models.longformer import modeling_longformer

from allmrec.baselines.recformer_cuts import contrastive_loss
from allmrec.baselines.recformer_encoder import RecFormerEncoder, WordHead
from allmrec.baselines.recformer_text import KEY, VALUE, Layout, Pieces, Text, joined, lay_out
from tests.parity.golden import Golden, assert_same, assert_same_gradients, read

ITEM_PLACES = "longformer.embeddings.item_position_embeddings.weight"


class Both(nn.Module):
    """The encoder, and the head of hidden words where the file has one."""

    def __init__(self, args: dict[str, Any], head: bool) -> None:
        super().__init__()
        names = ["vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"]
        names += ["max_position_embeddings", "layer_norm_eps", "hidden_act", "pad_token_id"]
        config = LongformerConfig(
            **{name: args[name] for name in names},
            type_vocab_size=args["token_type_size"],
            attention_window=args["attention_window"],
        )
        self.encoder = RecFormerEncoder(config, args["max_item_embeddings"] - 1)
        self.head = WordHead(config) if head else None


@pytest.fixture(scope="module", autouse=True)
def precise() -> Iterator[None]:
    """Lifts Longformer's cast of attention weights to fp32, as was done when the files were made."""

    class Functional:
        def __getattr__(self, name: str) -> Any:  # noqa: ANN401
            return getattr(F, name)

        def softmax(self, scores: Tensor, dim: int, dtype: object = None) -> Tensor:
            return scores.softmax(dim)

    class Layers:
        functional = Functional()

        def __getattr__(self, name: str) -> Any:  # noqa: ANN401
            return getattr(nn, name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(modeling_longformer, "nn", Layers())
        yield


def ours(released: dict[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    """Weights, or gradients, under our names."""
    renamed = {}
    for name, value in released.items():
        if name == ITEM_PLACES:
            renamed["encoder.item_embedding.weight"] = value
        elif name.startswith("lm_head."):
            renamed[name.replace("lm_head.bias", "head.decoder.bias").replace("lm_head.", "head.")] = value
        else:
            renamed[f"encoder.{name}"] = value
    return renamed


def build(released: Golden, head: bool) -> Both:
    both = Both(released.args, head)
    both.double().eval().load_state_dict(ours(released.group("param.")), strict=True)
    return both


def known(args: dict[str, Any]) -> Pieces:
    """The file's items, of which it counts the first as 0."""
    rows: list[list[tuple[int, int]]] = [[]]
    for item in json.loads(args["items"]):
        row: list[tuple[int, int]] = []
        for name, value in item[: args["max_attr_num"]]:
            both = [(token, KEY) for token in name] + [(token, VALUE) for token in value]
            row += both[: args["max_attr_length"]]
        rows.append(row)
    return joined(rows, torch.zeros(args["vocab_size"], dtype=torch.bool))


def laid_out(histories: list[list[int]], args: dict[str, Any]) -> Text:
    width = max(map(len, histories))
    history = torch.tensor([[0] * (width - len(row)) + [item + 1 for item in row] for row in histories])
    layout = Layout(args["bos_token_id"], args["pad_token_id"], args["max_item_embeddings"] - 1, args["max_token_num"])
    return lay_out(history, known(args), layout._replace(multiple=max(args["attention_window"])))


def given(released: Golden, side: str, ids: str = "input_ids") -> Text:
    """A text as the file has it, filled up to the window as ours are."""
    batch = released.group("batch.")
    rows = [batch[f"{name}{side}"] for name in (ids, "token_type_ids", "item_position_ids", "attention_mask")]
    window, padding = max(released.args["attention_window"]), released.args["pad_token_id"]
    more = -rows[0].size(1) % window
    fills = (padding, 3, released.args["max_item_embeddings"] - 1, 0)
    ids_, types, spots, real = (F.pad(row, (0, more), value=fill) for row, fill in zip(rows, fills, strict=True))
    return Text(ids_, types, spots, torch.zeros_like(ids_, dtype=torch.bool), real.bool())


@pytest.fixture(scope="module")
def tuned(golden: Path) -> Golden:
    return read(golden / "recformer.safetensors")


@pytest.fixture(scope="module")
def pretrained(golden: Path) -> Golden:
    return read(golden / "recformer_pretrain.safetensors")


@pytest.mark.golden
def test_histories_are_laid_out_as_released(tuned: Golden) -> None:
    text, batch = laid_out(json.loads(tuned.args["histories"]), tuned.args), tuned.group("batch.")
    width = batch["input_ids"].size(1)
    assert torch.equal(text.ids[:, :width], batch["input_ids"])
    assert torch.equal(text.types[:, :width], batch["token_type_ids"])
    assert torch.equal(text.places[:, :width], batch["item_position_ids"])
    assert torch.equal(text.real[:, :width].long(), batch["attention_mask"])


@pytest.mark.golden
def test_states_are_those_released(tuned: Golden) -> None:
    encoder, text = build(tuned, head=False).encoder, laid_out(json.loads(tuned.args["histories"]), tuned.args)
    real, width = tuned.tensors["batch.attention_mask"].bool(), tuned.tensors["batch.input_ids"].size(1)
    embedded = encoder.longformer.embeddings(
        inputs_embeds=encoder.words(text), token_type_ids=text.types, position_ids=encoder.positions(text.real)
    )
    assert_same(embedded[:, :width][real], tuned.tensors["out.embedding"][real])
    assert_same(encoder(text)[:, :width][real], tuned.tensors["out.last_hidden"][real])


@pytest.mark.golden
def test_fine_tuning_and_its_gradients_are_those_released(tuned: Golden) -> None:
    both = build(tuned, head=False)
    items = both.encoder(laid_out([[i] for i in range(tuned.args["item_num"])], tuned.args))[:, 0].detach()
    assert_same(items, tuned.tensors["out.item_vectors"])
    pooled = both.encoder(laid_out(json.loads(tuned.args["histories"]), tuned.args))[:, 0]
    scores = F.normalize(pooled, dim=1) @ F.normalize(items, dim=1).T / tuned.args["temp"]
    assert_same(scores, tuned.tensors["out.scores"])
    F.cross_entropy(scores, tuned.tensors["batch.labels"]).backward()  # type: ignore[no-untyped-call]
    assert_same_gradients(both, ours(tuned.group("grad.")))


@pytest.mark.golden
def test_pretraining_and_its_gradients_are_those_released(pretrained: Golden) -> None:
    both = build(pretrained, head=True)
    assert both.head is not None
    sides = [both.encoder(given(pretrained, side))[:, 0] for side in ("_a", "_b")]
    contrast = contrastive_loss(sides[0], sides[1], pretrained.args["temp"])
    assert_same(contrast, pretrained.tensors["out.loss_contrastive"])
    losses = []
    for side in ("_a", "_b"):
        labels = pretrained.tensors[f"batch.mlm_labels{side}"]
        hidden = given(pretrained, side, "mlm_input_ids")
        labels = F.pad(labels, (0, hidden.ids.size(1) - labels.size(1)), value=-100)
        losses.append(both.head.loss(both.encoder(hidden), labels, labels != -100))
        assert_same(losses[-1], pretrained.tensors[f"out.loss_mlm{side}"])
    loss = contrast + pretrained.args["mlm_weight"] * (losses[0] + losses[1])
    assert_same(loss, pretrained.tensors["out.loss"])
    loss.backward()
    assert_same_gradients(both, ours(pretrained.group("grad.")))
