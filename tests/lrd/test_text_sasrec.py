"""SASRec on items that carry their texts."""

from contextlib import nullcontext
from typing import cast
from unittest.mock import MagicMock

import pytest
import torch
from torch import Tensor

from common.models.sasrec import SASRec
from common.types import SequenceBatch
from lrd.entities import TextItemEmbedding
from lrd.text_sasrec import TextSASRec
from tests.common.models import toy
from tests.lrd.texts import catalogue


def test_sasrec_with_text_is_sasrec_on_those_vectors() -> None:
    model = TextSASRec(toy.NUM_ITEMS, 5, max_history=toy.MAX_HISTORY, width=8, num_heads=2)
    model.attach(catalogue())
    plain = SASRec(toy.NUM_ITEMS, toy.MAX_HISTORY, "lrd", 8, num_blocks=1, num_heads=2, dropout=0.0)
    state = {name: value for name, value in model.state_dict().items() if "project" not in name}
    plain.load_state_dict(state | {"item_embedding.weight": model.item_embedding.table()}, strict=False)
    batch = toy.full_batch()
    with torch.inference_mode():
        known = model.train_count > 0 if model.train_count is not None else None
        scores, expected = model.eval().score_catalogue(batch), plain.eval().score_catalogue(batch)
    torch.testing.assert_close(scores[:, known], expected[:, known])


def test_it_is_rebuilt_from_its_hyperparameters() -> None:
    model = TextSASRec(toy.NUM_ITEMS, 5, max_history=toy.MAX_HISTORY, width=8, num_heads=2)
    again = TextSASRec(**model.hparams)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.item_embedding.table(), model.item_embedding.table())


def test_texts_are_projected_once_per_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    model = TextSASRec(toy.NUM_ITEMS, 5, max_history=toy.MAX_HISTORY, width=8, num_heads=2)
    model.attach(catalogue())
    made = MagicMock(side_effect=TextItemEmbedding._make, autospec=True)
    monkeypatch.setattr(TextItemEmbedding, "_make", lambda self: made(self))
    with torch.inference_mode():
        model.eval().score(toy.sampled_batch())
        model.score_catalogue(toy.full_batch())
    assert made.call_count == 2


@pytest.mark.parametrize("num_negatives", [1, 3])
def test_a_step_projects_its_own_texts_and_learns_what_the_whole_table_teaches(num_negatives: int) -> None:
    model = TextSASRec(toy.NUM_ITEMS, 5, max_history=toy.MAX_HISTORY, width=8, num_heads=2)
    model.attach(catalogue())
    vectors, projected = model.item_embedding, list[int]()
    assert isinstance(vectors, TextItemEmbedding)
    vectors.project.register_forward_hook(lambda module, given, made: projected.append(len(made)))
    whole = next(toy.prefix_batches(num_negatives))
    batch = cast(SequenceBatch, {name: value[:2] for name, value in whole.items()})  # type: ignore[index]  # all are tensors
    gradients: list[dict[str, Tensor | None]] = []
    for loss in (model.loss, super(TextSASRec, model).loss):
        model.zero_grad()
        with vectors.made_once() if gradients else nullcontext():
            loss(batch)["loss"].backward()
        gradients.append({name: value.grad for name, value in model.named_parameters()})
    assert projected[0] <= 1 + batch["history"].count_nonzero() + 2 * (1 + num_negatives)
    assert projected[1] == toy.NUM_ITEMS + 1
    torch.testing.assert_close(gradients[0], gradients[1])


def test_the_softmax_reads_the_whole_catalogue() -> None:
    model = TextSASRec(toy.NUM_ITEMS, 5, max_history=toy.MAX_HISTORY, width=8, num_heads=2, objective="ce")
    model.attach(catalogue())
    batch = next(toy.prefix_batches())
    del batch["negatives"]
    model.loss(batch)["loss"].backward()
    assert bool(model.item_embedding.weight.grad[1:].any(1).all())  # type: ignore[index]


def test_projection_learns() -> None:
    model = TextSASRec(toy.NUM_ITEMS, 5, max_history=toy.MAX_HISTORY, width=8, num_heads=2)
    model.attach(catalogue())
    model.loss(next(toy.prefix_batches()))["loss"].backward()
    assert isinstance(model.item_embedding, TextItemEmbedding)
    assert model.item_embedding.project.weight.grad is not None
    assert model.item_embedding.project.weight.grad.abs().sum() > 0
