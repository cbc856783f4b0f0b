"""The file of the best trial is the configuration of that trial, for ``run`` and for ``suite``."""

from pathlib import Path

import pytest
import yaml

from benchmarks.__main__ import main
from benchmarks.configuration import RunCLI
from benchmarks.experiments import parse_yaml
from benchmarks.runs import read_result
from benchmarks.sweeps.best import LEFT_OUT, resolved
from benchmarks.sweeps.space import SWEEPS, read_space
from benchmarks.sweeps.study import open_study
from benchmarks.sweeps.trial import as_arguments

COMMAND = ["recbench", "run", "--config=synthetic/sasrec", "--data.max_history=20", "--wandb", "${args}"]
SPACE = {
    "command": COMMAND,
    "method": "grid",
    "metric": {"name": "val/hr@10", "goal": "maximize"},
    "parameters": {"model.width": {"values": [8, 12]}, "model.betas": {"values": [[0.9, 0.98]]}},
}
OPTIONS = ["trainer.max_epochs=1", "trainer.accelerator=cpu", "model.num_blocks=2"]


def configuration(arguments: list[str]) -> dict[str, object]:
    cli = RunCLI(arguments)
    values = parse_yaml(cli.parser.dump(cli.config, skip_unset=False, skip_link_targets=True))
    return {key: value for key, value in values.items() if key not in LEFT_OUT}


@pytest.mark.parametrize("method", ["sasrec", "ncf", "kda_lrd", "recformer", "tallrec"])
def test_a_resolved_configuration_is_the_one_it_was_made_of(method: str, tmp_path: Path) -> None:
    space = read_space(SWEEPS / f"{method}.yaml")
    values = as_arguments({parameter.name: parameter.first for parameter in space.parameters})
    arguments = [*space.arguments, *values, "--early_stopping.monitor=val/mrr"]
    path = tmp_path / "best.yaml"
    path.write_text(yaml.safe_dump(resolved(arguments), sort_keys=False))
    assert configuration(["--config", str(path)]) == configuration(arguments)


def test_where_a_trial_ran_is_not_part_of_it() -> None:
    config = resolved(["--config=synthetic/sasrec", "--data.root=/elsewhere", "--seed_everything=7", "--wandb"])
    assert {"runs", "wandb", "suite"}.isdisjoint(config)
    assert {"root", "num_workers"}.isdisjoint(config["data"]["init_args"])
    assert {"accelerator", "logger"}.isdisjoint(config["trainer"])


@pytest.fixture(scope="module")
def swept(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a sweep of two real trials, under all runs."""
    folder = tmp_path_factory.mktemp("swept")
    space = folder / "toy.yaml"
    space.write_text(yaml.safe_dump(SPACE))
    places = ["--root", str(root), "--runs", str(folder / "runs")]
    assert main(["sweep", str(space), "--trials", "2", *places, "--options", *OPTIONS]) == 0
    return folder / "runs" / "sweeps" / "toy"


def test_the_best_file_is_the_configuration_of_the_best_trial(swept: Path, root: Path) -> None:
    best = open_study(read_space(swept.parents[2] / "toy.yaml"), swept).best_trial
    label = f"--name=trial-{best.number}"
    selected = ["--early_stopping.monitor=val/hr@10", "--early_stopping.mode=max"]
    trial = RunCLI([*best.user_attrs["arguments"], *selected, label]).plan
    tuned = RunCLI(["--config", str(swept / "best.yaml"), f"--data.root={root}", label]).plan
    assert tuned.config_id == trial.config_id
    assert "seed_everything" not in yaml.safe_load((swept / "best.yaml").read_text())
    arguments = tuned.config["model"]["init_args"]
    assert (arguments["num_blocks"], arguments["width"]) == (2, best.user_attrs["values"]["model.width"])
    assert (tuned.config["data"]["init_args"]["max_history"], tuned.config["trainer"]["max_epochs"]) == (20, 1)


def test_a_suite_runs_the_best_file_and_the_leaderboard_says_what_it_cost(swept: Path, root: Path) -> None:
    runs = swept.parents[1]
    suite = runs.parent / "tuned.yaml"
    content = {"about": "toy", "datasets": ["synthetic"], "methods": ["popularity", str(swept / "best.yaml")]}
    suite.write_text(yaml.safe_dump(content | {"options": {"trainer.accelerator": "cpu"}}))
    assert main(["suite", str(suite), "--root", str(root), "--runs", str(runs)]) == 0
    result = read_result(next((runs / "synthetic" / "sasrec_tuned").iterdir()))
    assert (result.tuning["study"], result.tuning["trials"], result.tuning["seed"]) == ("toy", 2, 1000)
    lines = (runs / "suites" / "tuned" / "leaderboard.md").read_text().splitlines()
    head = next(line for line in lines if "trials" in line)
    row = next(line for line in lines if "sasrec_tuned" in line)
    cells = dict(zip((c.strip() for c in head.split("|")), (c.strip() for c in row.split("|")), strict=True))
    assert cells["trials"] == "2"
    assert float(cells["tuning h"]) >= 0.0
