"""A finished run gives back its model, or says why it cannot."""

from pathlib import Path

import lightning as L
import pytest
import torch

from common.errors import UserError
from common.models.finished import WEIGHTS, finished_model
from common.models.sasrec import SASRec


class Second(SASRec):
    """Is made from another run, which its checkpoint does not name."""

    def __init__(self, first: str, num_items: int = 12) -> None:
        super().__init__(num_items, max_history=4, width=6, num_blocks=1, variant="allmrec")


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


def test_a_model_made_from_other_runs_is_refused_where_one_by_itself_is_expected(run: Path) -> None:
    content = torch.load(run / WEIGHTS, weights_only=True)
    torch.save(content | {"model": "Second", "hyper_parameters": {"num_items": 12}}, run / WEIGHTS)
    with pytest.raises(UserError, match=rf"{run} is a run of Second, .*\(first\).*trained by itself.*\n.*SASRec"):
        finished_model(run)
    assert isinstance(finished_model(run, first="RUN"), Second)


def test_a_model_by_itself_is_refused_where_one_made_from_other_runs_is_expected(run: Path) -> None:
    with pytest.raises(UserError, match=f"{run} is a run of SASRec, where a model made with first is expected"):
        finished_model(run, first="RUN")
