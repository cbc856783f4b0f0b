"""Runs that end before their last stage are refused."""

import math
import subprocess
import sys
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping

from allmrec.baselines.recformer import RecFormer
from allmrec.baselines.stages import require_budget, require_patience, warmed
from common.errors import UserError
from tests.allmrec.baselines.train_ddp import small
from tests.common.models import toy


def trainer(patience: int = 3, **options: Any) -> L.Trainer:  # noqa: ANN401
    stop = EarlyStopping("val/ndcg@10", patience=patience)
    return L.Trainer(callbacks=[stop], accelerator="cpu", logger=False, enable_checkpointing=False, **options)


@pytest.mark.parametrize("options", [{"patience": 4}, {"patience": 2, "check_val_every_n_epoch": 2}])
def test_one_more_validation_of_patience_makes_a_run_long_enough(options: dict[str, int]) -> None:
    with pytest.raises(UserError, match="early stopping may end the run"):
        require_patience(trainer(max_epochs=9, **options), "align_epochs", 4)
    longer = options | {"patience": options["patience"] + 1}
    require_patience(trainer(max_epochs=9, **longer), "align_epochs", 4)


@pytest.mark.parametrize(
    "options",
    [
        {"val_check_interval": 0.1},
        {"val_check_interval": 5},
        {"val_check_interval": 5, "check_val_every_n_epoch": None},
    ],
)
def test_validations_within_an_epoch_use_up_patience(options: dict[str, Any]) -> None:
    brief, long = (trainer(patience, max_epochs=9, **options) for patience in (40, 41))
    for runner in (brief, long):
        runner.fit_loop.max_batches = 50
    with pytest.raises(UserError, match="may end the run 4 epochs after its first validation") as mistake:
        require_patience(brief, "align_epochs", 4)
    assert "patience above 40" in str(mistake.value)
    require_patience(long, "align_epochs", 4)


def test_a_trial_of_one_batch_needs_no_patience() -> None:
    brief = trainer(patience=1, fast_dev_run=True)
    require_patience(brief, "align_epochs", 4)
    require_budget(brief, "align_epochs", 4)
    assert brief.max_epochs == 1


def test_early_stopping_before_the_last_stage_is_refused() -> None:
    with pytest.raises(UserError, match="align_epochs is 4") as mistake:
        require_patience(trainer(patience=4, max_epochs=9), "align_epochs", 4)
    assert "patience above 4" in str(mistake.value)


def test_a_budget_that_ends_before_the_last_stage_is_refused() -> None:
    with pytest.raises(UserError, match="ends after epoch 4"):
        require_budget(trainer(max_epochs=4), "align_epochs", 4)
    require_budget(trainer(max_epochs=5), "align_epochs", 4)


def test_steps_count_as_epochs_do() -> None:
    brief = trainer(max_steps=8)
    brief.fit_loop.max_batches = 2
    with pytest.raises(UserError, match="ends after step 8"):
        require_budget(brief, "align_epochs", 4)
    require_budget(brief, "align_epochs", 3)


def test_rates_rise_and_fall() -> None:
    assert [warmed(step, 6, 2) for step in range(6)] == [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]
    assert warmed(99, math.inf, 2) == 1.0


@pytest.mark.parametrize("method", ["morec", "ctrl", "recformer"])
def test_methods_refuse_a_run_without_their_last_stage(sbert: str, method: str) -> None:
    model = small(method, sbert)
    model.attach(toy.catalogue())
    with pytest.raises(UserError, match="_epochs last until epoch 1, but training ends after epoch 1"):
        trainer(max_epochs=1).fit(model, toy.loader(next(toy.sequence_batches())))


@pytest.mark.parametrize(("pretrain_epochs", "refused"), [(1, True), (0, False)])
def test_a_budget_that_ends_before_the_matrix_stays_is_refused(pretrain_epochs: int, refused: bool) -> None:
    sizes: dict[str, Any] = {"window": 4, "width": 16, "layers": 1, "heads": 2, "vocabulary": 320}
    model = RecFormer(toy.NUM_ITEMS, 8, None, ("title",), pretrain_epochs=pretrain_epochs, refresh_epochs=2, **sizes)
    model.attach(toy.catalogue())
    brief, batch = trainer(patience=2, max_epochs=3), next(toy.sequence_batches())
    with pytest.raises(UserError, match="refresh_epochs last until epoch 3") if refused else nullcontext():
        brief.fit(model, toy.loader(batch), toy.loader(toy.full_batch()))


@pytest.fixture(scope="module")
def trained(sbert: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What each of two processes has after each epoch of each method."""
    folder = tmp_path_factory.mktemp("ddp")
    script = Path(__file__).with_name("train_ddp.py")
    subprocess.run([sys.executable, script, folder, sbert], check=True, timeout=200, capture_output=True)
    return folder


@pytest.mark.parametrize(
    ("method", "only_early", "only_late"),
    [
        ("morec", "none", "item_embedding.tower."),
        ("ctrl", "alignment.", "final."),
        ("recformer", "word_head.", "none"),
    ],
)
def test_two_processes_have_one_model_through_all_stages(
    trained: Path, method: str, only_early: str, only_late: str
) -> None:
    one, two = (torch.load(trained / f"{method}-{rank}.pt", weights_only=True) for rank in (0, 1))
    assert len(one) == 3
    for here, there in zip(one, two, strict=True):
        assert all(torch.equal(there[name], value) for name, value in here.items())
    moved = [{name for name in before if not torch.equal(before[name], after[name])} for before, after in pairwise(one)]
    assert [any(name.startswith(only_late) for name in names) for names in moved] == [only_late != "none"] * 2
    assert not any(name.startswith(only_early) for names in moved for name in names)
