"""What is halved where a batch does not fit into memory, and what is told where that is of no use."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import torch
from jsonargparse import Namespace

from benchmarks.__main__ import main
from benchmarks.memory import ROWS, halve_as, halve_batch
from benchmarks.runs import find_runs, read_result
from common.errors import UserError
from common.models.base import Recommender
from common.models.sasrec import SASRec
from common.types import SequenceBatch
from tests.benchmarks.conftest import options

Loss: TypeAlias = Callable[[SASRec, SequenceBatch], dict[str, torch.Tensor]]


def settings(**sizes: int | None) -> Any:  # noqa: ANN401 (as parsed)
    space: Any = Namespace
    trainer = space(accumulate_grad_batches=1, val_check_interval=None, limit_train_batches=None)
    return space(data=space(init_args=space(**sizes)), trainer=trainer)


def test_a_step_reads_as_many_rows_and_triplets_as_before() -> None:
    config = settings(batch_size=64, triplet_batch_size=24)
    halve_as(config, {ROWS: "16"})
    sizes = vars(config.data.init_args)
    assert config.trainer.accumulate_grad_batches == 4
    assert sizes == {"batch_size": 16, "triplet_batch_size": 6}


@pytest.mark.parametrize("sizes", [{"batch_size": 8}, {"batch_size": 8, "triplet_batch_size": None}])
def test_triplets_are_as_many_as_rows_where_no_number_is_given(sizes: dict[str, int | None]) -> None:
    config = settings(**sizes)
    halve_batch(config)
    assert vars(config.data.init_args) == sizes | {"batch_size": 4}


@pytest.mark.parametrize(("rows", "triplets", "said"), [(7, 8, "7 rows"), (8, 7, "7 triplets")])
def test_an_odd_number_is_refused_and_nothing_halved(rows: int, triplets: int, said: str) -> None:
    config = settings(batch_size=rows, triplet_batch_size=triplets)
    with pytest.raises(UserError, match=f"batches of {said} cannot be halved"):
        halve_batch(config)
    assert vars(config.data.init_args) == {"batch_size": rows, "triplet_batch_size": triplets}


def only(runs: Path) -> Path:
    (folder,) = find_runs([runs])
    return folder


def with_room(most: int, rows: list[int], whole: Loss) -> Loss:
    """A loss that notes the rows of each batch, and has memory for only so many."""

    def loss(self: SASRec, batch: SequenceBatch) -> dict[str, torch.Tensor]:
        rows.append(len(batch["history"]))
        if rows[-1] > most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return whole(self, batch)

    return loss


def run_and_resume(monkeypatch: pytest.MonkeyPatch, run: list[str], first: Loss, second: Loss) -> None:
    """Runs with a loss that is interrupted, and goes on with another."""
    monkeypatch.setattr(SASRec, "loss", first)
    assert main(run) == 1
    monkeypatch.setattr(SASRec, "loss", second)
    assert main([*run, "--ckpt_path=last"]) == 0


def test_a_batch_that_does_not_fit_is_halved_and_a_step_stays_what_it_was(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows: list[int] = []
    monkeypatch.setattr(SASRec, "loss", with_room(8, rows, SASRec.loss))
    few = ["--trainer.max_epochs=1", "--trainer.limit_train_batches=2", "--model.width=8", "--data.batch_size=32"]
    assert main(["run", "--config", "synthetic/sasrec", *options(root, tmp_path, *few)]) == 0
    assert "4 batches of 8 rows are one step" in capsys.readouterr().err
    assert rows[:3] == [32, 16, 8]
    # 60 users are two steps of up to 32.
    training = read_result(only(tmp_path)).training
    assert (training["steps"], training["batches_a_step"]) == (2, 4)


def test_a_training_whose_batches_were_halved_goes_on_with_these(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = SASRec.loss
    rows: list[int] = []

    def interrupted(self: SASRec, batch: SequenceBatch) -> dict[str, torch.Tensor]:
        if self.current_epoch == 1:
            raise KeyboardInterrupt
        return whole(self, batch)

    run = ["run", "--config", "synthetic/sasrec", *options(root, tmp_path, "--trainer.max_epochs=2")]
    run += ["--model.width=8", "--data.batch_size=32"]
    run_and_resume(monkeypatch, run, with_room(16, [], interrupted), with_room(32, rows, whole))
    assert max(rows) == 16
    training = read_result(only(tmp_path)).training
    assert (training["epochs"], training["batches_a_step"]) == (2, 2)


def test_an_epoch_whose_batches_are_halved_after_an_interruption_reads_each_row_once(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = SASRec.loss
    read: list[int] = []

    def interrupted(self: SASRec, batch: SequenceBatch) -> dict[str, torch.Tensor]:
        if len(read) == 32:
            raise KeyboardInterrupt
        return noted(self, batch)

    def noted(self: SASRec, batch: SequenceBatch) -> dict[str, torch.Tensor]:
        if self.current_epoch == 0:
            read.extend(batch["user_id"].tolist())
        return whole(self, batch)

    run = ["run", "--config", "synthetic/sasrec", *options(root, tmp_path, "--trainer.max_epochs=2")]
    run += ["--model.width=8", "--data.batch_size=16", "--trainer.val_check_interval=2"]
    run_and_resume(monkeypatch, run, interrupted, with_room(8, [], noted))
    assert sorted(read) == list(range(1, 61))
    training = read_result(only(tmp_path)).training
    # 60 users are four steps of up to 16.
    assert (training["steps"], training["batches_a_step"]) == (8, 2)


def test_a_row_that_does_not_fit_is_told(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def starved(self: SASRec, batch: SequenceBatch) -> dict[str, torch.Tensor]:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(SASRec, "loss", starved)
    assert main(["run", "--config", "synthetic/sasrec", *options(root, tmp_path, "--data.batch_size=6")]) == 2
    assert "batches of 3 rows cannot be halved" in capsys.readouterr().err


@pytest.mark.parametrize("method", ["sasrec", "popularity"])
def test_a_model_that_does_not_fit_is_built_once(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], method: str
) -> None:
    moved: list[Recommender] = []

    def starved(self: Recommender, stage: str) -> None:
        moved.append(self)
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(Recommender, "setup", starved)
    assert main(["run", "--config", f"synthetic/{method}", *options(root, tmp_path, "--data.batch_size=6")]) == 2
    assert "the model does not fit, whatever its batches" in capsys.readouterr().err
    assert len(moved) == 1


@pytest.mark.parametrize(
    ("stage", "said"), [("validating", "not even one row"), ("testing", "continue with --ckpt_path last")]
)
def test_an_evaluation_that_does_not_fit_is_told_and_trains_nothing_again(
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    stage: str,
    said: str,
) -> None:
    score, begun = SASRec.score_catalogue, []

    def starved(self: SASRec, batch: SequenceBatch) -> torch.Tensor:
        if getattr(self.trainer, stage):
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return score(self, batch)

    monkeypatch.setattr(SASRec, "score_catalogue", starved)
    monkeypatch.setattr(SASRec, "on_fit_start", lambda self: begun.append(self))
    few = ["--trainer.max_epochs=1", "--model.width=8"]
    assert main(["run", "--config", "synthetic/sasrec", *options(root, tmp_path, *few)]) == 2
    assert said in capsys.readouterr().err
    assert len(begun) == 1
