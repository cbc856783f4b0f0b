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

from allmrec.baselines.recformer import RecFormer
from allmrec.baselines.recformer_encoder import RecFormerEncoder, WordHead
from allmrec.baselines.recformer_text import KEY, VALUE, Layout, Pieces, Text, joined, lay_out, train_tokenizer
from common.types import SequenceBatch
from tests.parity.golden import Golden, assert_same, assert_same_gradients, read

ITEM_PLACES = "longformer.embeddings.item_position_embeddings.weight"
SIDES = ("_a", "_b")
"""Histories and their next items."""


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


def histories(rows: list[list[int]]) -> Tensor:
    """Our items of the file's, padded on the left."""
    width = max(map(len, rows))
    return torch.tensor([[0] * (width - len(row)) + [item + 1 for item in row] for row in rows])


def layout(args: dict[str, Any]) -> Layout:
    plain = Layout(args["bos_token_id"], args["pad_token_id"], args["max_item_embeddings"] - 1, args["max_token_num"])
    return plain._replace(multiple=max(args["attention_window"]))


def laid_out(args: dict[str, Any]) -> Text:
    return lay_out(histories(json.loads(args["histories"])), known(args), layout(args))


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
    text, batch = laid_out(tuned.args), tuned.group("batch.")
    width = batch["input_ids"].size(1)
    assert torch.equal(text.ids[:, :width], batch["input_ids"])
    assert torch.equal(text.types[:, :width], batch["token_type_ids"])
    assert torch.equal(text.places[:, :width], batch["item_position_ids"])
    assert torch.equal(text.real[:, :width].long(), batch["attention_mask"])


@pytest.mark.golden
def test_states_are_those_released(tuned: Golden) -> None:
    encoder, text = build(tuned, head=False).encoder, laid_out(tuned.args)
    real, width = tuned.tensors["batch.attention_mask"].bool(), tuned.tensors["batch.input_ids"].size(1)
    embedded = encoder.longformer.embeddings(
        inputs_embeds=encoder.words(text), token_type_ids=text.types, position_ids=encoder.positions(text.real)
    )
    assert_same(embedded[:, :width][real], tuned.tensors["out.embedding"][real])
    assert_same(encoder(text)[:, :width][real], tuned.tensors["out.last_hidden"][real])


def whole(released: Golden, both: Both) -> RecFormer:
    """RecFormer on the file's items, with the file's weights in its encoder and head."""
    args = released.args
    model = RecFormer(
        args["item_num"],
        args["max_item_embeddings"] - 1,
        initial=None,
        max_tokens=args["max_token_num"],
        window=max(args["attention_window"]),
        width=args["hidden_size"],
        heads=args["num_attention_heads"],
        temperature=args["temp"],
        weight_mlm=args["mlm_weight"],
    )
    model.encoder, model.word_head = both.encoder, both.head
    model.tokenizer = train_tokenizer([], 300)
    model.known = known(args)
    model.layout = layout(args)
    return model.double().eval()


@pytest.mark.golden
def test_fine_tuning_and_its_gradients_are_those_released(tuned: Golden) -> None:
    both = build(tuned, head=False)
    model = whole(tuned, both)
    assert_same(model.item_vectors()[1:], tuned.tensors["out.item_vectors"])
    batch: SequenceBatch = {"history": histories(json.loads(tuned.args["histories"]))}
    with torch.no_grad():
        assert_same(model.score_catalogue(batch)[:, 1:], tuned.tensors["out.scores"])
    loss = model.loss({**batch, "targets": tuned.tensors["batch.labels"][:, None] + 1})["loss"]
    assert_same(loss.detach(), tuned.tensors["out.loss"])
    loss.backward()
    assert_same_gradients(both, ours(tuned.group("grad.")))


@pytest.mark.golden
def test_pretraining_and_its_gradients_are_those_released(pretrained: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    both = build(pretrained, head=True)
    model = whole(pretrained, both)
    labels = [pretrained.tensors[f"batch.mlm_labels{side}"] for side in SIDES]
    hidden = [given(pretrained, side, "mlm_input_ids") for side in SIDES]
    wanted = [F.pad(a, (0, b.ids.size(1) - a.size(1)), value=-100) != -100 for a, b in zip(labels, hidden, strict=True)]
    words = iter(zip(hidden, wanted, strict=True))
    monkeypatch.setattr("allmrec.baselines.recformer.masked", lambda *text: next(words))
    pasts, targets = (histories(json.loads(pretrained.args[f"histories{side}"])) for side in SIDES)
    losses = model.pretraining_loss(model.text(pasts), model.text(targets), targets[:, 0])
    assert_same(losses["loss_contrast"].detach(), pretrained.tensors["out.loss_contrastive"])
    both_sides = torch.stack([pretrained.tensors[f"out.loss_mlm{side}"] for side in SIDES])
    assert_same(losses["loss_words"].detach(), both_sides.sum())
    assert_same(losses["loss"].detach(), pretrained.tensors["out.loss"])
    losses["loss"].backward()
    assert_same_gradients(both, ours(pretrained.group("grad.")))
