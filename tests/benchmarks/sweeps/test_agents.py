"""A sweep on W&B is the same search: its agents run valid commands, and what W&B cannot keep is refused."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from benchmarks.__main__ import main
from benchmarks.configuration import RunCLI
from benchmarks.experiments import parse_yaml
from benchmarks.sweeps.agents import sweep_file
from benchmarks.sweeps.space import SWEEPS, Space, read_space, shipped_spaces
from benchmarks.sweeps.trial import as_arguments, selection

PARAMETERS = {
    "model.lr": {"distribution": "log_uniform_values", "min": 1e-5, "max": 1e-2},
    "model.tied": {"values": [None, True]},
    "model.betas": {"values": [[0.9, 0.98]]},
    "data.test_users": {"value": None},
}


def space_of(folder: Path, **changes: object) -> Space:
    values = yaml.safe_load((SWEEPS / "sasrec.yaml").read_text())
    path = folder / "toy.yaml"
    path.write_text(yaml.safe_dump(values | {"parameters": PARAMETERS} | changes))
    return read_space(path)


def agent_arguments(file: dict[str, Any], values: dict[str, Any]) -> list[str]:
    """What W&B's own agent would hand to ``recbench run``."""
    written = create_sweep_command_args({"args": {name: {"value": value} for name, value in values.items()}})
    command = create_sweep_command(list(file["command"]))
    words = [word for part in command for word in (written["args"] if part == "${args}" else [part])]
    assert words[1:4] == ["-m", "benchmarks", "run"]
    return words[4:]


def configuration(arguments: list[str]) -> dict[str, Any]:
    cli = RunCLI(arguments)
    values: dict[str, Any] = parse_yaml(cli.parser.dump(cli.config, skip_unset=False, skip_link_targets=True))
    return {key: value for key, value in values.items() if key not in ("config", "wandb")}


def test_an_agent_runs_what_an_optuna_trial_runs(tmp_path: Path) -> None:
    space = space_of(tmp_path)
    # As the server hands it out: what it was registered with, through JSON or YAML.
    file = yaml.safe_load(yaml.safe_dump(sweep_file(space, ["--seed_everything=1000"], trials=7)))
    served = {name: keys.get("values", [keys.get("value", 1e-5)])[0] for name, keys in file["parameters"].items()}
    values = {"model.lr": 1e-5, "model.tied": None, "model.betas": [0.9, 0.98], "data.test_users": None}
    trial = [*space.arguments, "--seed_everything=1000", *selection(space.metric, space.goal), *as_arguments(values)]
    assert configuration(agent_arguments(file, served)) == configuration(trial)
    assert RunCLI(agent_arguments(file, served)).config.wandb is True


@pytest.mark.parametrize("method", shipped_spaces())
def test_the_registered_file_says_what_backends_have_defaults_for(method: str) -> None:
    space = read_space(SWEEPS / f"{method}.yaml")
    file = sweep_file(space, [], trials=3)
    assert (file["method"], file["metric"]["goal"], file["run_cap"]) == (space.method, "maximize", 3)
    assert file["name"] == space.name
    assert set(file["parameters"]) == set(space.source["parameters"])


@pytest.mark.parametrize(
    ("changes", "more", "message"),
    [
        ({"parameters": {"model.dropuot": {"values": [0.1]}}}, [], "Did you mean 'dropout'"),
        ({}, ["--hours", "2"], "count trials, not hours"),
        ({}, [], "--backend optuna"),
    ],
)
def test_mistakes_end_before_anything_is_registered(
    changes: dict[str, object],
    more: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    space_of(tmp_path, **changes)
    arguments = ["sweep", str(tmp_path / "toy.yaml"), "--trials", "1", "--backend", "wandb", "--runs", str(tmp_path)]
    assert main([*arguments, *more]) == 2
    assert message in capsys.readouterr().err


def test_a_dry_run_writes_the_file_and_keeps_trials_in_the_folder_of_the_sweep(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space_of(tmp_path)
    arguments = ["sweep", str(tmp_path / "toy.yaml"), "--trials", "4", "--backend", "wandb", "--dry-run"]
    assert main([*arguments, "--runs", str(tmp_path)]) == 0
    path = tmp_path / "sweeps" / "toy" / "wandb.yaml"
    assert capsys.readouterr().out.strip() == f"wandb sweep {path}"
    file = yaml.safe_load(path.read_text())
    assert file["run_cap"] == 4
    assert f"--runs={path.parent / 'trials'}" in file["command"]
