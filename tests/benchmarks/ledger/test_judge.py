"""Verdicts: what confirms a figure, what does not, and what may not be compared with it."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest

from allmrec.baselines.recformer import FROM_SCRATCH
from benchmarks.__main__ import main
from benchmarks.leaderboard.rows import Cell
from benchmarks.ledger.command import figure_of, store_figures
from benchmarks.ledger.conditions import Data
from benchmarks.ledger.judge import Prepared, Verdict, against_band
from benchmarks.ledger.reported import REPORTED, Place, ReportedFigure
from common.data.store import read_store
from tests.benchmarks.ledger.made_papers import DATA, TINY, as_printed, written
from tests.benchmarks.made_results import made_run

SENTENCES, LONGFORMER = "sentence-transformers/nq-distilbert-base-v1", "allenai/longformer-base-4096"


@pytest.mark.parametrize(
    ("mean", "std", "n", "verdict"),
    [
        (0.50, 0.001, 5, "reproduced"),
        (0.52, 0.001, 5, "reproduced"),
        (0.60, 0.001, 5, "not reproduced"),
        (0.40, 0.001, 5, "not reproduced"),
        (0.525, 0.02, 5, "inconclusive"),
        (0.50, 0.001, 2, "inconclusive"),
        (0.50, None, 1, "inconclusive"),
    ],
)
def test_our_interval_against_the_band(mean: float, std: float | None, n: int, verdict: Verdict) -> None:
    printed = ReportedFigure(Place("Table 1", "", "ml-100k", "full"), "sasrec", "hr@10", 0.5, 0.05)
    assert against_band(printed, Cell(mean, std, n))[0] == verdict


def records(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], *options: str, text: str = TINY
) -> list[dict[str, Any]]:
    paper = written(tmp_path, text)
    places = [str(tmp_path / "runs"), "--paper", str(paper), "--root", str(tmp_path / "data")]
    assert main(["ledger", *places, "--format", "json", *options]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


def verdicts(found: list[dict[str, Any]]) -> dict[tuple[str, str], str]:
    return {(record["method"], record["metric"]): record["verdict"] for record in found}


def test_figures_and_orderings_are_judged_from_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(5):
        made_run(tmp_path / "runs", "sasrec", 0.2, seed, **DATA)
        made_run(tmp_path / "runs", "caser", 0.05, seed, **DATA)
    found = records(tmp_path, capsys)
    judged = verdicts(found)
    assert judged["sasrec", "hr@10"] == "reproduced"
    assert judged["caser", "hr@10"] == "not reproduced"
    assert judged["sasrec > caser", "hr@10"] == "inconclusive"  # hr@10 is not the metric that verdicts are about
    assert judged["", "users"] == "missing"
    assert len(next(record for record in found if record["method"] == "sasrec")["runs"]) == 5


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"data": {"recipe": "whole"}}, "other data (recipe whole)"),
        ({"language_model": "standin-abc"}, "other language model (standin-abc)"),
        ({"text_encoder": "minilm"}, "other text encoder (minilm)"),
        ({"dataset": "ml-1m"}, "other data (ml-1m)"),
        ({"data": {"recipe": "5-core", "time": "ordinal"}}, "other data (ordinal times)"),
        ({"imputed_time": True}, "other data (imputed times)"),
        ({"language_model": "someone/opt-6.7b"}, "other language model (someone/opt-6.7b)"),
    ],
)
def test_what_is_not_the_papers_faces_no_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], reason: str
) -> None:
    for seed in range(3):
        made_run(tmp_path / "runs", "sasrec", 0.2, seed, **DATA | change)
    record = next(record for record in records(tmp_path, capsys) if record["method"] == "sasrec")
    assert (record["verdict"], record["why"]) == ("not comparable", reason)
    assert record["ours"] == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("method", "own", "other"),
    [
        ("morec", SENTENCES, LONGFORMER),
        ("ctrl", SENTENCES, "minilm"),
        ("recformer", LONGFORMER, SENTENCES),
        ("recformer", LONGFORMER, FROM_SCRATCH),
    ],
)
def test_a_method_faces_the_papers_figure_on_the_encoder_that_it_had_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], method: str, own: str, other: str
) -> None:
    made: dict[str, Any] = {"dataset": "amazon-games", "data": {"recipe": "allmrec"}, "protocol": "sampled-19"}
    reasons = []
    for encoder in (own, other):
        runs = tmp_path / Path(encoder).name
        as_printed(made_run(runs, method, 0.4, text_encoder=encoder, **made), "allmrec", method)
        assert main(["ledger", str(runs), "--paper", str(REPORTED / "allmrec.yaml"), "--format", "json"]) == 0
        found = [record for record in json.loads(capsys.readouterr().out) if record["method"] == method]
        reasons += [record["why"] for record in found if record["ours"] is not None]
    assert reasons == ["fewer than 5 seeds", f"other text encoder ({other})"]


def test_scenarios_face_their_own_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paper = written(tmp_path, TINY.replace("    about: all users", "    about: cold\n    scenario: cold-users"))
    for scenario in ("cold-users (truncated, 50)", "few-shot-256"):
        made_run(tmp_path / "runs", "sasrec", 0.2, fields={"scenario": scenario}, **DATA | {"run_id": scenario[:4]})
    assert main(["ledger", str(tmp_path / "runs"), "--paper", str(paper), "--format", "json"]) == 0
    record = next(r for r in json.loads(capsys.readouterr().out) if r["method"] == "sasrec")
    assert (record["runs"], record["why"]) == (["cold"], "other cold users (truncated)")


def test_a_test_of_a_training_on_another_data_set_leaves_the_papers_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for origin, verdict in (("amazon-beauty", "missing"), ("amazon-movies", "not comparable")):
        data = {"recipe": "allmrec", "trained_on": origin}
        made: dict[str, Any] = {"dataset": "amazon-games", "protocol": "sampled-19", "data": data}
        made_run(tmp_path / origin, "allmrec_sbert", 0.12, fields={"scenario": f"from-{origin}"}, **made)
        assert main(["ledger", str(tmp_path / origin), "--paper", "allmrec", "--format", "json"]) == 0
        found = [r for r in json.loads(capsys.readouterr().out) if r["table"] == "Table 7"]
        assert [r["verdict"] for r in found if r["method"] == "allmrec_sbert"] == [verdict]


def test_an_ordering_is_reproduced_where_its_methods_are_separated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(5):
        made_run(tmp_path / "runs", "sasrec", 0.6, seed, cases=2000, **DATA)
        made_run(tmp_path / "runs", "caser", 0.3, seed, cases=2000, **DATA)
    text = TINY.replace("metric: hr@10", "metric: ndcg@10").replace("{hr@10: 0.1, ndcg@10: 0.05}", "0.1")
    for order, verdict in (("best: sasrec", "reproduced"), ("best: caser", "not reproduced")):
        paper = written(tmp_path, text.replace("best: sasrec", order))
        assert main(["ledger", str(tmp_path / "runs"), "--paper", str(paper), "--format", "json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert [r["verdict"] for r in found if r["kind"] == "ordering"] == [verdict]


def test_without_runs_everything_shipped_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["ledger", "--format", "csv"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert len(rows) > 300
    assert {row["verdict"] for row in rows} == {"missing", "not comparable", "not applicable"}


def test_markdown_counts_verdicts_and_keeps_tables_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = made_run(tmp_path / "runs", "sasrec", 0.2, **DATA)
    paper = written(tmp_path, TINY + "note: A word on all of it.\n")
    assert main(["ledger", str(tmp_path / "runs"), "--paper", str(paper), "--root", str(tmp_path)]) == 0
    text = re.sub(" +", " ", capsys.readouterr().out)
    assert "1 inconclusive" in text
    assert "## Table 2: all users\n" in text
    assert text.count("A word on all of it.") == 1
    figures = (
        "| ml-100k | overall | sasrec | hr@10 | 0.2000 | ± 10% | 0.2000 | +0.0000 | inconclusive | fewer than 5 seeds |"
    )
    assert f"{figures} {run.name} |" in text


def figure(found: list[dict[str, Any]], method: str = "sasrec") -> dict[str, Any]:
    return next(record for record in found if (record["method"], record["metric"]) == (method, "hr@10"))


@pytest.mark.parametrize(
    "change",
    [
        {"text_encoder": "/models/nq-distilbert"},
        {"text_encoder": "file:/data/Office.feat.GPT:float64"},
        {"text_encoder": "sbert:sentence-transformers/nq-distilbert"},
        {"language_model": "opt-6.7b"},
    ],
)
def test_models_are_known_by_name_and_by_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any]
) -> None:
    for seed in range(5):
        made_run(tmp_path / "runs", "sasrec", 0.2, seed, **DATA | change)
    assert figure(records(tmp_path, capsys))["verdict"] == "reproduced"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"training": {"undertrained": True}}, "undertrained (5 of 5)"),
        ({"fields": {"selection": "sampled-99 ndcg@5"}}, "selected on sampled-99"),
        ({"tuning": {"seed": 3}}, "tuned on one of its seeds"),
        ({"predecessors": {"sasrec_allmrec": "0a1b"}}, "seeds share a predecessor"),
        ({"fields": {"scorer": "mean"}}, "scorer mean"),
        ({"fields": {"prompt_order": "2"}}, "prompt order 2"),
        ({"cases": 60}, "fewer than 100 cases"),
    ],
)
def test_a_row_with_a_caveat_earns_no_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], reason: str
) -> None:
    for seed in range(5):
        made_run(tmp_path / "runs", "sasrec", 0.2, seed, **DATA | change)
        made_run(tmp_path / "runs", "caser", 0.9, seed, **DATA | change)
    for record in records(tmp_path, capsys):
        if record["method"]:
            assert record["verdict"] == "inconclusive"
            assert reason in record["why"]


def test_a_language_model_needs_fewer_seeds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(3):
        made_run(tmp_path / "runs", "sasrec", 0.2, seed, **DATA | {"language_model": "facebook/opt-6.7b"})
        made_run(tmp_path / "runs", "caser", 0.1, seed, **DATA)
    found = records(tmp_path, capsys)
    assert figure(found)["verdict"] == "reproduced"
    assert figure(found, "caser")["why"] == "fewer than 5 seeds"


def test_a_floor_needs_one_seed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made_run(tmp_path / "runs", "sasrec", 0.2, **DATA | {"closed_form": True})
    made_run(tmp_path / "runs", "caser", 0.9, **DATA | {"closed_form": True})
    found = records(tmp_path, capsys)
    assert figure(found)["verdict"] == "reproduced"
    assert figure(found, "caser")["verdict"] == "not reproduced"


def test_of_several_configurations_none_is_picked_by_its_score(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(5):
        for name, rate in (("a", 0.2), ("b", 0.9)):
            made_run(tmp_path / "runs", "sasrec", rate, seed, **DATA | {"config_id": name})
    record = figure(records(tmp_path, capsys))
    assert (record["verdict"], record["why"], record["ours"]) == ("inconclusive", "2 configurations: name one", None)
    assert len(record["runs"]) == 10


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ({}, {"text_encoder": "minilm"}),
        ({}, {"fields": {"scorer": "mean"}}),
        ({}, {"fields": {"cases": 100}, "cases": 100}),
    ],
)
def test_the_row_made_like_the_paper_faces_its_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], better: dict[str, Any], worse: dict[str, Any]
) -> None:
    for seed in range(5):
        made_run(tmp_path / "runs", "sasrec", 0.2, seed, **DATA | {"config_id": "a"} | better)
        made_run(tmp_path / "runs", "sasrec", 0.21, seed, **DATA | {"config_id": "b"} | worse)
    record = figure(records(tmp_path, capsys))
    assert (record["verdict"], record["ours"]) == ("reproduced", pytest.approx(0.2))


def test_the_row_with_its_experiments_settings_faces_the_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(5):
        for width, rate in ((50, 0.2), (64, 0.21)):
            run = made_run(tmp_path / "runs", "sasrec", rate, seed, **DATA | {"config_id": f"{width}"})
            (run / "config.yaml").write_text(f"model: {{init_args: {{width: {width}}}}}")
    assert figure(records(tmp_path, capsys))["ours"] == pytest.approx(0.2)


def test_an_ordering_on_a_slice_is_judged_on_its_cases(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(5):
        for method, rate in (("sasrec", 0.6), ("caser", 0.3)):
            made_run(tmp_path / "runs", method, rate, seed, 2000, slice="cold_item", **DATA)
    text = TINY.replace("metric: hr@10", "metric: ndcg@10").replace("{hr@10: 0.1, ndcg@10: 0.05}", "0.1")
    paper = written(tmp_path, text.replace("{dataset: ml-100k, best", "{dataset: ml-100k, slice: cold_item, best"))
    assert main(["ledger", str(tmp_path / "runs"), "--paper", str(paper), "--format", "json"]) == 0
    (record,) = [record for record in json.loads(capsys.readouterr().out) if record["kind"] == "ordering"]
    assert (record["verdict"], record["why"], record["cases"]) == ("reproduced", "separated", 223)


def test_a_table_may_be_of_what_no_run_measures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made_run(tmp_path / "runs", "sasrec", 0.2, **DATA)
    text = TINY.replace("    about", "    not_applicable: tests only\n    about")
    found = [record for record in records(tmp_path, capsys, text=text) if record["method"]]
    assert {(record["verdict"], record["why"], record["ours"]) for record in found} == {
        ("not applicable", "tests only", None)
    }


def test_a_table_may_require_a_recipe_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made_run(tmp_path / "runs", "sasrec", 0.2, **DATA)
    text = TINY.replace("    about", "    recipe: [whole]\n    about")
    assert figure(records(tmp_path, capsys, text=text))["why"] == "other data (recipe 5-core)"


def test_what_can_have_no_figure_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = TINY.replace("best: sasrec", "best: sasrec, not_applicable: {caser: It knows ids.}")
    paper = written(
        tmp_path, text.replace("values: {sasrec", "values: {clcrec: 0.1, sasrec") + "not_implemented: [clcrec]\n"
    )
    assert main(["ledger", str(tmp_path), "--paper", str(paper), "--root", str(tmp_path), "--format", "json"]) == 0
    found = {record["method"]: record for record in json.loads(capsys.readouterr().out)}
    for method in ("caser", "sasrec > caser"):
        assert (found[method]["verdict"], found[method]["why"]) == ("not applicable", "It knows ids.")
    for method in ("clcrec", "sasrec > clcrec"):
        assert (found[method]["verdict"], found[method]["why"]) == ("not comparable", "not implemented")


def test_counts_are_exact_and_stores_stand_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = {"5-core-a": 943, "5-core-b": 944, "lrd-c": 943, "whole-d": 943, "5-core-e": 943}
    times = {"5-core-e": "ordinal"}
    stores = [
        Prepared(Data("ml-100k", name[:-2], times.get(name, "real")), name, {"users": users})
        for name, users in kinds.items()
    ]
    monkeypatch.setattr("benchmarks.ledger.command.store_figures", lambda _: stores)
    made_run(tmp_path / "runs", "popularity", 0.1)
    text = TINY.replace("[5-core]", "[5-core, lrd]")
    found = [record for record in records(tmp_path, capsys, text=text) if not record["method"]]
    assert [(r["verdict"], r["difference"], r["why"], r["runs"]) for r in found] == [
        ("reproduced", 0, "recipe 5-core; its stores disagree", ["5-core-a"]),
        ("not reproduced", 1, "recipe 5-core; its stores disagree", ["5-core-b"]),
        ("reproduced", 0, "recipe lrd", ["lrd-c"]),
    ]
    del stores[:3]
    found = [record for record in records(tmp_path, capsys) if not record["method"]]
    assert {record["verdict"] for record in found} == {"not comparable"}
    assert [record["why"] for record in found] == ["other data (recipe whole)", "other data (ordinal times)"]


def test_a_store_has_its_density_and_the_parts_of_its_split(root: Path) -> None:
    found = store_figures(root)
    assert found
    for store in found:
        opened = read_store(root / store.data.dataset / store.name)
        split = opened.split()
        events = len(split["sequences"]["items"])
        tested, validated = (len(split[part]["user"]) for part in ("test", "val"))
        assert store.figures["test_cases"] == tested
        assert store.figures["train_events"] + validated + tested == events
        cells = store.figures["users"] * store.figures["items"]
        assert store.figures["density"] == pytest.approx(events / cells, abs=5e-7)


@pytest.mark.parametrize(
    ("metric", "text"),
    [("pairs_brand", "7"), ("parameters", "7"), ("loss_kge", "7.000"), ("density", "7.000000"), ("hr@5", "7.0000")],
)
def test_figures_have_the_decimals_of_their_kind(metric: str, text: str) -> None:
    assert figure_of(7.0, metric) == text


def test_counts_may_follow_from_other_recipes_than_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Prepared(Data("ml-100k", "lrd"), "lrd-a", {"users": 943})
    monkeypatch.setattr("benchmarks.ledger.command.store_figures", lambda _: [store])
    made_run(tmp_path / "runs", "sasrec", 0.2, **DATA | {"data": {"recipe": "lrd"}})
    text = TINY.replace("statistics: {", "statistics: {recipe: {ml-100k: [5-core, lrd]}, ")
    found = records(tmp_path, capsys, text=text)
    assert [(r["verdict"], r["why"]) for r in found if not r["method"]] == [("reproduced", "recipe lrd")]
    assert figure(found)["why"] == "other data (recipe lrd)"


@pytest.mark.parametrize(("model", "both"), [("facebook/opt-1.3b", 0.3), (None, 0.2)])
def test_rows_are_renamed_where_a_suite_has_turned_a_part_off_and_the_paper_has_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], model: str | None, both: float
) -> None:
    text = TINY.replace("    about", "    aliases: {sasrec: sasrec_ce, caser: sasrec}\n    about")
    made_run(tmp_path / "runs", "sasrec", 0.2, **DATA, language_model=model)
    alone = records(tmp_path, capsys, text=text)
    assert (figure(alone)["ours"], figure(alone, "caser")["ours"]) == (0.2, None)
    made_run(tmp_path / "runs", "sasrec_ce", 0.3, **DATA, language_model=model)
    found = records(tmp_path, capsys, text=text)
    assert (figure(found)["ours"], figure(found, "caser")["ours"]) == (both, 0.2)
