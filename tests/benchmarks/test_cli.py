"""A mistake ends in one message that names the cure, and exit code 2."""

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.cli import COMMANDS
from benchmarks.experiments import read_yaml
from benchmarks.prepare import prepare
from benchmarks.results import write_ranks
from common.models.sasrec import SASRec
from common.types import SequenceBatch
from tests.benchmarks.conftest import Complaint, options, without_times
from tests.fixtures import recbole


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in COMMANDS)


@pytest.mark.parametrize("command", ["--help", "list"])
def test_what_needs_no_tensor_does_not_import_torch(command: str) -> None:
    code = f"import sys; from benchmarks.cli import main; sys.exit(main(['{command}']) or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=False).returncode == 0


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "list"])
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    assert f"recbench {name}" in capsys.readouterr().out


def test_unknown_command(complaint: Complaint) -> None:
    assert "Did you mean 'leaderboard'?" in complaint("leaderbord")


def test_unknown_option_of_a_command(complaint: Complaint) -> None:
    assert "Did you mean '--protocol'?" in complaint("leaderboard", "--protocl", "full")


def test_unknown_value_of_an_option(complaint: Complaint) -> None:
    assert "html" in complaint("leaderboard", "--format", "html")


@pytest.mark.parametrize(
    ("arguments", "cure"),
    [
        (["--config", "ml-100k/sasrek"], "Did you mean 'ml-100k/sasrec'?"),
        (["--config", "no/such.yaml"], "recbench list"),
        (["--config", "synthetic/sasrec", "--model.drop_out", "0.1"], "Did you mean 'dropout'?"),
        (["--config", "synthetic/sasrec", "--data.max_histroy", "9"], "Did you mean 'max_history'?"),
        (["--config", "synthetic/sasrec", "--trainer.max_epoch", "3"], "Did you mean '--trainer.max_epochs'?"),
        (["--config", "synthetic/sasrec", "--seed", "3"], "Did you mean '--seed_everything'?"),
        (["--config", "synthetic/sasrec", "--seed_everything", "true"], "--seed_everything: 'True' is not a valid"),
        (["--config", "synthetic/sasrec", "--model.lr", "fast"], "float"),
        (["--config", "synthetic/sasrec", "--model.objective", "bpr_min"], "bpr_max"),
        (["--config", "synthetic/sasrec", "--name", "../up"], "Use letters"),
        (["--model", "SASRek", "--data.dataset", "synthetic"], "Did you mean 'SASRec'?"),
        (["--data.dataset", "synthetic"], "No model is given"),
        (["--model", "SASRec"], "--data.dataset is missing"),
        (["--config", "synthetic/sasrec", "--model.max_history", "10"], "Set --data.max_history"),
        (["--config", "synthetic/sasrec", "--model.init_args.num_items=10"], "is what the data say"),
        (["--config", "synthetic/sasrec", "--trainer.limit_test_batches=1"], "Give --data.test_users"),
        ([], "No model is given"),
        (["synthetic/sasrec"], "Did you mean `--config synthetic/sasrec`?"),
        (["--config", "synthetic/sasrec", "--modle.width", "3"], "Did you mean '--model.width'?"),
        (["--config", "synthetic/sasrec", "--model.objective", "cee"], "--model.objective: 'cee' is not a valid value"),
        (["--config", "synthetic/sasrec", "--trainer.max_epochs", "few"], "type int, or null"),
        (["--config", "synthetic/sasrec", "--data.test_users", "few"], "--data.test_users: 'few' is not a valid"),
        (["--config", "synthetic/sasrec", "--data.test_protocols", "full"], "type list"),
        (["--config", "synthetic/sasrec", "--data.dataset", "synthetik"], "Did you mean 'synthetic'?"),
        (["--config", "synthetic/sasrec", "--data.test_protocols", "[sampled-98]"], "Did you mean 'sampled-99'?"),
        (["--config", "synthetic/feature_floor", "--model.fit_protocol", "sampled-98"], "--model.fit_protocol: Store"),
        (["--config", "synthetic/feature_floor", "--model.fit_protocol", "full"], "--model.fit_protocol full ranks"),
        (["--config", "synthetic/sasrec", "--data.recipe", "plantet"], "planted"),
        (["--config", "synthetic/sasrec", "--data.batch_size", "0"], "1 or more"),
        (["--config", "synthetic/sasrec", "--ckpt_path", "last"], "start from scratch"),
        (["--config", "synthetic/sasrec", "--early_stopping.monitor", "train/loss"], "Name a metric of validation"),
        (["--config", "synthetic/sasrec", "--early_stopping.patience", "-4"], "0 or more"),
        (["--config", "synthetic/sasrec", "--model.width", "0"], "SASRec cannot be made with --model.width 0: float"),
    ],
)
def test_mistakes_of_a_run(arguments: list[str], cure: str, complaint: Complaint, root: Path, tmp_path: Path) -> None:
    assert cure in complaint("run", *options(root, tmp_path), *arguments)


def test_unknown_key_of_a_configuration_file(complaint: Complaint, root: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "model:\n  class_path: SASRec\ndata:\n  init_args:\n    dataset: synthetic\ntrainer:\n  max_epoch: 3\n"
    )
    assert "Did you mean 'max_epochs'?" in complaint("run", "--config", str(path), *options(root, tmp_path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("modle: {class_path: SASRec}\n", "mine.yaml has an unknown option 'modle'.\nDid you mean 'model'?"),
        (
            "early_stoping: {patience: 3}\n",
            "mine.yaml has an unknown option 'early_stoping'.\nDid you mean 'early_stop",
        ),
        ("trainer: 3\n", "mine.yaml: trainer is 3, expected a mapping"),
        ("", "mine.yaml is not a configuration: expected a mapping, found nothing"),
        ("- model\n", "mine.yaml is not a configuration: expected a mapping, found a list"),
        ("name: a\ntrainer: {}\nname: b\n", "mine.yaml, line 3: name is already in line 1"),
        ("trainer:\n  max_epochs: 3\n  max_epochs: 4\n", "mine.yaml, line 3: max_epochs is already in line 2"),
        ("trainer: {}\non: 3\n", "mine.yaml, line 2: 'on' is no text, as a name must be.\nWrite it in quotes."),
        ("name: 2024-13-01\n", "mine.yaml is not valid YAML: month must be in 1..12"),
    ],
)
def test_a_file_that_is_no_configuration(
    text: str, message: str, complaint: Complaint, root: Path, tmp_path: Path
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    assert message in complaint("run", "--config", "synthetic/sasrec", str(path), *options(root, tmp_path))


def test_anchors_repeat_no_key(tmp_path: Path) -> None:
    path = tmp_path / "merged.yaml"
    path.write_text("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\nc: [*a, *a]\n")
    usual = {"x": 1, "y": 2}
    assert read_yaml(path) == {"a": usual, "b": {"x": 3, "y": 2}, "c": [usual, usual]}


def test_a_store_that_is_not_prepared(complaint: Complaint, tmp_path: Path) -> None:
    message = complaint("run", "--config", "ml-100k/sasrec", *options(tmp_path, tmp_path))
    assert "recbench prepare ml-100k" in message


def test_a_store_of_another_version(complaint: Complaint, root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "stores")
    for manifest in (tmp_path / "stores").rglob("manifest.json"):
        manifest.write_text(manifest.read_text().replace('"store_version": 1', '"store_version": 0'))
    message = complaint("run", "--config", "synthetic/sasrec", *options(tmp_path / "stores", tmp_path))
    assert "recbench prepare synthetic" in message


def test_a_loss_that_is_no_number(
    complaint: Complaint, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(self: SASRec, batch: SequenceBatch) -> dict[str, torch.Tensor]:
        return {"loss": self.item_embedding.weight.sum() * torch.nan}

    monkeypatch.setattr(SASRec, "loss", diverge)
    message = complaint("run", "--config", "synthetic/sasrec", *options(root, tmp_path))
    assert "NaN" in message
    assert "learning rate" in message
    assert not list(tmp_path.rglob("*.ckpt"))


def test_times_that_were_not_recorded(complaint: Complaint, root: Path, tmp_path: Path) -> None:
    places = options(without_times(root, tmp_path / "stores"), tmp_path, "--trainer.max_epochs=1")
    assert "allow_imputed_time" in complaint("run", "--config", "synthetic/tisasrec", *places)
    assert main(["run", "--config", "synthetic/tisasrec", "--data.allow_imputed_time=true", *places]) == 0
    (result,) = (tmp_path / "synthetic" / "tisasrec").rglob("result.json")
    assert '"imputed_time": true' in result.read_text()


def test_a_temporal_split_of_unrecorded_times_takes_leave_and_is_marked(complaint: Complaint, tmp_path: Path) -> None:
    prepare("mine", source=recbole.write(tmp_path / "raw", ordinal=True), root=tmp_path / "stores")
    places = options(tmp_path / "stores", tmp_path / "runs", "--data.dataset=mine", "--data.split=global_temporal")
    run = ["run", "--config", "ml-100k/item_knn", *places]
    assert "allow_imputed_time" in complaint(*run)
    assert main([*run, "--data.allow_imputed_time=true"]) == 0
    (result,) = (tmp_path / "runs").rglob("result.json")
    assert '"imputed_time": true' in result.read_text()


def test_no_permission_to_write(
    complaint: Complaint, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert "No permission" in complaint("run", "--config", "synthetic/popularity", *options(root, tmp_path))


def test_a_full_disk(complaint: Complaint, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("benchmarks.train.write_ranks", refuse)
    assert "No space left" in complaint("run", "--config", "synthetic/popularity", *options(root, tmp_path))
    assert not list(tmp_path.rglob("result.json"))


def test_a_full_disk_beneath_another_error(
    complaint: Complaint, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        try:
            raise OSError(28, "No space left on device", "best.ckpt")
        finally:
            raise RuntimeError("unexpected pos 64 vs 0")

    monkeypatch.setattr("benchmarks.train.write_ranks", refuse)
    message = complaint("run", "--config", "synthetic/popularity", *options(root, tmp_path))
    assert "No space left on the disk: best.ckpt" in message


def test_a_folder_that_cannot_be_created(complaint: Complaint, monkeypatch: pytest.MonkeyPatch) -> None:
    def mkdir(self: Path, *_: object, **__: object) -> None:
        raise FileNotFoundError(2, "No such file or directory", str(self))

    monkeypatch.setattr(Path, "mkdir", mkdir)
    assert "cannot be created" in complaint("prepare", "synthetic", "--root", "/absent")


def test_a_file_that_a_bug_does_not_find_is_no_mistake(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        Path("/absent").read_text()

    monkeypatch.setattr("benchmarks.train.describe", fail)
    assert main(["run", "--config", "synthetic/popularity", *options(root, tmp_path)]) == 1


@pytest.mark.parametrize(("command", "told"), [("suite", True), ("doctor", False)])
def test_what_is_interrupted_says_whether_it_continues(
    command: str, told: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("benchmarks.cli.dispatch", interrupt)
    assert main([command]) == 1
    assert ("The same command continues" in capsys.readouterr().err) is told


@pytest.mark.parametrize("option", ["--seed", "--world-seed"])
def test_a_seed_is_not_negative(option: str, complaint: Complaint, tmp_path: Path) -> None:
    message = complaint("prepare", "synthetic", option, "-1", "--root", str(tmp_path))
    assert f"{option} is -1" in message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", [["recommend", "--user", "u01"], ["evaluate", "--runs", "runs"]])
def test_a_run_without_its_configuration(command: list[str], complaint: Complaint, floor: Path, tmp_path: Path) -> None:
    run = shutil.copytree(floor, tmp_path / "run")
    (run / "config.yaml").unlink()
    name, *rest = command
    message = complaint(name, str(run), *rest)
    assert f"The run {run} has no config.yaml" in message
    assert "recbench list" not in message


def test_a_disk_that_is_full_when_ranks_are_written(
    complaint: Complaint, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def to_a_full_disk(table: pl.DataFrame, path: Path) -> None:
        path.with_name(f".{path.name}.{os.getpid()}.part").symlink_to("/dev/full")
        write_ranks(table, path)

    monkeypatch.setattr("benchmarks.train.write_ranks", to_a_full_disk)
    assert "No space left" in complaint("run", "--config", "synthetic/popularity", *options(root, tmp_path))
    assert not [path for path in tmp_path.rglob("*") if "ranks" in path.name]


def test_a_file_where_the_runs_folder_should_be(complaint: Complaint, root: Path, tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    message = complaint("run", "--config", "synthetic/popularity", *options(root, tmp_path / "runs"))
    assert "a file where a folder" in message


def test_a_checkpoint_that_is_none(complaint: Complaint, root: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    run = ["run", "--config", "synthetic/sasrec", "--ckpt_path", str(path), *options(root, tmp_path)]
    missing = complaint(*run)
    assert f"There is no checkpoint {path}." in missing
    assert "Name a .ckpt file of a run." in missing
    path.write_bytes(b"no checkpoint")
    assert "is not a checkpoint, or is damaged" in complaint(*run)


def test_a_checkpoint_of_other_data(complaint: Complaint, finished: Path, tmp_path: Path) -> None:
    assert (
        main(
            [
                "prepare",
                "synthetic",
                "--users",
                "70",
                "--items",
                "128",
                "--interactions",
                "600",
                "--root",
                str(tmp_path),
            ]
        )
        == 0
    )
    path = str(finished / "last.ckpt")
    message = complaint("run", "--config", "synthetic/sasrec", "--ckpt_path", path, *options(tmp_path, tmp_path))
    assert "trained on other data" in message


def test_a_checkpoint_of_another_training(complaint: Complaint, finished: Path, root: Path, tmp_path: Path) -> None:
    given = ["run", "--config", "synthetic/sasrec", "--ckpt_path", str(finished / "last.ckpt"), "--model.width=8"]
    assert "trained with data.scenario overall, not cold-users" in complaint(
        *given, *options(root, tmp_path), "--data.scenario=cold-users"
    )
    assert "trained with seed_everything 0, not 3" in complaint(*given, *options(root, tmp_path), "--seed_everything=3")
    assert main([*given, *options(root, tmp_path), "--trainer.max_epochs=3"]) == 0


def test_internal_errors_exit_with_1(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("benchmarks.train.describe", fail)
    assert main(["run", "--config", "synthetic/popularity", *options(root, tmp_path)]) == 1
    assert "Traceback" not in capsys.readouterr().err
    assert main(["run", "--config", "synthetic/popularity", "--debug", *options(root, tmp_path)]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_reader_that_stops_reading_gets_no_complaint() -> None:
    command = [sys.executable, "-m", "benchmarks", "list"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        run.stdout.close()
        assert run.stderr.read() == ""
        assert run.wait() == 1


def test_measuring_and_simulating_less_than_once_is_refused(complaint: Complaint) -> None:
    assert "--repeats is 0" in complaint("speed", "rank", "--repeats", "0")
    assert "--repetitions is 0" in complaint("simulate", "--repetitions", "0")


def test_options_that_a_measurement_does_not_read_are_refused(complaint: Complaint) -> None:
    told = complaint("speed", "rank", "--shape", "nonsense", "--interactions", "3")
    assert "`speed rank` does not read --interactions, --shape." in told
    assert "rank reads --repeats, --test-users" in told
    for number in ("1", "3"):
        assert "does not read --repeats" in complaint("speed", "train", "--repeats", number)


def test_options_that_say_what_a_suite_prints_exclude_each_other(complaint: Complaint) -> None:
    told = complaint("suite", "quickstart", "--list", "--status", "--dry-run")
    assert "does not read NAME, --status, --dry-run" in told
    assert "--dry-run and --status" in complaint("suite", "quickstart", "--status", "--dry-run")


def test_a_folder_is_no_file_to_pack_a_run_in(complaint: Complaint, floor: Path, tmp_path: Path) -> None:
    assert "is a folder" in complaint("submit", str(floor), "--out", str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_an_address_needs_a_cluster(complaint: Complaint) -> None:
    assert "--launcher ray" in complaint("suite", "quickstart", "--address", "host:6379")


def test_a_damaged_store_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine" / "5-core-0").mkdir(parents=True)
    (tmp_path / "mine" / "5-core-0" / "manifest.json").write_text('{"num_users": ')
    assert main(["doctor", "--root", str(tmp_path)]) == 0
    assert "mine/5-core-0  DAMAGED" in capsys.readouterr().out


def test_what_the_encoding_of_the_terminal_lacks_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(screen, encoding="latin-1"))
    assert main(["--help"]) == 0
    assert b"usage: recbench COMMAND \\u2026" in screen.getvalue()
