import lightning as L
import pytest
import torch

from common.errors import UserError
from common.models.floors import Popularity
from tests.common.models import toy


def test_fit_ends_before_its_first_step() -> None:
    model = Popularity(toy.NUM_ITEMS)
    model.attach(toy.catalogue())
    batches = toy.loader(*[toy.full_batch()] * 3)
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=5,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, batches, batches)
    assert trainer.global_step == 0
    assert trainer.current_epoch <= 1


def test_there_is_no_loss() -> None:
    with pytest.raises(UserError, match="nothing to train"):
        Popularity(3).loss(toy.full_batch())


def test_candidates_are_scored_as_in_the_catalogue() -> None:
    model = Popularity(toy.NUM_ITEMS)
    model.attach(toy.catalogue())
    batch = toy.sampled_batch()
    counts = toy.catalogue()["train_count"].float()
    assert torch.equal(model.score(batch), counts[batch["candidates"]])
