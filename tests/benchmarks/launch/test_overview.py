"""The list of suites knows sizes, states and data without planning a run."""

import fcntl
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import main
from benchmarks.experiments import experiment_names, suite_names
from benchmarks.launch.journal import LOCK
from benchmarks.launch.overview import DECISIVE, Overview, finished_settings, overview
from benchmarks.launch.plan import plan
from benchmarks.launch.suites import Suite
from benchmarks.launch.times import (
    TESTED,
    Estimate,
    Expected,
    budget_in,
    clock,
    durations,
    estimate,
    expected,
    shipped_sizes,
    shipped_suite_times,
    shipped_times,
)
from benchmarks.settings import setting_of
from common.data.stores import find_store
from common.errors import UserError
from tests.benchmarks.conftest import options

SUITE = Suite("toy", ["synthetic"], ["popularity", "sasrec"], [1, 2], {"trainer.max_epochs": 1, "model.width": 8})


def look(suite: Suite, root: Path, runs: Path) -> Overview:
    return overview("toy", suite, root, runs, finished_settings(runs), durations(runs))


def test_a_closed_form_counts_once_like_in_the_plan(root: Path, tmp_path: Path) -> None:
    suite = Suite("toy", ["synthetic"], ["popularity", "sasrec", "joint_dot"], [1, 2])
    assert look(suite, root, tmp_path).runs == len(plan(suite, root, tmp_path)) == 9


def test_what_a_method_is_anyway_counts_once_like_in_the_plan(root: Path, tmp_path: Path) -> None:
    vary: dict[str, list[Any]] = {
        "model.width": [50, 8],
        "data.scenario": ["overall"],
        "model.discovery.init_args.num_latent": [5, 8],
        "model.discovery.init_args.weight_entropy": [0.1],
    }
    for method, kinds in (("joint_dot", list(vary)[1:2]), ("sasrec", list(vary)[:2]), ("rcf_lrd", list(vary)[2:])):
        suite = Suite("toy", ["synthetic"], [method], [1], vary={kind: vary[kind] for kind in kinds})
        assert look(suite, root, tmp_path).runs == len(plan(suite, root, tmp_path))
    frozen = {
        "stage1": {"of": "allmrec_stage1", "options": {"model.train_sbert": False}},
        "dot": {"of": "joint_dot", "with": {"allmrec_stage1": "stage1"}},
    }
    suite = Suite("toy", ["synthetic"], ["joint_dot"], [1], variants=frozen)
    assert look(suite, root, tmp_path).runs == len(plan(suite, root, tmp_path)) == 3


def test_methods_with_a_language_model_may_take_fewer_seeds(root: Path, tmp_path: Path) -> None:
    options = {"model.llm": "opt"}
    suite = Suite("toy", ["synthetic"], ["sasrec", "tallrec"], [1, 2], changes={"tallrec": options}, seeds_llm=[2])
    assert [(entry.method, entry.seed) for entry in plan(suite, root, tmp_path)] == [
        ("sasrec", 1), ("sasrec", 2), ("tallrec", 2)
    ]  # fmt: skip
    assert look(suite, root, tmp_path).runs == 3


def test_a_closed_form_with_a_language_model_takes_the_first_of_its_own_seeds(root: Path, tmp_path: Path) -> None:
    options = {"model.llm": "opt"}
    suite = Suite("toy", ["synthetic"], ["llm_only"], [1, 2, 3], changes={"llm_only": options}, seeds_llm=[3, 2])
    assert [(entry.method, entry.seed) for entry in plan(suite, root, tmp_path)] == [("llm_only", 2)]
    done = {option: setting_of("synthetic/llm_only", option) for option in DECISIVE} | {
        "model.llm": "opt",
        "run_id": "a",
        "fingerprint": find_store(root, "synthetic").manifest.fingerprint,
    }
    settings = {("synthetic", "llm_only", 2): [done]}
    assert overview("toy", suite, root, tmp_path, settings, {}).state == "done"


def test_what_needs_a_language_model_may_not_have_more_seeds(root: Path, tmp_path: Path) -> None:
    heir = tmp_path / "heir.yaml"
    heir.write_text("{model: {class_path: SASRec}, needs: [tallrec]}")
    changes = {"tallrec": {"model.llm": "opt"}}
    suite = Suite("toy", ["synthetic"], [str(heir)], [1, 2], changes=changes, seeds_llm=[2])
    with pytest.raises(UserError, match=r"heir with seed 1 needs tallrec, which has only the seeds \[2\]"):
        plan(suite, root, tmp_path)


def test_a_run_counts_as_done_where_its_settings_are_the_suites(root: Path, tmp_path: Path) -> None:
    suite = Suite("toy", ["synthetic"], ["sasrec"], [1, 2], {"trainer.max_epochs": 1, "model.width": 8})
    for width in (8, 4):
        more = ["--seed_everything=1", "--trainer.max_epochs=1", f"--model.width={width}"]
        assert main(["run", "--config", "synthetic/sasrec", *options(root, tmp_path, *more)]) == 0
    assert (look(suite, root, tmp_path).state, look(suite, root, tmp_path).runs) == ("1 of 2 done", 2)
    # Whether a run names the recipe of its store or not.
    for recipe, state in (("planted", "1 of 2 done"), ("null-text", "to do")):
        assert look(replace(suite, datasets=[f"synthetic/{recipe}"]), root, tmp_path).state == state
    # What a suite does not name is as in the experiment, which trains for more epochs and on all users.
    assert look(replace(suite, options={"model.width": 8}), root, tmp_path).state == "to do"
    few = {"data.scenario": "few-shot-20"}
    more = [*more[:2], "--model.width=8", "--data.scenario=few-shot-20", "--seed_everything=2"]
    assert main(["run", "--config", "synthetic/sasrec", *options(root, tmp_path, *more)]) == 0
    assert look(suite, root, tmp_path).state == "1 of 2 done"
    assert look(replace(suite, options=suite.options | few), root, tmp_path).state == "1 of 2 done"


def test_a_run_counts_as_done_only_on_the_store_that_is_planned_on(tmp_path: Path) -> None:
    stores, runs = tmp_path / "stores", tmp_path / "runs"
    size = ["--users", "60", "--items", "128", "--interactions", "560", "--root", str(stores)]
    suite = Suite("toy", ["synthetic"], ["popularity"], [1])
    assert main(["prepare", "synthetic", *size, "--recipe", "planted-half"]) == 0
    assert main(["run", "--config", "synthetic/popularity", "--seed_everything=1", *options(stores, runs)]) == 0
    assert look(suite, stores, runs).state == "done"
    # The first of its recipes is the one that is meant where none is named.
    assert main(["prepare", "synthetic", *size]) == 0
    for datasets, state in ((["synthetic"], "to do"), (["synthetic/planted-half"], "done")):
        named = replace(suite, datasets=datasets)
        assert look(named, stores, runs).state == plan(named, stores, runs)[0].state == state


def test_only_runs_of_the_same_budget_tell_how_long_a_suite_takes(root: Path, tmp_path: Path) -> None:
    more = ["--seed_everything=1", "--trainer.max_epochs=1", "--model.width=8"]
    assert main(["run", "--config", "synthetic/sasrec_allmrec", *options(root, tmp_path, *more)]) == 0
    (((_, _, budget), seconds),) = durations(tmp_path).items()
    suite = Suite("toy", ["synthetic"], ["sasrec_allmrec"], [1], {"trainer.max_epochs": 1, "model.width": 16})
    (planned,) = plan(suite, root, tmp_path)
    assert planned.budget == budget
    found = look(suite, root, tmp_path)
    assert (found.seconds, found.unknown, found.elsewhere) == (seconds, 0, False)
    # Other epochs are those of the experiment, which another machine has timed.
    found = look(replace(suite, options={"model.width": 16}), root, tmp_path)
    assert (found.seconds, found.elsewhere) == (shipped_times()[1]["synthetic", "sasrec_allmrec"], True)
    # Fewer epochs or users take no longer than more do, here or elsewhere; more than anybody has timed, nobody knows.
    shipped = clock(shipped_times()[1]["synthetic", "sasrec_allmrec"])
    for changed, left in (
        ({"trainer.max_epochs": 1, "data.scenario": "few-shot-20"}, f"<{clock(seconds)}"),
        ({"trainer.max_epochs": 2}, f"<~{shipped}"),
        ({"trainer.max_epochs": 2, "data.scenario": "few-shot-20"}, f"<~{shipped}"),
        ({"trainer.max_epochs": 100_000}, "unknown"),
    ):
        assert look(replace(suite, options=changed), root, tmp_path).left == left


def test_data_say_what_they_lack(root: Path, tmp_path: Path) -> None:
    suites = {
        name: Suite("toy", ["ml-100k" if name == "absent" else "synthetic"], ["llm_only"]) for name in ("absent", "")
    }
    suites["other"] = Suite("toy", ["synthetic"], ["llm_only"], changes={"llm_only": {"model.llm": "opt"}})
    data = {name: look(suite, root, tmp_path).data for name, suite in suites.items()}
    assert data["absent"] == {"ml-100k": "not prepared"}
    assert data["other"] == {"synthetic": "ready"}
    assert look(replace(suites[""], datasets=["synthetic/planted"]), root, tmp_path).data == {
        "synthetic/planted": "no stand-in"
    }


def test_a_suite_under_way_is_running(root: Path, tmp_path: Path) -> None:
    place = tmp_path / "suites" / "toy"
    place.mkdir(parents=True)
    with (place / LOCK).open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert look(SUITE, root, tmp_path).state == "running, 0 of 3 done"
    assert look(SUITE, root, tmp_path).state == "to do"


def test_a_result_that_cannot_be_read_keeps_no_suite_from_being_told_of(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in (("torn", '{"run_id": '), ("other", '{"version": 99}')):
        (tmp_path / "toy" / name).mkdir(parents=True)
        (tmp_path / "toy" / name / "result.json").write_text(text)
    places = ["--root", str(root), "--runs", str(tmp_path)]
    assert main(["suite", "--list", *places]) == 0
    suite = tmp_path / "toy.yaml"
    suite.write_text("{about: toy, datasets: [synthetic], methods: [popularity]}")
    assert main(["suite", str(suite), "--dry-run", *places]) == 0
    assert "# 1 of 1 runs to do" in capsys.readouterr().out


def test_times_are_those_of_runs_here_before_those_that_are_shipped(root: Path, tmp_path: Path) -> None:
    shipped = shipped_times()[1]["synthetic", "tallrec"]
    suite = Suite("toy", ["synthetic"], ["tallrec"], [1, 2], vary={"data.batch_size": [4]})
    settings = finished_settings(tmp_path)
    found = overview("toy", suite, root, tmp_path, settings, {})
    assert (found.seconds, found.unknown, found.left) == (4 * shipped, 0, f"~{clock(4 * shipped)}")
    key = ("synthetic", "tallrec", budget_in("synthetic/tallrec"))
    own = overview("toy", suite, root, tmp_path, settings, {key: 5.0})
    assert (own.seconds, own.left) == (20, "20 s")
    # Of a language model of one's own or a budget without such a limit, nobody knows.
    for changed in ({"model.llm": "facebook/opt-6.7b"}, {"trainer.max_steps": -1}):
        assert overview("toy", replace(suite, options=changed), root, tmp_path, settings, {}).left == "unknown"


def test_a_method_that_was_timed_on_other_data_only_is_scaled_by_events() -> None:
    times, sizes = shipped_times()[1], shipped_sizes()
    assert ("amazon-games", "sasrec") not in times
    ratio = sizes["amazon-games"] / sizes["amazon-beauty"]
    found = expected({}, "amazon-games", ["sasrec"], budget_in("amazon-games/sasrec"))
    assert found == Expected(ratio * times["amazon-beauty", "sasrec"], elsewhere=True)
    # As many steps take as long whatever the data.
    found = expected({}, "amazon-games", ["tallrec"], budget_in("amazon-games/tallrec"))
    assert found == Expected(times["amazon-beauty", "tallrec"], elsewhere=True)
    assert math.isnan(expected({}, "amazon-games", ["tallrec"], TESTED).seconds)


def test_a_suite_that_was_timed_whole_needs_its_share_of_that_time() -> None:
    name, whole = next(iter(shipped_suite_times().items()))
    unknown, known = Expected(math.nan), Expected(7.0)
    assert estimate([unknown, known], name, 4) == Estimate(whole / 2, 0, True)
    for other in (Expected(9.0, elsewhere=True), Expected(9.0, at_most=True)):
        assert estimate([other], name, 4) == Estimate(whole / 4, 0, True)
    assert estimate([known, known], name, 4) == Estimate(14.0, 0, False)
    assert estimate([unknown, known], "toy", 4) == Estimate(7.0, 1, False)


def test_recipes_that_rows_vary_are_data_too(root: Path, tmp_path: Path) -> None:
    suite = Suite("toy", ["synthetic/planted"], ["sasrec"], [1], vary={"data.recipe": ["null-text"]})
    found = look(suite, root, tmp_path)
    assert found.data == {"synthetic/planted": "ready", "synthetic/null-text": "not prepared"}


def test_shipped_times_are_of_shipped_experiments() -> None:
    assert set(shipped_suite_times()) <= set(suite_names())
    assert {f"{dataset}/{method}" for dataset, method in shipped_times()[1]} <= set(experiment_names())
    assert min(shipped_times()[1].values()) > 0


def test_every_shipped_suite_is_listed(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["suite", "--list", "--root", str(root), "--runs", str(tmp_path)]) == 0
    *lines, note, bound = capsys.readouterr().out.splitlines()
    assert note == f"# ~: as timed on {shipped_times()[0]}, or scaled by the number of events"
    assert bound == "# <: at most, as timed with more epochs, steps or users"
    assert [line.split()[0] for line in lines] == ["suite", *suite_names()]
    assert main(["suite"]) == 2
    assert "--list" in capsys.readouterr().err
