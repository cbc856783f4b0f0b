"""A run trains, tests once, writes its folder, repeats, resumes, and is left alone once done."""

import csv
import io
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
import torch
import yaml
from lightning.pytorch.callbacks import EarlyStopping

from benchmarks.__main__ import main
from benchmarks.callbacks import AtomicCheckpointIO, RunRecord, training_summary
from benchmarks.environment import forget_peak_memory, peak_memory
from benchmarks.runs import alone, find_runs, read_result
from benchmarks.train import prepare_folder
from common.metrics.functional import ndcg
from common.models.floors import Popularity
from common.models.sasrec import SASRec
from common.types import Catalogue
from tests.benchmarks.conftest import options
from tests.benchmarks.outside import weights


def only(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


class InterruptedFile(io.BytesIO):
    """A file during whose fourth piece the user presses Ctrl-C."""

    pieces = 0

    def write(self, piece: Any) -> int:  # noqa: ANN401
        self.pieces += 1
        if self.pieces == 4:
            raise KeyboardInterrupt
        return super().write(piece)


def test_folder_holds_what_the_protocol_names(finished: Path) -> None:
    names = {path.name for path in finished.iterdir()}
    assert names == {"config.yaml", "result.json", "ranks.parquet", "metrics.csv", "best.ckpt", "last.ckpt"}


def test_result_is_a_birth_certificate(finished: Path) -> None:
    result = read_result(finished)
    assert result.method == "trained"
    assert set(result.protocols) == {"full", "sampled-99"} or set(result.protocols) == {"full"}
    assert result.protocols["full"]["fields"]["selection"] == "full ndcg@10"
    assert result.information_set == ["history", "order", "val_item"]
    assert result.training["stopped"] == "max_epochs"
    assert result.training["epochs"] == 2
    assert result.parameters["trained"] == sum(w.numel() for w in weights(finished).values())
    assert {"torch", "lightning", "python"} <= set(result.environment["versions"])
    assert result.seconds["train"] > 0
    assert result.peak_memory["host"] > 2**20


def test_metrics_derive_from_the_stored_ranks(finished: Path) -> None:
    ranks = pl.read_parquet(finished / "ranks.parquet").filter(pl.col("protocol") == "full")
    higher, equal = (torch.tensor(ranks[name].to_list()) for name in ("higher", "equal"))
    expected = float(ndcg(higher, equal, 10).mean())
    assert read_result(finished).metrics["test/full/overall/ndcg@10"] == pytest.approx(expected, abs=1e-12)
    assert ranks["case_id"].to_list() == list(range(60))


def test_slices_part_the_cases(finished: Path) -> None:
    cases = read_result(finished).cases
    deciles = [cases[f"test/full/popularity_decile_{number}"] for number in range(1, 11)]
    assert sum(deciles) == cases["test/full/overall"] == 60


def test_slices_are_stored_beside_the_ranks(finished: Path) -> None:
    table, cases = pl.read_parquet(finished / "ranks.parquet"), read_result(finished).cases
    stored = {name.removeprefix("slice/") for name in table.columns if name.startswith("slice/")}
    assert stored == {key.split("/")[2] for key in cases} - {"overall"}
    for key, count in cases.items():
        _, protocol, part = key.split("/")
        if part != "overall":
            assert table.filter(pl.col("protocol") == protocol)[f"slice/{part}"].sum() == count


def test_checkpoint_loads_by_lightning_with_weights_only(finished: Path) -> None:
    model = SASRec.load_from_checkpoint(finished / "best.ckpt", weights_only=True)
    assert set(model.hparams) >= {"num_items", "max_history", "width"}
    assert set(model.hparams) <= set(SASRec.__init__.__annotations__)


def test_metrics_file_has_training_and_validation(finished: Path) -> None:
    rows = list(csv.DictReader((finished / "metrics.csv").open()))
    assert sum(bool(row["val/ndcg@10"]) for row in rows) == 2
    assert any(row["test/full/overall/hr@10"] for row in rows)


def test_configuration_repeats_the_run(finished: Path, root: Path, tmp_path: Path) -> None:
    assert main(["run", "--config", str(finished / "config.yaml"), "--runs", str(tmp_path)]) == 0
    again = only(tmp_path / "synthetic" / "trained")
    assert again.name == finished.name
    assert pl.read_parquet(again / "ranks.parquet").equals(pl.read_parquet(finished / "ranks.parquet"))


def test_a_done_run_is_left_alone(finished: Path, root: Path, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (finished / "result.json").stat().st_mtime_ns
    arguments = options(root, runs, "--name=trained", "--trainer.max_epochs=2", "--model.width=8")
    assert main(["run", "--config", "synthetic/sasrec", *arguments]) == 0
    assert "--force" in capsys.readouterr().out
    assert (finished / "result.json").stat().st_mtime_ns == before


def test_seed_changes_the_run_and_not_its_configuration_id(finished: Path, root: Path, tmp_path: Path) -> None:
    arguments = options(root, tmp_path, "--name=trained", "--trainer.max_epochs=2", "--model.width=8")
    assert main(["run", "--config", "synthetic/sasrec", "--seed_everything=7", *arguments]) == 0
    result, other = read_result(only(tmp_path / "synthetic" / "trained")), read_result(finished)
    assert result.run_id != other.run_id
    assert result.config_id == other.config_id
    assert result.metrics != other.metrics


def test_closed_form_model_is_not_trained(floor: Path) -> None:
    result = read_result(floor)
    assert result.closed_form
    assert result.training["stopped"] == "closed_form"
    assert result.information_set == []
    assert (floor / "best.ckpt").is_file()


def test_tensorboard_and_offline_wandb_write_into_the_folder(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    assert main(["run", "--config", "synthetic/popularity", "--wandb", "--tensorboard", *options(root, tmp_path)]) == 0
    folder = only(tmp_path / "synthetic" / "popularity")
    assert list(folder.glob("tensorboard/events*"))
    assert list(folder.glob("wandb/offline-run-*"))


def test_a_run_folder_is_written_by_one_process_at_a_time(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["run", "--config", "synthetic/popularity", *options(root, tmp_path)]
    assert main(arguments) == 0
    folder = only(tmp_path / "synthetic" / "popularity")
    with alone(folder):
        assert main([*arguments, "--force"]) == 2
    assert "Another process is working" in capsys.readouterr().err
    assert (folder / "result.json").is_file()
    assert main([*arguments, "--force"]) == 0


def test_a_run_that_another_process_has_finished_meanwhile_is_left_alone(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["run", "--config", "synthetic/popularity", *options(root, tmp_path)]
    attach = Popularity.attach

    def overtaken(self: Popularity, catalogue: Catalogue) -> None:
        attach(self, catalogue)
        with monkeypatch.context() as patch:
            patch.setattr(Popularity, "attach", attach)
            assert main(arguments) == 0

    monkeypatch.setattr(Popularity, "attach", overtaken)
    assert main(arguments) == 0
    assert capsys.readouterr().out.count("Run folder") == 1
    assert (only(tmp_path / "synthetic" / "popularity") / "result.json").is_file()


def test_an_option_that_the_trainer_refuses_leaves_no_folder(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for option in ("--trainer.strategy=dpp", "--trainer.devices=two"):
        assert main(["run", "--config", "synthetic/popularity", *options(root, tmp_path, option)]) == 2
        assert "The Trainer refuses an option" in capsys.readouterr().err
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_checkpoint_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "run" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"step": 1}, path)
    with pytest.raises(AttributeError):
        AtomicCheckpointIO().save_checkpoint({"step": lambda: 2}, path)
    assert torch.load(path) == {"step": 1}
    assert list(path.parent.iterdir()) == [path]


def test_ctrl_c_while_a_checkpoint_is_written_is_no_error_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"step": 1}, path)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda *_: InterruptedFile())
        with pytest.raises(KeyboardInterrupt):
            AtomicCheckpointIO().save_checkpoint({"a": torch.ones(10_000), "b": torch.ones(100)}, path)
    assert torch.load(path) == {"step": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_peak_of_memory_is_that_of_one_run() -> None:
    large = torch.ones(1 << 27)
    del large
    before = peak_memory()["host"]
    forget_peak_memory()
    assert peak_memory()["host"] < before - (1 << 28)


def test_loggers_of_the_configuration_are_used_and_not_stored(root: Path, tmp_path: Path) -> None:
    logger = ["--trainer.logger+=TensorBoardLogger", f"--trainer.logger.save_dir={tmp_path / 'board'}"]
    assert main(["run", "--config", "synthetic/popularity", *options(root, tmp_path), *logger]) == 0
    assert list((tmp_path / "board").rglob("events*"))
    stored = yaml.safe_load((only(tmp_path / "synthetic" / "popularity") / "config.yaml").read_text())
    assert "logger" not in stored["trainer"]


@pytest.mark.parametrize(
    ("given", "stopped", "undertrained"),
    [
        (["--early_stopping.patience=1", "--model.lr=0.0"], "early_stopping", False),
        (["--early_stopping.stopping_threshold=0.001"], "early_stopping", False),
        (["--early_stopping.divergence_threshold=0.999"], "early_stopping", False),
        (["--early_stopping.patience=0", "--trainer.max_epochs=1"], "max_epochs", True),
    ],
)
def test_early_stopping_is_named_as_the_reason_if_it_is(
    root: Path, tmp_path: Path, given: list[str], stopped: str, undertrained: bool
) -> None:
    assert main(["run", "--config", "synthetic/sasrec", *options(root, tmp_path), "--model.width=8", *given]) == 0
    training = read_result(only(tmp_path / "synthetic" / "sasrec")).training
    assert (training["stopped"], training["undertrained"]) == (stopped, undertrained)


def test_result_json_has_no_secret_and_no_nan(finished: Path) -> None:
    text = (finished / "result.json").read_text()
    assert "NaN" not in text
    assert not re.search(r"api_?key", text, re.IGNORECASE)
    assert json.loads(text)["version"] == 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--model.width=51", "--model.num_heads=2"], "width 51 cannot be shared by 2 heads"),
        (["--model.lr=-1"], "lr"),
        (["--trainer.max_epochs=0"], "ended before its first validation"),
        (["--trainer.max_epochs=1", "--trainer.check_val_every_n_epoch=2"], "ended before its first validation"),
        (["--trainer.max_epochs=1", "--early_stopping.monitor=val/nope"], "--early_stopping.monitor"),
        (["--trainer.max_epochs=-3"], "options of the Trainer"),
        (["--seed_everything=-1"], "from 0 to 4,294,967,295"),
        (["--trainer.strategy=ddp_spawn", "--trainer.devices=2"], "Give ddp"),
    ],
)
def test_settings_that_cannot_train_are_one_message(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], given: list[str], said: str
) -> None:
    assert main(["run", "--config", "synthetic/sasrec", *options(root, tmp_path, *given)]) == 2
    assert said in capsys.readouterr().err
    assert not list(find_runs([tmp_path]))


@pytest.mark.parametrize(("waited", "undertrained"), [(5, True), (6, False)])
def test_what_gained_nothing_for_half_its_patience_is_not_undertrained(waited: int, undertrained: bool) -> None:
    stop = EarlyStopping("val/mrr", patience=10)
    stop.wait_count = waited
    loop = SimpleNamespace(epoch_progress=SimpleNamespace(current=SimpleNamespace(ready=1)))
    limits = {"max_epochs": 1, "max_steps": -1}
    trainer: Any = SimpleNamespace(callbacks=[stop], current_epoch=1, global_step=3, fit_loop=loop, **limits)
    summary = training_summary(trainer, RunRecord("val/mrr", "max", {}), closed_form=False)
    assert (summary["stopped"], summary["undertrained"]) == ("max_epochs", undertrained)


def test_a_fresh_start_leaves_no_curves_of_an_earlier_one(tmp_path: Path) -> None:
    curves = tmp_path / "tensorboard" / "events.out.tfevents.1"
    curves.parent.mkdir()
    curves.touch()
    plan: Any = SimpleNamespace(folder=tmp_path, config={})
    prepare_folder(plan, tmp_path / "last.ckpt")
    assert curves.is_file()
    prepare_folder(plan, None)
    assert not curves.exists()
