"""A suite over several stores of one data set: which is meant, and tests on one that nothing was trained on."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import main
from benchmarks.configuration import RunCLI
from benchmarks.experiments import find_suite, suite_names
from benchmarks.launch.overview import finished_settings, overview
from benchmarks.launch.plan import not_applicable, plan
from benchmarks.launch.rows import rows_of, transferable_in
from benchmarks.launch.suites import read_suite
from benchmarks.runs import read_result
from common.data.schema import Manifest
from common.errors import UserError
from tests.benchmarks.conftest import without_times
from tests.benchmarks.made_suites import patched, suite_file

SIZE = ["--users", "60", "--items", "128", "--interactions", "560"]


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with two synthetic worlds of different sizes."""
    root = tmp_path_factory.mktemp("worlds")
    for recipe, size in (("planted", SIZE), ("text-taste", ["--users", "50", *SIZE[2:]])):
        assert main(["prepare", "synthetic", "--recipe", recipe, *size, "--root", str(root)]) == 0
    return root


def test_a_recipe_is_that_of_its_data_set_alone(
    worlds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names, runs = ["synthetic/planted", "synthetic/text-taste"], tmp_path / "runs"
    suite = read_suite(suite_file(tmp_path, datasets=names, methods=["popularity"], seeds=[1]))
    entries = plan(suite, worlds, runs)
    assert [entry.label for entry in entries] == [
        "synthetic/popularity (planted) seed 1", "synthetic/popularity (text-taste) seed 1"
    ]  # fmt: skip
    assert [entry.dataset for entry in entries] == ["synthetic", "synthetic"]
    patched(monkeypatch, tmp_path)
    assert main(["suite", str(tmp_path / "toy.yaml"), "--root", str(worlds), "--runs", str(runs)]) == 0
    assert [read_result(entry.folder).data["recipe"] for entry in entries] == ["planted", "text-taste"]
    capsys.readouterr()
    seen = overview(
        "toy", replace(suite, datasets=[*names, "synthetic/null-text"]), worlds, runs, finished_settings(runs), {}
    )
    assert (seen.runs, seen.done) == (3, 2)
    assert seen.data == dict.fromkeys(names, "ready") | {"synthetic/null-text": "not prepared"}
    (tmp_path / "heir.yaml").write_text("like: toy\nabout: heir\ndatasets: [ml-100k]\n")
    heir = read_suite(tmp_path / "heir.yaml")
    assert [row.options for row in rows_of(heir, "ml-100k")] == [{}]
    # Without a recipe, the data set's default is meant.
    (one,) = plan(replace(suite, datasets=["synthetic"]), worlds, tmp_path / "others")
    assert one.folder.name == entries[0].folder.name


def test_a_world_is_named_with_its_recipe_by_its_suites() -> None:
    for name in suite_names():
        suite = read_suite(find_suite(name))
        assert "synthetic" not in suite.datasets, name


def test_methods_that_read_texts_are_tested_on_other_data(
    worlds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"data.recipe": "planted", "data.test_protocols": ["sampled-19"], "trainer.max_epochs": 1}
    options |= {"model.pretrain_epochs": 0, "model.refresh_epochs": 0}
    content: dict[str, Any] = {"methods": ["recformer"], "seeds": [1], "options": options}
    file = suite_file(tmp_path, **content, across=["synthetic/text-taste"])
    runs, places = tmp_path / "runs", ["--root", str(worlds), "--runs", str(tmp_path / "runs")]
    training, test = plan(read_suite(file), worlds, runs)
    wide = replace(read_suite(file), options=options | {"trainer.devices": 2, "trainer.strategy": "ddp"})
    assert [entry.devices for entry in plan(wide, worlds, runs)] == [2, 2], "a test takes as many as its run"
    assert (training.command, test.command, test.after) == ("run", "evaluate", (training.folder,))
    assert test.label == "synthetic/recformer (from-synthetic) seed 1"
    patched(monkeypatch, tmp_path)
    assert main(["suite", str(file), *places]) == 0
    assert plan(read_suite(file), worlds, runs)[1].state == "done", "it goes where the plan says"
    result = read_result(test.folder)
    assert (result.cases["test/sampled-19/overall"], result.data["trained_on"]) == (50, "synthetic")
    assert "test/sampled-19/cold_user" in result.cases
    assert "test/sampled-19/cold_item" not in result.cases, "the model saw no event of these items"
    assert "## synthetic, sampled-19, from-synthetic" in capsys.readouterr().out
    seen = overview("toy", read_suite(file), worlds, runs, finished_settings(runs), {})
    assert (seen.runs, seen.done, seen.data["synthetic/text-taste"]) == (2, 2, "ready")


def test_methods_that_know_items_by_ids_are_told_to_be_left_out_there(
    worlds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"data.recipe": "planted"}
    suite = read_suite(suite_file(tmp_path, methods=["sasrec"], options=options, across=["synthetic/text-taste"]))
    assert {entry.command for entry in plan(suite, worlds, tmp_path)} == {"run"}
    told = "synthetic/sasrec on synthetic/text-taste: not applicable: it knows items by their ids"
    file, places = str(tmp_path / "toy.yaml"), ["--root", str(worlds), "--runs", str(tmp_path / "runs")]
    assert main(["suite", file, *places, "--dry-run"]) == 0
    assert capsys.readouterr().out.startswith(f"# {told}\n")
    patched(monkeypatch, tmp_path, {"--config=synthetic/sasrec": 4})
    assert main(["suite", file, *places]) == 1
    assert capsys.readouterr().out.endswith(f"{told}\n")
    other = replace(suite, methods=["recformer"], across=["synthetic/null-text"])
    with pytest.raises(UserError, match="recbench prepare synthetic --recipe null-text"):
        plan(other, worlds, tmp_path)


def test_a_shipped_suite_tests_each_method_on_the_other_data_or_says_why_not(
    worlds: Path, tiny_standin: None, tmp_path: Path
) -> None:
    stores, name = shutil.copytree(worlds, tmp_path / "stores"), "allmrec-synthetic-across"
    assert main(["prepare", "synthetic", "--recipe", "planted", *SIZE, "--root", str(stores), "--standin-llm"]) == 0
    suite = read_suite(find_suite(name))
    planned = plan(suite, stores, tmp_path)
    tests = [entry for entry in planned if entry.command == "evaluate"]
    left_out = {line.partition(" on ")[0].removeprefix("synthetic/") for line in not_applicable(suite, stores)}
    assert left_out == {"sasrec_allmrec", "allmrec"}
    assert sorted([*left_out, *(test.method for test in tests)]) == sorted(suite.methods)
    trained = {entry.folder: entry for entry in planned}
    models = [RunCLI(trained[test.after[0]].arguments).config.model.init_args for test in tests]
    assert [model.vectors for model in models if "vectors" in model] == ["texts", "texts"]
    assert overview(name, suite, stores, tmp_path, {}, {}).runs == len(planned)


def test_a_control_goes_where_what_it_scores_can_go(tmp_path: Path) -> None:
    content: dict[str, Any] = {"methods": ["allmrec_null_context", "allmrec_sbert", "joint_dot", "allmrec_retrieval"]}
    suite = read_suite(suite_file(tmp_path, **content, across=["synthetic/text-taste"]))
    assert transferable_in(suite, "synthetic", rows_of(suite, "synthetic")) == {"allmrec_sbert"}
    suite = replace(suite, changes={"allmrec": {"model.vectors": "texts"}, "joint_dot": {"model.vectors": "texts"}})
    elsewhere = transferable_in(suite, "synthetic", rows_of(suite, "synthetic"))
    assert elsewhere == {"allmrec_sbert", "allmrec_null_context", "joint_dot"}


def test_optional_methods_that_read_times_are_left_out_where_none_were_recorded(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content: dict[str, Any] = {"methods": ["newest_first", "recent_popularity", "tisasrec"], "seeds": [1]}
    file = suite_file(tmp_path, **content, optional=["recent_popularity", "tisasrec"])
    suite, places = read_suite(file), ["--root", str(without_times(root, tmp_path / "stores"))]
    told = [
        f"# synthetic/{method}: not applicable: it reads times, which were not recorded" for method in suite.optional
    ]
    assert main(["suite", str(file), *places, "--runs", str(tmp_path), "--dry-run"]) == 0
    assert capsys.readouterr().out.splitlines()[:2] == told
    methods = [entry.method for entry in plan(suite, tmp_path / "stores", tmp_path)]
    assert methods == ["newest_first"], "what is not optional stays, and says what it lacks"
    assert overview("toy", suite, tmp_path / "stores", tmp_path, {}, {}).runs == 1
    for stores, options in ((root, {}), (tmp_path / "stores", {"data.allow_imputed_time": True})):
        assert len(plan(replace(suite, options=options), stores, tmp_path)) == 3


def test_a_target_without_texts_is_refused_before_anything_runs(
    worlds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Manifest.from_json

    def without_texts(text: str) -> Manifest:
        manifest = read(text)
        if manifest.recipe == "text-taste":
            manifest.stages[-1]["items_without_text"] = manifest.stages[-1]["items"]
        return manifest

    monkeypatch.setattr(Manifest, "from_json", without_texts)
    options = {"data.recipe": "planted"}
    suite = read_suite(suite_file(tmp_path, methods=["recformer"], options=options, across=["synthetic/text-taste"]))
    with pytest.raises(UserError, match="No item of synthetic/text-taste has a text"):
        plan(suite, worlds, tmp_path)
