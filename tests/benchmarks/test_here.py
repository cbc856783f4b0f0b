"""``list``, ``doctor`` and ``speed`` say what there is, without secrets."""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.listing import ENCODERS
from benchmarks.loggers.account import wandb_state
from common.data.recipes import DATASETS
from common.errors import UserError
from common.text.encoders import PrecomputedVectors, open_encoder


def test_list_names_everything_that_has_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    text = capsys.readouterr().out
    assert all(key in text for key in DATASETS)
    assert "sasrec_ce" in text
    assert "baselines-office" in text
    assert "made from sasrec_allmrec, allmrec_stage1" in text
    assert DATASETS["ml-100k"].licence in text
    assert "latent relations drive part of the choices" in text
    assert "scenarios/few-shot-256" in text
    assert "--data.scenario few-shot-64" in text
    assert "from-<data set>" in text


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"recbench {version('recbench')}\n"


def test_listed_encoders_are_what_options_take() -> None:
    with pytest.raises(UserError) as refused:
        open_encoder("nothing")
    forms = refused.value.cure.removeprefix("Write it as one of: ").split(", ")
    assert [name.partition(":")[0] for name in ENCODERS] == [form.partition(":")[0] for form in forms]


def test_list_of_one_kind(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "suites"]) == 0
    assert "ml-32m" not in capsys.readouterr().out
    assert main(["list", "suite"]) == 2


def test_doctor_knows_the_stores_and_no_secret(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_API_KEY", "s3cret")
    assert main(["doctor", "--root", str(root), "--json"]) == 0
    text = capsys.readouterr().out
    assert "s3cret" not in text
    findings = json.loads(text)
    assert any("60 users" in value for value in findings["stores"].values())
    assert findings["accounts"]["Weights & Biases"] == "logged in by WANDB_API_KEY"


@pytest.mark.parametrize("mode", ["offline", "dryrun", "disabled"])
def test_a_mode_without_a_key_is_told(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", mode)
    assert wandb_state() == f"WANDB_MODE={mode}"


@pytest.mark.parametrize(
    ("name", "figure", "quick"),
    [
        ("rank", "users_per_second", "--repeats=1"),
        ("train", "positions_per_second", "--max-epochs=2"),
        ("negatives", "samples_per_second", "--repeats=1"),
    ],
)
def test_speed_prints_json_alone(
    name: str, figure: str, quick: str, root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.speed.command.machine", lambda: {"cores": 1, "matmul_gflops": 2.0})
    assert main(["speed", name, "--dataset", "synthetic", "--root", str(root), quick]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures[figure] > 0
    assert figures["machine"]["cores"] == 1
    if "seconds" in figures:
        assert figures["seconds_times_gflops"] == 2 * figures["seconds"]


def test_speed_of_preparation_is_that_of_the_world_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.speed.command.machine", lambda: {"cores": 1, "matmul_gflops": 1.0})
    sizes = ["--users", "60", "--items", "128", "--interactions", "560"]
    assert main(["speed", "prepare", "--dataset", "synthetic", "--repeats", "1", *sizes]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["users"], figures["items"], figures["interactions"]) == (60, 128, 560)
    assert figures["seconds"] > 0


def test_speed_of_lrd_comes_with_what_the_machine_could_multiply(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "vectors.npy", np.eye(128, dtype=np.float32))
    monkeypatch.setattr("lrd.data.open_encoder", lambda _: PrecomputedVectors(tmp_path / "vectors.npy"))
    monkeypatch.setattr("benchmarks.speed.command.machine", lambda: {"matmul_gflops": 10.0})
    assert main(["speed", "lrd", "--dataset", "synthetic", "--root", str(root), "--repeats", "1"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["epoch_seconds_times_gflops"] == pytest.approx(10 * figures["epoch_seconds"])
    assert figures["score_seconds_times_gflops"] == pytest.approx(10 * figures["score_seconds"])
    assert figures["users"] == 60


def test_a_user_without_a_home_has_no_account(monkeypatch: pytest.MonkeyPatch) -> None:
    def expanduser(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "expanduser", expanduser)
    assert wandb_state().startswith("not logged in")
