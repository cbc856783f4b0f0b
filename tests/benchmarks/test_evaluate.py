"""A finished run is scored again with its own weights, as a new result."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import torch
import yaml

from benchmarks.__main__ import main
from benchmarks.evaluate import built, configuration_of, load_run, moved_predecessors, trained_run
from benchmarks.leaderboard.rows import build_tables
from benchmarks.runs import Result, find_runs, read_result
from common.metrics.cases import COLUMNS
from common.models.floors import Popularity
from common.models.sasrec import SASRec
from tests.benchmarks.conftest import options


def evaluations(runs: Path, origin: Path) -> Iterator[Result]:
    for folder in find_runs([runs]):
        result = read_result(folder)
        if result.checkpoint == str(origin):
            yield result


def test_the_same_protocol_gives_the_same_ranks(finished: Path, tmp_path: Path) -> None:
    assert main(["evaluate", str(finished), "--runs", str(tmp_path)]) == 0
    (folder,) = find_runs([tmp_path])
    assert pl.read_parquet(folder / "ranks.parquet").equals(pl.read_parquet(finished / "ranks.parquet"))
    assert read_result(folder).protocols == read_result(finished).protocols


def test_a_run_of_other_devices_is_tested_on_those_at_hand(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = tmp_path.joinpath(*finished.parts[-3:])
    shutil.copytree(finished, elsewhere)
    config = yaml.safe_load((elsewhere / "config.yaml").read_text())
    config["trainer"] |= {"accelerator": "gpu", "devices": 512, "strategy": "ddp"}
    (elsewhere / "config.yaml").write_text(yaml.safe_dump(config))
    test = ["evaluate", str(elsewhere), "--protocol", "sampled-19"]
    assert main(test) == 2
    assert "say with --devices on how many" in capsys.readouterr().err
    assert list(evaluations(tmp_path, elsewhere)) == []
    assert main([*test, "--devices", "1"]) == 0
    assert main(["evaluate", str(finished), "--protocol", "sampled-19", "--runs", str(tmp_path / "here")]) == 0
    (there,), (here,) = evaluations(tmp_path, elsewhere), evaluations(tmp_path, finished)
    assert there.metrics == here.metrics


def test_another_protocol_is_a_new_result_of_the_same_configuration(finished: Path, tmp_path: Path) -> None:
    before = (finished / "result.json").read_text()
    assert main(["evaluate", str(finished), "--protocol", "sampled-19", "full-unmasked", "--runs", str(tmp_path)]) == 0
    (result,) = evaluations(tmp_path, finished)
    assert set(result.protocols) == {"sampled-19", "full-unmasked"}
    assert result.config_id == read_result(finished).config_id
    assert result.predecessors == {"checkpoint": read_result(finished).run_id}
    assert (finished / "result.json").read_text() == before


def test_a_leaderboard_takes_both(finished: Path, tmp_path: Path) -> None:
    assert main(["evaluate", str(finished), "--protocol", "sampled-19", "--runs", str(tmp_path)]) == 0
    results = [read_result(folder) for folder in find_runs([tmp_path, finished])]
    assert [table.protocol for table in build_tables(results)] == ["full", "sampled-19", "sampled-99"]


def test_an_evaluation_finds_the_weights_of_a_folder_of_runs_that_was_moved(
    floor: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs"
    trained = runs / "synthetic" / floor.parent.name / floor.name
    shutil.copytree(floor, trained)
    assert main(["evaluate", str(trained), "--protocol", "sampled-19"]) == 0
    runs.rename(tmp_path / "moved")
    (evaluation,) = set((tmp_path / "moved" / "synthetic" / floor.parent.name).iterdir()) - {
        tmp_path / "moved" / "synthetic" / floor.parent.name / floor.name
    }
    assert main(["evaluate", str(evaluation), "--protocol", "full-unmasked"]) == 0
    shutil.rmtree(evaluation.with_name(floor.name))
    assert main(["evaluate", str(evaluation), "--protocol", "sampled-99"]) == 2
    assert "which is not there" in capsys.readouterr().err


def test_what_a_run_builds_on_is_found_in_a_folder_of_runs_that_was_moved(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = tmp_path / "moved"
    run, filter_run = (runs.joinpath(*finished.parts[-3:-1], name) for name in ("heir", "filter"))
    shutil.copytree(finished, run)
    filter_run.mkdir()
    config = yaml.safe_load((run / "config.yaml").read_text())
    there = str(Path("runs").joinpath(*filter_run.parts[-3:]))
    config["predecessors"] = {"filter": there, "gone": "runs/synthetic/other/gone", "kept": str(tmp_path)}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    assert moved_predecessors(run) == [f"--predecessors.filter={filter_run}"]
    named = configuration_of(run).config.predecessors
    assert named == config["predecessors"] | {"filter": str(filter_run)}
    runs.rename(tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    assert moved_predecessors(tmp_path / "runs" / run.relative_to(runs)) == []


def test_a_method_that_ranks_no_catalogue_is_refused(
    floor: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Popularity, "ranks_catalogue", False)
    assert main(["evaluate", str(floor), "--protocol", "full", "--runs", str(tmp_path)]) == 2
    assert "full ranks the whole catalogue.\nChoose protocols" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_evaluation_is_not_repeated(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(finished), "--runs", str(tmp_path)]) == 0
    assert main(["evaluate", str(finished), "--runs", str(tmp_path)]) == 0
    assert "Already done" in capsys.readouterr().out


def test_a_floor_is_made_anew_on_other_data_and_a_trained_model_is_refused(
    floor: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = ["--users", "70", "--items", "130", "--interactions", "600"]
    assert main(["prepare", "synthetic", *size, "--root", str(tmp_path / "stores")]) == 0
    other = ["--data", "synthetic", "--root", str(tmp_path / "stores"), "--runs", str(tmp_path / "runs")]
    assert main(["evaluate", str(floor), *other]) == 0
    (result,) = evaluations(tmp_path / "runs", floor)
    assert result.cases["test/full/overall"] == 70
    capsys.readouterr()
    assert main(["evaluate", str(finished), *other]) == 2
    assert "SASRec knows items by their ids" in capsys.readouterr().err
    own = ["--root", str(tmp_path / "stores"), "--runs", str(tmp_path / "runs")]
    assert main(["evaluate", str(finished), *own]) == 2
    assert "holds no prepared store" in capsys.readouterr().err


@pytest.fixture(scope="module")
def elsewhere(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A floor that weighs features, and its test on another data set."""
    runs = tmp_path_factory.mktemp("elsewhere")
    size = ["--users", "70", "--items", "130", "--interactions", "600"]
    assert main(["prepare", "synthetic", *size, "--root", str(runs / "stores")]) == 0
    assert main(["run", "--config", "synthetic/feature_floor", *options(root, runs)]) == 0
    (run,) = find_runs([runs])
    assert main(["evaluate", str(run), "--data", "synthetic", "--root", str(runs / "stores")]) == 0
    (test,) = (folder for folder in find_runs([runs]) if folder != run)
    return run, test


def test_a_test_of_a_floor_on_other_data_is_evaluated_and_recommends_as_it_was_fitted_there(
    elsewhere: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, test = elsewhere
    assert main(["evaluate", str(test), "--runs", str(tmp_path)]) == 0
    (again,) = find_runs([tmp_path])
    assert pl.read_parquet(again / "ranks.parquet").equals(pl.read_parquet(test / "ranks.parquet"))
    capsys.readouterr()
    assert main(["recommend", str(test), "--user", "u01", "--json"]) == 0
    scores = [row["score"] for row in json.loads(capsys.readouterr().out)["u01"]]
    assert len(set(scores)) > 1, "features without weights tie"


def test_a_test_on_other_data_finds_its_run_in_a_folder_of_runs_that_was_moved(
    elsewhere: tuple[Path, Path], tmp_path: Path
) -> None:
    run, test = elsewhere
    moved = tmp_path / "other" / "floor" / test.name
    shutil.copytree(run, tmp_path / Path(*run.parts[-3:]))
    shutil.copytree(test, moved)
    result = read_result(test)
    replace(result, checkpoint=str(tmp_path / "gone" / Path(*run.parts[-3:]))).write(moved)
    assert trained_run(moved) == tmp_path / Path(*run.parts[-3:])


def test_a_run_is_tested_on_its_own_store_whatever_was_prepared_since(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stores, size = str(tmp_path / "stores"), ["--users", "60", "--items", "128", "--interactions", "560"]
    prepare = ["prepare", "synthetic", *size, "--root", stores]
    assert main([*prepare, "--recipe", "planted-half"]) == 0
    assert main(["run", "--config", "synthetic/popularity", *options(tmp_path / "stores", tmp_path)]) == 0
    (run,) = find_runs([tmp_path / "synthetic"])
    # Of the same recipe, and of the one that is meant where none is named.
    assert main([*prepare, "--recipe", "planted-half", "--seed", "1"]) == 0
    assert main(prepare) == 0
    assert main(["evaluate", str(run), "--protocol", "sampled-19"]) == 0
    assert {read_result(found).data["recipe"] for found in find_runs([tmp_path / "synthetic"])} == {"planted-half"}


def test_a_folder_that_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(tmp_path)]) == 2
    assert "is not a run folder" in capsys.readouterr().err


def test_a_copied_run_writes_nothing_outside_a_folder_of_runs(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "a" / "b" / "copy"
    shutil.copytree(finished, copy)
    assert main(["evaluate", str(copy), "--protocol", "sampled-99"]) == 2
    assert "with --runs" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert main(["evaluate", str(copy), "--protocol", "sampled-99", "--runs", str(tmp_path / "runs")]) == 0


def test_a_loaded_run_scores_without_dropout(finished: Path) -> None:
    _, model = load_run(finished)
    assert not model.training


@pytest.mark.parametrize(("data", "message"), [("nowhere", "nowhere"), ("ml-100k", "recbench prepare ml-100k")])
def test_data_that_are_not_there_are_told(
    finished: Path, data: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(finished), "--data", data]) == 2
    assert message in capsys.readouterr().err


def test_a_run_on_some_users_is_not_tested_elsewhere(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["--data.scenario=few-shot-30", "--trainer.max_epochs=1", "--model.width=8"]
    assert main(["run", "--config", "synthetic/sasrec", *options(root, tmp_path, *few)]) == 0
    (run,) = find_runs([tmp_path])
    assert main(["evaluate", str(run), "--data", "synthetic"]) == 2
    assert "was trained under few-shot-30" in capsys.readouterr().err


@pytest.fixture(scope="module")
def few_shot(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A floor that knows 30 users: its score of an item is the number of times that these had it."""
    runs = tmp_path_factory.mktemp("few")
    own = options(root, runs, "--data.scenario=few-shot-30", "--data.test_protocols=[full-unmasked]")
    assert main(["run", "--config", "synthetic/popularity", *own]) == 0
    (run,) = find_runs([runs])
    return run


def test_a_run_of_some_users_is_tested_on_all_with_what_it_has_learnt(few_shot: Path, tmp_path: Path) -> None:
    assert main(["evaluate", str(few_shot), "--scenario", "overall", "--runs", str(tmp_path)]) == 0
    (folder,) = find_runs([tmp_path])
    # Who is cold or active is another matter where more is trained on.
    first, second = (pl.read_parquet(run / "ranks.parquet").select("protocol", *COLUMNS) for run in (folder, few_shot))
    assert first.equals(second)
    result, own = read_result(folder), read_result(few_shot)
    assert result.protocols["full-unmasked"]["fields"]["scenario"] == "few-shot-30 on overall"
    assert result.data["trained_under"] == "few-shot-30"
    assert result.marks == [*own.marks, "trained under few-shot-30"]
    assert result.cases["test/full-unmasked/trained_user"] == 30
    tables = build_tables([own, result])
    assert len(tables) == 2, "what was trained on fewer users is no rival of what was trained on all"


def test_what_a_model_is_told_of_training_is_that_of_its_own(few_shot: Path) -> None:
    changes: list[list[str]] = [[], ["--data.scenario=overall"]]
    own, tested = (built(few_shot, configuration_of(few_shot, given))[0] for given in changes)
    assert len(tested.events["train_end"]) == len(own.events["train_end"])
    assert not torch.equal(tested.events["train_end"], own.events["train_end"])
    assert torch.equal(tested.catalogue["train_count"], own.catalogue["train_count"])


def test_an_evaluation_is_evaluated_and_recommends_with_the_weights_of_its_run(
    few_shot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(few_shot), "--scenario", "overall", "--runs", str(tmp_path)]) == 0
    (first,) = find_runs([tmp_path])
    printed = []
    for run in (few_shot, first):
        capsys.readouterr()
        assert main(["recommend", str(run), "--user", "u03"]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    again = ["evaluate", str(first), "--protocol", "sampled-19", "--runs", str(tmp_path)]
    assert main(again) == 0
    (second,) = (folder for folder in find_runs([tmp_path]) if folder != first)
    assert read_result(second).checkpoint == str(few_shot)
    assert read_result(second).data["trained_under"] == "few-shot-30"


@pytest.mark.parametrize("scenario", ["cold-users", "few-shot-30"])
def test_a_run_that_has_seen_what_a_scenario_withholds_is_refused(
    finished: Path, scenario: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(finished), "--scenario", scenario, "--runs", str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert "A run trained under overall has learnt from" in message
    assert f"--data.scenario {scenario}" in message
    assert not list(tmp_path.iterdir())


def test_an_unknown_scenario_and_two_tests_at_once_are_told(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(finished), "--scenario", "cold-user"]) == 2
    assert "Did you mean 'cold-users'" in capsys.readouterr().err
    assert main(["evaluate", str(finished), "--scenario", "overall", "--data", "synthetic"]) == 2
    assert "Give --scenario or --data" in capsys.readouterr().err


@pytest.mark.parametrize("part", ["scorer", "metric version"])
def test_another_scorer_and_another_version_of_the_metrics_are_other_protocols(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    if part == "scorer":
        monkeypatch.setattr(SASRec, "protocol_overrides", lambda _: {"scorer": "mean"})
    else:
        monkeypatch.setattr("benchmarks.description.METRIC_VERSION", "another")
    assert main(["evaluate", str(finished), "--runs", str(tmp_path)]) == 0
    (result,) = evaluations(tmp_path, finished)
    usual = read_result(finished).protocols
    assert all(entry["id"] != usual[name]["id"] for name, entry in result.protocols.items())
