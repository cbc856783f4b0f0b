"""What W&B gets of a run is in its offline file; no key is in any."""

import json
import time
from pathlib import Path

import pytest
import wandb
from lightning.pytorch.loggers import WandbLogger

from benchmarks.__main__ import main
from benchmarks.leaderboard.rows import build_tables
from benchmarks.loggers.account import wandb_mode, wandb_state
from benchmarks.loggers.tracking import log_leaderboard, log_result
from benchmarks.runs import read_result
from common.errors import UserError
from common.models.sasrec import SASRec
from tests.benchmarks.conftest import options
from tests.benchmarks.loggers.offline import Offline
from tests.benchmarks.made_results import made_result, made_run
from tests.benchmarks.made_suites import suite_file

KEY = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def tracked(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was logged to W&B, offline, while a key was set and stood on the command line."""
    runs = tmp_path_factory.mktemp("tracked")
    arguments = options(root, runs, "--trainer.max_epochs=2", "--model.width=8", "--wandb", "--suite=toys")
    arguments += ["--trainer.log_every_n_steps=1", "--data.batch_size=16"]
    wandb.teardown()  # what an earlier test had in its environment
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_SILENT", "true")
        patch.setenv("WANDB_API_KEY", KEY)
        patch.setattr("sys.argv", ["recbench", "run", f"--trainer.logger.tracking_uri=https://me:{KEY}@host"])
        patch.setenv("WANDB_X_STATS_SAMPLING_INTERVAL", "0.1")
        assert main(["run", "--config", "synthetic/sasrec", *arguments]) == 0
        wandb.teardown()  # its service writes the rest of the file
    return next((runs / "synthetic" / "sasrec").iterdir())


@pytest.fixture(scope="module")
def seen(tracked: Path) -> Offline:
    return Offline(tracked)


def test_group_job_type_tags_and_name(seen: Offline, tracked: Path) -> None:
    assert (seen.run.run_group, seen.run.job_type, seen.run.project) == ("toys", "sasrec", "recbench")
    assert {"synthetic", "sasrec", "seed-0"} <= set(seen.run.tags)
    assert seen.run.display_name == f"synthetic/sasrec/{tracked.name}"


def test_configuration_and_protocol_ids(seen: Offline, tracked: Path) -> None:
    result = read_result(tracked)
    assert seen.config["model"]["init_args"]["width"] == 8
    assert seen.config["protocols"] == {name: entry["id"] for name, entry in result.protocols.items()}
    assert seen.config["run_id"] == tracked.name


def test_metrics_of_each_epoch_and_parts_of_the_loss(seen: Offline) -> None:
    validated = [row for row in seen.history if "val/ndcg@10" in row]
    assert [row["epoch"] for row in validated] == [0, 1]
    assert any("train/loss" in row for row in seen.history)


def test_system_figures_are_sampled_while_it_runs(seen: Offline) -> None:
    assert {"cpu", "memory_percent", "proc.memory.rssMB"} <= seen.system


def test_summary_holds_the_final_figures(seen: Offline, tracked: Path) -> None:
    result = read_result(tracked)
    for name in ("test/full/overall/ndcg@10", "test/full/overall/mrr"):
        assert seen.summary[name] == pytest.approx(result.metrics[name])
    assert seen.summary["seconds/train"] == pytest.approx(result.seconds["train"])
    assert seen.summary["parameters/trained"] == result.parameters["trained"]


def test_the_summary_judges_by_the_best_validation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    folder = made_run(tmp_path, "sasrec", 0.3, training={"monitor": "val/mrr", "best": 0.7, "steps": 9})
    logger = WandbLogger(save_dir=folder, mode="offline")
    for value in (0.7, 0.1):
        logger.log_metrics({"val/mrr": value})
    log_result([logger], read_result(folder), folder)
    wandb.teardown()
    assert Offline(folder).summary["val/mrr"] == 0.7


@pytest.mark.parametrize("resumed", [True, False])
def test_only_a_resumed_run_is_the_same_on_wandb(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resumed: bool
) -> None:
    def interrupt(self: SASRec) -> None:
        raise KeyboardInterrupt

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    arguments = ["run", "--config", "synthetic/sasrec", *options(root, tmp_path, "--trainer.max_epochs=1", "--wandb")]
    with monkeypatch.context() as patch:
        patch.setattr(SASRec, "on_test_start", interrupt)
        assert main(arguments) == 1
    time.sleep(1)  # W&B names folders by the second
    assert main([*arguments, *(["--ckpt_path=last"] if resumed else [])]) == 0
    wandb.teardown()
    folders = sorted(path for path in tmp_path.rglob("offline-run-*") if path.is_dir())
    assert [Offline(folder).exit_code for folder in folders] == [1, 0]
    ids = [folder.name.rpartition("-")[2] for folder in folders]
    assert (len(set(ids)) == 1) == resumed


def test_each_trial_of_a_search_is_a_run_of_its_own(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    places = ["--root", str(root), "--runs", str(tmp_path), "--options", "wandb", "trainer.accelerator=cpu"]
    arguments = ["synthetic/sasrec", "--trials", "2", *places, "trainer.max_epochs=2", "model.width=8"]
    assert main(["sweep", *arguments]) == 0
    wandb.teardown()
    trials = tmp_path / "sweeps" / "synthetic-sasrec" / "trials" / "synthetic"
    for number in range(2):
        seen = Offline(trials / f"trial-{number}")
        assert seen.run.job_type == f"trial-{number}"
        values = [row["val/ndcg@10"] for row in seen.history if "val/ndcg@10" in row]
        assert len(values) == 2
        assert seen.summary["val/ndcg@10"] == pytest.approx(max(values))
        assert seen.exit_code == 0


def test_the_artifact_holds_ranks_and_result(seen: Offline, tracked: Path) -> None:
    artifact = next(artifact for artifact in seen.artifacts if artifact.type == "run")
    assert artifact.name == f"run-{tracked.name}"
    assert {entry.path for entry in artifact.manifest.contents} == {"ranks.parquet", "result.json"}
    assert json.loads(artifact.metadata)["method"] == "sasrec"


def test_no_file_holds_the_key(tracked: Path) -> None:
    files = [path for path in tracked.rglob("*") if path.is_file()]
    assert len(files) > 5
    assert not [path for path in files if KEY.encode() in path.read_bytes()]


def test_a_leaderboard_is_a_table_of_its_suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    # Both tables must be kept, although they are of one data set and one protocol.
    cold = made_result("a", 0.1, fields={"scenario": "cold-users"})
    tables = build_tables([made_result("a", 0.1), made_result("b", 0.2), cold])
    log_leaderboard(tables, "toys", tmp_path)
    wandb.teardown()
    seen = Offline(tmp_path)
    assert (seen.run.run_group, seen.run.job_type) == ("toys", "leaderboard")
    rows = {name: value for row in seen.history for name, value in row.items() if name.endswith("/nrows")}
    assert rows == {f"leaderboard/toy/full/{t.scenario}/{t.protocol_id}/nrows": len(t.rows) for t in tables}
    assert sorted(rows.values()) == [1, 2]
    (file,) = [path for path in tmp_path.rglob("*.table.json") if "overall" in path.parts]
    table = json.loads(file.read_text())
    assert [row[table["columns"].index("method")] for row in table["data"]] == ["b", "a"]


def test_a_suite_logs_its_runs_and_its_table(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    file = suite_file(tmp_path, methods=["popularity", "item_knn"], seeds=[1])
    places = ["--root", str(root), "--runs", str(tmp_path / "runs"), "--jobs", "1"]
    assert main(["suite", str(file), *places, "--wandb"]) == 0
    wandb.teardown()
    cards = {run.run.display_name: run for run in map(Offline, (tmp_path / "runs" / "synthetic").glob("*/*"))}
    assert {run.run.run_group for run in cards.values()} == {file.stem}
    assert {run.run.job_type for run in cards.values()} == {"popularity", "item_knn"}
    board = Offline(tmp_path / "runs" / "suites" / file.stem)
    assert (board.run.run_group, board.run.job_type) == (file.stem, "leaderboard")
    (content,) = [path for path in (tmp_path / "runs" / "suites").rglob("*.table.json") if "full" in path.parts]
    table = json.loads(content.read_text())
    methods = {row[table["columns"].index("method")] for row in table["data"]}
    assert methods == {"popularity", "item_knn"}


def test_a_login_is_that_of_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    logins = tmp_path / "logins"
    logins.write_text(f"machine wandb.example.org:8080 login user password {KEY}\n")
    monkeypatch.setenv("NETRC", str(logins))
    assert wandb_mode() == "offline"
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org:8080")
    assert (wandb_mode(), wandb_state()) == ("online", f"logged in by {logins}")
    logins.unlink()
    assert wandb_mode() == "offline"
    monkeypatch.setenv("WANDB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    assert wandb_mode() == "online"


def test_mode_is_offline_without_a_key_and_says_so_when_asked_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    assert wandb_mode() == "offline"
    monkeypatch.setenv("WANDB_MODE", "online")
    with pytest.raises(UserError, match="has no key"):
        wandb_mode()
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert wandb_mode() == "online"


@pytest.mark.parametrize("command", ["run", "suite"])
def test_online_without_a_key_is_refused_in_one_sentence(
    command: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_MODE", "online")
    runs = tmp_path / "runs"
    arguments = {
        "run": ["--config", "synthetic/popularity", *options(root, runs)],
        "suite": [str(suite_file(tmp_path)), "--root", str(root), "--runs", str(runs)],
    }[command]
    assert main([command, *arguments, "--wandb"]) == 2
    error = capsys.readouterr().err
    assert "WANDB_MODE=online, but W&B has no key." in error
    assert "wandb login" in error
    assert not [*runs.rglob("result.json"), *runs.rglob("*.log"), *runs.rglob("*.ckpt")]


def test_tensorboard_and_mlflow_by_configuration(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A database would take longer to set up than the run.
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    given = [f"--trainer.logger.tracking_uri=file:{tmp_path / 'mlflow'}", "--tensorboard"]
    arguments = options(root, tmp_path, "--trainer.logger=MLFlowLogger", *given, "--trainer.max_epochs=1")
    assert main(["run", "--config", "synthetic/bpr_mf", *arguments]) == 0
    assert list(tmp_path.rglob("events.out.tfevents.*"))
    assert [path for path in (tmp_path / "mlflow").rglob("*") if path.name == "ndcg10"]
