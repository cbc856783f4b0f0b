"""Conditions of a comparison: written answers, printed epochs, trainings on other data, and models by name."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from benchmarks.__main__ import main
from benchmarks.ledger.conditions import UNWRITTEN, named
from benchmarks.ledger.reported import REPORTED, read_paper
from benchmarks.runs import CONFIG, read_result
from tests.benchmarks.leaderboard.made_files import answered
from tests.benchmarks.ledger.made_papers import DATA, TINY, as_printed, written
from tests.benchmarks.made_results import made_run

GAMES: dict[str, Any] = {"dataset": "amazon-games", "data": {"recipe": "allmrec"}, "protocol": "sampled-19"}
OPT: dict[str, Any] = {"language_model": "facebook/opt-6.7b"}
ANSWERS = "test/sampled-19/overall/generated/legacy_hr@1"


def entries(runs: Path, paper: Path, capsys: pytest.CaptureFixture[str]) -> dict[tuple[str, str], dict[str, Any]]:
    """Entries that have runs, by table and method."""
    assert main(["ledger", str(runs), "--paper", str(paper), "--format", "json", "--found"]) == 0
    return {(entry["about"], entry["method"]): entry for entry in json.loads(capsys.readouterr().out)}


def wrote(run: Path, share: float) -> None:
    result = read_result(run)
    replace(result, metrics=result.metrics | {ANSWERS: share}).write(run)


def test_written_answers_face_what_the_paper_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(3):
        for method in ("allmrec", "tallrec", "allmrec_retrieval", "ncf"):
            run = made_run(tmp_path, method, 0.9, seed, **GAMES, **({} if method == "ncf" else OPT))
            as_printed(run, "allmrec", method)
            if method == "allmrec":
                wrote(run, 0.53)
    found = entries(tmp_path, REPORTED / "allmrec.yaml", capsys)
    everyone = "all test users"
    assert found[everyone, "allmrec"]["ours"] == pytest.approx(0.53)
    assert (found[everyone, "allmrec"]["verdict"], found[everyone, "allmrec"]["why"]) == (
        "reproduced", "ours: generated/legacy_hr@1"
    )  # fmt: skip
    assert (found[everyone, "tallrec"]["verdict"], found[everyone, "tallrec"]["why"]) == ("not comparable", UNWRITTEN)
    matched = found["joint vectors without the language model, and the retrieval style", "allmrec_retrieval"]
    assert (matched["verdict"], matched["why"]) == ("not reproduced", "")
    assert found[everyone, "ncf"]["why"] == "fewer than 5 seeds"
    ordering = found[everyone, "allmrec > tallrec"]
    assert (ordering["verdict"], ordering["why"]) == ("inconclusive", "not separated; by likelihood of titles")


def test_orderings_are_those_of_written_answers_where_every_one_is_stored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Likelihoods order the two the other way round.
    methods = {"allmrec": (0.3, 0.8, OPT), "tallrec": (0.9, 0.2, OPT), "sasrec_allmrec": (0.5, None, {})}
    for method, (rate, share, model) in methods.items():
        for seed in range(5):
            run = made_run(tmp_path, method, rate, seed, cases=1000, **GAMES, **model)
            as_printed(run, "allmrec", method)
            if share is not None:
                answered(run, np.random.default_rng(seed).permutation(np.arange(1000) < 1000 * share).tolist())
    found = entries(tmp_path, REPORTED / "allmrec.yaml", capsys)
    ordering = found["all test users", "allmrec > tallrec"]
    assert (ordering["verdict"], ordering["why"]) == ("reproduced", "separated; by written answers")
    assert ordering["difference"] == pytest.approx(0.6)
    # Where one of two writes, its answers face the other's ranks, as in the paper.
    assert found["all test users", "sasrec_allmrec > allmrec"]["verdict"] == "not reproduced"


@pytest.mark.parametrize(
    ("trainer", "barred"),
    [
        ("max_epochs: 5, max_steps: -1, limit_train_batches: 1.0", False),
        ("max_epochs: 7", False),
        ("max_epochs: 4", True),
        ("max_epochs: 5, max_steps: 3000", True),
        ("max_epochs: 5, limit_train_batches: 50", True),
        ("max_epochs: -1", True),
    ],
)
def test_the_printed_number_of_epochs_is_enough(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], trainer: str, barred: bool
) -> None:
    text = TINY.replace("  language_model", '  epochs: {"sas*": 5}\n  language_model')
    for method in ("sasrec", "caser"):
        for seed in range(5):
            run = made_run(tmp_path / "runs", method, 0.2, seed, training={"undertrained": seed < 2}, **DATA)
            (run / CONFIG).write_text(f"trainer: {{{trainer}}}")
    found = entries(tmp_path / "runs", written(tmp_path, text), capsys)
    assert ("undertrained" in found["all users", "sasrec"]["why"]) == barred
    assert "undertrained" in found["all users", "caser"]["why"]


@pytest.mark.parametrize(
    ("trained", "why"),
    [
        ({"data": {"recipe": "5-core"}}, "fewer than 5 seeds"),
        ({"data": {"recipe": "whole"}}, "trained on other data (recipe whole)"),
        ({"imputed_time": True}, "trained on other data (imputed times)"),
        (None, "unknown training on ml-1m"),
    ],
)
def test_a_test_on_other_data_needs_a_training_on_the_papers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], trained: dict[str, Any] | None, why: str
) -> None:
    made = {"dataset": "ml-1m", "data": {"recipe": "5-core"}} | (trained or {})
    source = "elsewhere" if trained is None else "runs"
    run = made_run(tmp_path / source, "sasrec", 0.1, **made)
    data = {"recipe": "5-core", "trained_on": "ml-1m"}
    changes = {"predecessors": {"checkpoint": run.name}, "fields": {"scenario": "from-ml-1m"}, "data": data}
    made_run(tmp_path / "runs", "sasrec", 0.2, **DATA | changes)
    paper = written(
        tmp_path, TINY.replace("    about", "    scenario: from-ml-1m\n    about").replace("[ml-1m]", "[ml-20m]")
    )
    assert entries(tmp_path / "runs", paper, capsys)["all users", "sasrec"]["why"] == why


OFFICE: dict[str, Any] = {"dataset": "amazon-office", "data": {"recipe": "released"}, "protocol": "sampled-99"}


@pytest.mark.parametrize(
    ("changes", "verdict", "why"),
    [
        ({}, "not reproduced", ""),
        ({"data.negatives": "train"}, "not comparable", "other settings (data.negatives train)"),
        (
            {"data.graph": "kg-train", "model.weight_lrd": 0.5},
            "not comparable",
            "other settings (data.graph kg-train, model.weight_lrd 0.5)",
        ),
        ({"model.discovery": None}, "not comparable", "model.discovery.num_latent unset"),
    ],
)
def test_runs_with_other_settings_than_the_papers_get_no_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], verdict: str, why: str
) -> None:
    for seed in range(5):
        run = made_run(tmp_path, "rcf_lrd", 0.9, seed, text_encoder="file:/office.feat.GPT:float64", **OFFICE)
        as_printed(run, "lrd", "rcf_lrd", **changes)
    found = entries(tmp_path, REPORTED / "lrd.yaml", capsys)
    figure = found["seed 2019, GPT vectors of width 1,536 from an unnamed model", "rcf_lrd"]
    assert figure["verdict"] == verdict
    assert why in figure["why"]


@pytest.mark.parametrize(
    ("dataset", "recipe", "why"),
    [
        ("amazon-office", "released", "fewer than 5 seeds"),
        ("amazon-office", "lrd-released", "vectors in another order of items (recipe lrd-released)"),
        ("amazon-electronics", "lrd", "vectors in another order of items (recipe lrd)"),
        ("ml-100k", "lrd-released", "fewer than 5 seeds"),
    ],
)
def test_vectors_of_a_file_are_the_papers_only_in_its_order_of_items(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], dataset: str, recipe: str, why: str
) -> None:
    made: dict[str, Any] = {"dataset": dataset, "data": {"recipe": recipe}, "protocol": "sampled-99"}
    reads: dict[str, Any] = {"text_encoder": "file:/any.feat.GPT:float64"}
    as_printed(made_run(tmp_path, "rcf_lrd", 0.4, **made, **reads), "lrd", "rcf_lrd")
    as_printed(made_run(tmp_path, "rcf", 0.4, **made), "lrd", "rcf")
    found = entries(tmp_path, REPORTED / "lrd.yaml", capsys)
    overall = "with LRD, either model is above both without it and all other methods"
    assert found[overall, "rcf_lrd > rcf"]["why"] == why


def test_a_logged_figure_of_a_short_training_is_not_comparable_with_runs_of_any_length(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(5):
        as_printed(made_run(tmp_path, "rcf", 0.1445, seed, **OFFICE), "lrd", "rcf")
    short = entries(tmp_path, REPORTED / "lrd.yaml", capsys)["RCF after 10 epochs", "rcf"]
    assert (short["verdict"], short["why"].partition(",")[0]) == ("not comparable", "it stopped after 10 epochs")


@pytest.mark.parametrize(
    ("option", "value", "why"),
    [
        ("weight_item", 0.5, ""),
        ("weight_item", 0.2, "other settings (allmrec_stage1.model.weight_item 0.2)"),
        ("weight_text", 0.2, "other settings (allmrec_stage1.model.weight_text 0.2)"),
    ],
)
def test_settings_of_the_run_behind_a_row_count_where_it_is_here(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, value: float, why: str
) -> None:
    for seed in range(3):
        stage1 = made_run(tmp_path, "allmrec_stage1", 0.5, seed, **GAMES)
        printed = read_paper(REPORTED / "allmrec.yaml").settings_of("allmrec", GAMES["dataset"]) | {
            f"allmrec_stage1.model.{option}": value
        }
        own = {name.removeprefix("allmrec_stage1."): value for name, value in printed.items() if "stage1" in name}
        (stage1 / CONFIG).write_text(yaml.safe_dump(own))
        run = made_run(tmp_path, "allmrec", 0.9, seed, **GAMES, **OPT, predecessors={"allmrec_stage1": stage1.name})
        as_printed(run, "allmrec", "allmrec")
        wrote(run, 0.53)
    figure = entries(tmp_path, REPORTED / "allmrec.yaml", capsys)["all test users", "allmrec"]
    assert (figure["verdict"], figure["why"].partition(";")[0]) == (
        ("not comparable", why) if why else ("reproduced", "ours: generated/legacy_hr@1")
    )


@pytest.mark.parametrize(
    ("name", "pattern", "same"),
    [
        ("facebook/opt-6.7b", "facebook/opt-6.7b", True),
        ("someone/opt-6.7b", "facebook/opt-6.7b", False),
        ("/models/opt-6.7b", "facebook/opt-6.7b", True),
        ("../opt-6.7b/", "facebook/opt-6.7b", True),
        ("opt-6.7b", "facebook/opt-6.7b", True),
        ("opt-6.7b, random weights", "facebook/opt-6.7b", False),
        ("sbert:facebook/opt-6.7b", "facebook/opt-6.7b", True),
        ("sbert:someone/opt-6.7b", "facebook/opt-6.7b", False),
        ("file:/vectors/opt-6.7b", "facebook/opt-6.7b", False),
        ("openai:text-embedding-ada-002", "openai:text-embedding-ada-002", True),
    ],
)
def test_a_folder_is_known_by_its_base_name_and_a_name_on_the_hub_is_not(name: str, pattern: str, same: bool) -> None:
    assert named(name, [pattern]) == same
