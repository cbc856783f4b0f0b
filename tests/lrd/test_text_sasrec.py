"""SASRec on items that carry their texts."""

from unittest.mock import MagicMock

import pytest
import torch

from common.models.sasrec import SASRec
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


def test_projection_learns() -> None:
    model = TextSASRec(toy.NUM_ITEMS, 5, max_history=toy.MAX_HISTORY, width=8, num_heads=2)
    model.attach(catalogue())
    model.loss(next(toy.prefix_batches()))["loss"].backward()
    assert isinstance(model.item_embedding, TextItemEmbedding)
    assert model.item_embedding.project.weight.grad is not None
    assert model.item_embedding.project.weight.grad.abs().sum() > 0
