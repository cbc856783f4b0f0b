"""Every shipped configuration fits the signatures, and every method runs a batch of each phase."""

from pathlib import Path

import pytest
import yaml

from benchmarks.__main__ import main
from benchmarks.configuration import RunCLI
from benchmarks.experiments import experiment_names, find_suite, suite_names
from benchmarks.suite import read_suite
from common.data.recipes import DATASETS
from tests.benchmarks.conftest import options

METHODS = [name for name in experiment_names() if name.startswith("synthetic/")]


@pytest.mark.parametrize("name", experiment_names())
def test_configuration_fits_the_signatures(name: str) -> None:
    cli = RunCLI(["--config", name])
    dataset, _, method = name.partition("/")
    assert cli.config.name == method
    assert cli.config.data.init_args.dataset == dataset
    assert dataset in DATASETS


def test_every_data_set_has_every_method() -> None:
    methods: dict[str, set[str]] = {}
    for name in experiment_names():
        dataset, _, method = name.partition("/")
        methods.setdefault(dataset, set()).add(method)
    assert set(methods) == {"ml-100k", "amazon-office", "amazon-beauty", "amazon-games", "synthetic"}
    assert len({frozenset(names) for names in methods.values()}) == 1


@pytest.mark.parametrize("name", METHODS)
def test_method_runs_a_batch_of_each_phase(name: str, root: Path, tmp_path: Path) -> None:
    assert main(["run", "--config", name, "--trainer.fast_dev_run=true", *options(root, tmp_path)]) == 0
    assert not list(tmp_path.rglob("result.json"))


@pytest.mark.parametrize("name", suite_names())
def test_suite_names_shipped_experiments(name: str) -> None:
    suite = read_suite(find_suite(name))
    shipped = set(experiment_names())
    assert {f"{dataset}/{method}" for dataset in suite.datasets for method in suite.methods} <= shipped
    assert suite.about


@pytest.mark.parametrize("name", [n for n in suite_names() if n.startswith("baselines")])
def test_baseline_suites_have_the_seeds_of_a_ranked_row(name: str) -> None:
    assert len(set(yaml.safe_load(find_suite(name).read_text())["seeds"])) >= 5
