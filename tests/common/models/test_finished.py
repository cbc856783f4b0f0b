"""A finished run gives back its model, or says why it cannot."""

from pathlib import Path

import lightning as L
import pytest
import torch

from common.errors import UserError
from common.models.finished import WEIGHTS, finished_model
from common.models.sasrec import SASRec


@pytest.fixture
def run(tmp_path: Path) -> Path:
    torch.manual_seed(5)
    trainer = L.Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu")
    trainer.strategy.connect(SASRec(12, max_history=4, width=6, num_blocks=1, variant="allmrec"))
    trainer.save_checkpoint(tmp_path / WEIGHTS)
    return tmp_path


def test_the_model_comes_back_with_its_arguments_and_weights(run: Path) -> None:
    model = finished_model(run)
    torch.manual_seed(5)
    same = SASRec(12, max_history=4, width=6, num_blocks=1, variant="allmrec")
    assert isinstance(model, SASRec)
    assert not model.training
    torch.testing.assert_close(model.state_dict(), same.state_dict(), rtol=0, atol=0)


def test_arguments_can_be_replaced(run: Path) -> None:
    assert finished_model(run, lr=0.5).lr == 0.5


def test_folders_without_a_model_are_told(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no finished run"):
        finished_model(tmp_path / "nowhere")
    content = torch.load(run / WEIGHTS, weights_only=True)
    torch.save(content | {"model": "Unheard"}, run / WEIGHTS)
    with pytest.raises(UserError, match="'Unheard', which is unknown"):
        finished_model(run)
    (run / WEIGHTS).write_bytes(b"no checkpoint")
    with pytest.raises(UserError, match="is not a checkpoint, or is damaged"):
        finished_model(run)
