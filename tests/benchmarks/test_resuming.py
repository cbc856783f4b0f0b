"""An interrupted run says how to go on, and goes on as if it had not been interrupted."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import polars as pl
import pytest
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException
from polars.testing import assert_frame_equal

from benchmarks.__main__ import main
from benchmarks.callbacks import NoiseSeed
from benchmarks.loggers.metrics import MetricsFile
from benchmarks.runs import read_result
from common.models.sasrec import SASRec
from common.types import SequenceBatch
from tests.benchmarks.conftest import options
from tests.benchmarks.outside import weights


def only(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def test_resumed_training_ends_with_the_weights_of_an_unbroken_one(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = options(root, tmp_path / "whole", "--trainer.max_epochs=4", "--model.width=8")
    assert main(["run", "--config", "synthetic/sasrec", *whole]) == 0

    def interrupt(self: SASRec) -> None:
        if self.current_epoch == 2:
            raise KeyboardInterrupt

    parts = options(root, tmp_path / "parts", "--trainer.max_epochs=4", "--model.width=8")
    with monkeypatch.context() as patch:
        patch.setattr(SASRec, "on_train_epoch_start", interrupt, raising=False)
        assert main(["run", "--config", "synthetic/sasrec", *parts]) == 1
    folder = only(tmp_path / "parts" / "synthetic" / "sasrec")
    assert not (folder / "result.json").exists()
    assert main(["run", "--config", "synthetic/sasrec", "--ckpt_path=last", *parts]) == 0
    expected = weights(only(tmp_path / "whole" / "synthetic" / "sasrec"))
    for name, value in weights(folder).items():
        assert torch.equal(value, expected[name]), name
    assert read_result(folder).training["epochs"] == 4
    # Learning curves are whole, too.
    logged = [
        pl.read_csv(only(tmp_path / part / "synthetic" / "sasrec") / "metrics.csv") for part in ("whole", "parts")
    ]
    assert logged[0].drop_nulls("val/ndcg@10")["epoch"].to_list() == [0, 1, 2, 3]
    assert_frame_equal(*(table.sort("step", "epoch", nulls_last=True) for table in logged), check_column_order=False)


def test_a_run_killed_in_its_test_is_trained_no_further(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The second epoch unlearns, and those behind it would be better than the first.
    def turned(self: SASRec, batch: SequenceBatch) -> dict[str, torch.Tensor]:
        return {"loss": loss(self, batch)["loss"] * (-1 if self.current_epoch == 1 else 1)}

    def interrupt(self: SASRec) -> None:
        raise KeyboardInterrupt

    loss = SASRec.loss
    monkeypatch.setattr(SASRec, "loss", turned)
    config = ["run", "--config", "synthetic/sasrec", "--model.width=8", "--model.lr=0.01"]
    config += ["--trainer.max_epochs=9", "--early_stopping.patience=1", "--early_stopping.monitor=val/mrr"]
    whole, parts = (options(root, tmp_path / name) for name in ("whole", "parts"))
    assert main([*config, *whole]) == 0
    with monkeypatch.context() as patch:
        patch.setattr(SASRec, "on_test_start", interrupt)
        assert main([*config, *parts]) == 1
    assert main([*config, *parts, "--ckpt_path=last"]) == 0
    unbroken, resumed = (only(tmp_path / name / "synthetic" / "sasrec") for name in ("whole", "parts"))
    assert read_result(unbroken).training["stopped"] == "early_stopping"
    assert read_result(resumed).training == read_result(unbroken).training


def before_batch(number: int) -> Callable[..., None]:
    """What seeds a batch, but interrupts the run at one of them, counted over epochs."""
    seed = NoiseSeed.on_train_batch_start

    def interrupt(noise: NoiseSeed, trainer: L.Trainer, *rest: Any) -> None:  # noqa: ANN401
        if trainer.fit_loop.epoch_loop.total_batch_idx == number:
            raise KeyboardInterrupt
        seed(noise, trainer, *rest)

    return interrupt


WITHIN = ["--trainer.val_check_interval=3", "--trainer.check_val_every_n_epoch=null", "--trainer.max_epochs=-1"]


@pytest.mark.parametrize(
    ("changes", "batch"),
    [
        # From step 3, within the first of two epochs, the second of which is cut off.
        ([*WITHIN, "--data.batch_size=8", "--trainer.max_steps=10"], 5),
        # Within step 2, of whose two batches one is behind it.
        ([*WITHIN, "--trainer.accumulate_grad_batches=2", "--trainer.max_steps=3"], 3),
        # Behind the first epoch, and behind the second, whose successor is cut off and not validated.
        (["--trainer.max_steps=10"], 5),
        (["--trainer.max_steps=10"], 9),
    ],
)
def test_training_resumed_anywhere_ends_with_the_weights_of_an_unbroken_one(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: list[str], batch: int
) -> None:
    run = ["run", "--config", "synthetic/sasrec", "--model.width=8", "--data.batch_size=16", *changes]
    whole, parts = (options(root, tmp_path / name) for name in ("whole", "parts"))
    assert main([*run, *whole]) == 0
    with monkeypatch.context() as patch:
        patch.setattr(NoiseSeed, "on_train_batch_start", before_batch(batch))
        assert main([*run, *parts]) == 1
    assert main([*run, *parts, "--ckpt_path=last"]) == 0
    unbroken, resumed = (only(tmp_path / name / "synthetic" / "sasrec") for name in ("whole", "parts"))
    assert read_result(resumed).training == read_result(unbroken).training
    expected = weights(unbroken)
    for name, value in weights(resumed).items():
        assert torch.equal(value, expected[name]), name


def test_an_epoch_that_a_limit_cut_off_goes_on_under_a_higher_one(root: Path, tmp_path: Path) -> None:
    run = ["run", "--config", "synthetic/sasrec", "--model.width=8", "--data.batch_size=16"]
    assert main([*run, "--trainer.max_steps=10", *options(root, tmp_path / "whole")]) == 0
    assert main([*run, "--trainer.max_steps=6", *options(root, tmp_path / "short")]) == 0
    whole, short = (only(tmp_path / name / "synthetic" / "sasrec") for name in ("whole", "short"))
    again = [*run, "--trainer.max_steps=10", *options(root, tmp_path / "long"), f"--ckpt_path={short / 'last.ckpt'}"]
    assert main(again) == 0
    long = only(tmp_path / "long" / "synthetic" / "sasrec")
    assert read_result(long).training == read_result(whole).training
    expected = weights(whole)
    for name, value in weights(long).items():
        assert torch.equal(value, expected[name]), name


def test_a_run_killed_in_its_test_has_as_many_epochs_as_its_steps_took(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(self: SASRec) -> None:
        raise KeyboardInterrupt

    run = ["run", "--config", "synthetic/sasrec", "--model.width=8", "--data.batch_size=16", "--trainer.max_steps=6"]
    run += options(root, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(SASRec, "on_test_start", interrupt)
        assert main(run) == 1
    assert main([*run, "--ckpt_path=last"]) == 0
    training = read_result(only(tmp_path / "synthetic" / "sasrec")).training
    assert (training["steps"], training["epochs"]) == (6, 2)


@pytest.mark.parametrize("elsewhere", ["moved", "longer"])
def test_a_run_resumed_elsewhere_tests_the_best_epoch_before_its_interruption(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, elsewhere: str
) -> None:
    # The first epochs unlearn, and one of them stays the best, because the lowest figure is.
    def turned(self: SASRec, batch: SequenceBatch) -> dict[str, torch.Tensor]:
        return {"loss": loss(self, batch)["loss"] * (1 if self.current_epoch > 1 else -1)}

    loss = SASRec.loss
    monkeypatch.setattr(SASRec, "loss", turned)
    config = ["run", "--config", "synthetic/sasrec", "--model.width=8", "--early_stopping.mode=min"]
    assert main([*config, *options(root, tmp_path / "whole", "--trainer.max_epochs=4")]) == 0
    whole = only(tmp_path / "whole" / "synthetic" / "sasrec")
    assert read_result(whole).training["best_epoch"] <= 1
    if elsewhere == "moved":

        def interrupt(self: SASRec) -> None:
            if self.current_epoch == 2:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(SASRec, "on_train_epoch_start", interrupt, raising=False)
            assert main([*config, *options(root, tmp_path / "old", "--trainer.max_epochs=4")]) == 1
        (tmp_path / "old").rename(tmp_path / "new")
        checkpoint = "last"
    else:
        assert main([*config, *options(root, tmp_path / "old", "--trainer.max_epochs=2")]) == 0
        checkpoint = str(only(tmp_path / "old" / "synthetic" / "sasrec") / "last.ckpt")
    again = options(root, tmp_path / "new", "--trainer.max_epochs=4")
    assert main([*config, *again, f"--ckpt_path={checkpoint}"]) == 0
    resumed = only(tmp_path / "new" / "synthetic" / "sasrec")
    assert read_result(resumed).training == read_result(whole).training
    assert read_result(resumed).metrics == read_result(whole).metrics
    curves = [pl.read_csv(run / "metrics.csv").drop_nulls("val/ndcg@10")["epoch"].to_list() for run in (whole, resumed)]
    assert curves[0] == curves[1] == [0, 1, 2, 3]


def test_curves_survive_a_resumed_run_that_logs_nothing(tmp_path: Path) -> None:
    first = MetricsFile(tmp_path)
    for step in range(4):
        first.log_metrics({"a": step / 2}, step)
    before = pl.read_csv(tmp_path / "metrics.csv")
    # As Lightning does when training begins.
    again = MetricsFile(tmp_path, tmp_path)
    assert again.experiment is not None
    assert pl.read_csv(tmp_path / "metrics.csv").equals(before)
    again.log_metrics({"a": 9.0}, 2)
    assert pl.read_csv(tmp_path / "metrics.csv")["a"].to_list() == [0.0, 0.5, 9.0]


@pytest.mark.parametrize("torn", ["2", "2,"])
def test_curves_go_on_behind_a_line_that_was_cut(tmp_path: Path, torn: str) -> None:
    (tmp_path / "metrics.csv").write_text(f"epoch,step,train/loss,val/mrr\r\n0,9,0.5,\r\n1,19,0.4,\r\n{torn}")
    MetricsFile(tmp_path, tmp_path).log_metrics({"train/loss": 0.3, "epoch": 2}, 29)
    assert pl.read_csv(tmp_path / "metrics.csv")["step"].to_list() == [9, 19, 29]


@pytest.mark.parametrize("how", [KeyboardInterrupt, SIGTERMException])
def test_an_interrupted_test_is_no_success_and_can_be_repeated(
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    how: type[BaseException],
) -> None:
    run = ["run", "--config", "synthetic/sasrec", "--model.width=8", *options(root, tmp_path, "--trainer.max_epochs=1")]

    def stopped(self: SASRec, batch: SequenceBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        raise how

    with monkeypatch.context() as patch:
        patch.setattr(SASRec, "test_step", stopped)
        assert main(run) == 1
    assert "--ckpt_path last continues it" in capsys.readouterr().err
    assert main([*run, "--ckpt_path=last"]) == 0
    folder = only(tmp_path / "synthetic" / "sasrec")
    with monkeypatch.context() as patch:
        patch.setattr(SASRec, "test_step", stopped)
        assert main(["evaluate", str(folder), "--protocol", "full-unmasked"]) == 1
    assert "nothing was written" in capsys.readouterr().err


def test_interruption_says_how_to_go_on(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(self: SASRec) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(SASRec, "on_train_epoch_start", interrupt, raising=False)
    assert main(["run", "--config", "synthetic/sasrec", *options(root, tmp_path)]) == 1
    assert "starts from scratch" in capsys.readouterr().err
