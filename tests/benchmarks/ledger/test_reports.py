"""Claims in words: figures of reports that judge or show them, the suites that make those, and what is refused."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import main
from benchmarks.experiments import find_suite
from benchmarks.html.ledger import write_ledger
from benchmarks.launch.reports import folder_name
from benchmarks.launch.rows import key_of, rows_of
from benchmarks.launch.suites import read_suite
from benchmarks.leaderboard.rows import build_table
from benchmarks.leaderboard.sources import Finished, own_runs
from benchmarks.ledger.copies import difference_from_papers
from benchmarks.ledger.reported import REPORTED, Paper, paper_names, read_paper
from benchmarks.ledger.reports import FIGURES, Reports, latent_cosine, made_by, two_hop_lead
from benchmarks.runs import read_result
from common.errors import UserError
from tests.benchmarks.ledger.made_papers import DATA, TINY, written
from tests.benchmarks.made_results import made_result, made_run

NAMED = """claims:
  - section: Section 5
    claim: genres are named
    suites: {ml-100k: [allmrec-ml-100k-generation]}
    above: {allmrec: [llm_only]}
    metric: genres@3
"""
LATENT = """claims:
  - section: Section 6
    claim: relations differ
    suites: {ml-100k: [lrd-ml-100k-relations]}
    of: [kda_lrd]
    metric: latent_cosine
    unjudged: There is no measure.
"""
ANALYSIS: dict[str, Any] = {
    "relations": ["virtual", "brand", "latent 1", "latent 2"],
    "cosines": [[1, 0, 0.9, 0], [0, 1, 0.1, -0.4], [0.9, 0.1, 1, 0.8], [0, -0.4, 0.8, 1]],
    "two_hops": [
        {"relation": "brand", "pairs": 10, "joined_by": "any", "share": 0.9, "degree_matched": 0.0},
        {"relation": "latent 1", "pairs": 30, "joined_by": "any", "share": 0.5, "degree_matched": 0.1},
        {"relation": "latent 1", "pairs": 30, "joined_by": "brand + brand", "share": 0.4, "degree_matched": 0.0},
        {"relation": "latent 2", "pairs": 10, "joined_by": "any", "share": 0.2, "degree_matched": 0.2},
    ],
}


def report(run: Path, suite: str, command: str, content: object) -> Path:
    """A report that a suite has made about a run."""
    result, (made, *_) = read_result(run), made_by((suite,), command)
    folder = run.parents[2] / "suites" / "mine" / folder_name(made, f"{result.method}-{result.seed}", result.run_id)
    folder.mkdir(parents=True)
    path = folder / next(figure.file for figure in FIGURES.values() if figure.command == command)
    path.write_text(json.dumps(content))
    return path


def genres(runs: Path, method: str, precision: float, seed: int = 0, **changes: Any) -> Path:  # noqa: ANN401
    run = made_run(runs, method, 0.2, seed, **DATA | changes)
    return report(run, "allmrec-ml-100k-generation", "generate", {"precision": {"@3": precision}})


def claimed(
    folder: Path, capsys: pytest.CaptureFixture[str], claims: str, format: str = "json", *options: str
) -> list[dict[str, Any]]:
    paper = written(folder, TINY + claims)
    places = [str(folder / "runs"), "--paper", str(paper), "--root", str(folder / "data")]
    assert main(["ledger", *places, "--format", format, *options]) == 0
    text = capsys.readouterr().out
    rows: list[dict[str, Any]] = json.loads(text) if format == "json" else list(csv.DictReader(text.splitlines()))
    return [row for row in rows if row["table"].startswith("Section")]


def test_a_copy_of_a_run_in_no_folder_of_runs_has_no_reports() -> None:
    claim = next(claim for claim in read_paper(REPORTED / "lrd.yaml").claims if claim.metric in FIGURES)
    result = made_result("kda_lrd", 0.3)
    (row,) = build_table([result], "full").rows
    assert Reports({result.run_id: Finished(result, Path("/copy"))}).cell([row], claim) is None


@pytest.mark.parametrize(
    ("leads", "verdict", "why"),
    [
        ([0.3, 0.31, 0.29, 0.3, 0.3], "reproduced", "separated over seeds"),
        ([-0.3, -0.31, -0.29, -0.3, -0.3], "not reproduced", "separated over seeds"),
        ([0.3, -0.3, 0.3, -0.3, 0.1], "inconclusive", "not separated over seeds"),
        ([0.3], "inconclusive", "fewer than 5 seeds"),
    ],
)
def test_an_ordering_by_a_report_is_judged_over_the_seeds_that_have_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], leads: list[float], verdict: str, why: str
) -> None:
    for seed, lead in enumerate(leads):
        genres(tmp_path / "runs", "allmrec", 0.4 + lead, seed)
        genres(tmp_path / "runs", "llm_only", 0.4, seed)
    made_run(tmp_path / "runs", "allmrec", 0.2, seed=9, **DATA)
    (row,) = claimed(tmp_path, capsys, NAMED)
    assert (row["kind"], row["method"], row["verdict"], row["why"]) == ("ordering", "allmrec > llm_only", verdict, why)
    assert (row["seeds"], row["difference"], row["ours"]) == (len(leads), pytest.approx(sum(leads) / len(leads)), None)
    assert len(row["runs"]) == 2 * len(leads)


def test_the_one_report_about_a_floor_holds_for_every_seed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (1, 2, 3):
        genres(tmp_path / "runs", "allmrec", 0.7 + seed / 100, seed, language_model="facebook/opt-6.7b")
    genres(tmp_path / "runs", "llm_only", 0.4, 1, language_model="facebook/opt-6.7b", closed_form=True)
    (row,) = claimed(tmp_path, capsys, NAMED)
    assert (row["verdict"], row["why"], row["seeds"]) == ("reproduced", "separated over seeds", 3)
    assert row["difference"] == pytest.approx(0.32)
    assert len(row["runs"]) == 4


def test_a_stand_in_that_names_genres_is_not_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for method in ("allmrec", "llm_only"):
        genres(tmp_path / "runs", method, 0.4, language_model="standin-abc")
    (row,) = claimed(tmp_path, capsys, NAMED)
    assert (row["verdict"], row["why"]) == ("not comparable", "other language model (standin-abc)")


def test_without_a_report_a_claim_is_missing_and_says_what_shows_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for method in ("allmrec", "llm_only", "kda_lrd"):
        made_run(tmp_path / "runs", method, 0.2, **DATA)
    ((ordering,), (statement,)) = (claimed(tmp_path, capsys, claims, "csv") for claims in (NAMED, LATENT))
    assert (ordering["verdict"], ordering["suites"]) == ("missing", "allmrec-ml-100k-generation")
    assert (statement["verdict"], statement["why"]) == ("missing", "There is no measure.")
    assert claimed(tmp_path, capsys, LATENT, "json", "--found") == []


def test_what_no_figure_decides_is_shown_with_the_reports_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = made_run(tmp_path / "runs", "kda_lrd", 0.2, **DATA)
    report(run, "lrd-ml-100k-relations", "analyse", ANALYSIS)
    (row,) = claimed(tmp_path, capsys, LATENT)
    assert (row["kind"], row["method"], row["verdict"]) == ("claim", "kda_lrd", "shown, not judged")
    assert (row["why"], row["ours"], row["difference"]) == ("There is no measure.", 0.4, None)
    assert main(["ledger", str(tmp_path / "runs"), "--paper", str(tmp_path / "tiny.yaml")]) == 0
    text = capsys.readouterr().out
    assert "## Section 6: relations differ\n" in text
    assert "There is no measure.; shown by lrd-ml-100k-relations" in text


def test_an_ordering_of_ranks_may_be_shown_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for method, rate in (("kda_lrd", 0.4), ("kda", 0.3)):
        made_run(tmp_path / "runs", method, rate, **DATA)
    text = LATENT.replace("of: [kda_lrd]\n    metric: latent_cosine", "above: {kda_lrd: [kda]}")
    (row,) = claimed(tmp_path, capsys, text)
    assert (row["verdict"], row["why"]) == ("shown, not judged", "There is no measure.")
    assert row["difference"] == pytest.approx(0.1)


def test_a_statement_may_show_the_papers_metric_of_one_method(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(2):
        made_run(tmp_path / "runs", "kda_lrd", 0.4, seed, **DATA)
    (row,) = claimed(tmp_path, capsys, LATENT.replace("    metric: latent_cosine\n", ""))
    assert (row["verdict"], row["why"]) == ("shown, not judged", "There is no measure.")
    assert (row["ours"], row["difference"], len(row["runs"])) == (pytest.approx(0.4), None, 2)


def test_the_page_has_what_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = made_run(tmp_path / "runs", "kda_lrd", 0.2, **DATA)
    report(run, "lrd-ml-100k-relations", "analyse", ANALYSIS)
    written(tmp_path, TINY + LATENT)
    monkeypatch.setattr("benchmarks.html.ledger.REPORTED", tmp_path)
    monkeypatch.setattr("benchmarks.html.ledger.paper_names", lambda: ["tiny"])
    page = write_ledger(own_runs([tmp_path / "runs"]), tmp_path / "data", tmp_path / "site").read_text()
    assert '<button type="button" data-verdict="shown, not judged"' in page
    assert page.count('<tr data-verdict="shown, not judged">') == 1
    assert "<h2>Tiny, Section 6: relations differ</h2>" in page


def test_a_damaged_report_is_told_with_its_cure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for method in ("allmrec", "llm_only"):
        path = genres(tmp_path / "runs", method, 0.4)
    path.write_text("{}")
    paper = written(tmp_path, TINY + NAMED)
    assert main(["ledger", str(tmp_path / "runs"), "--paper", str(paper)]) != 0
    message = capsys.readouterr().err
    assert f"{path} is not a report of `recbench generate`" in message
    assert "Remove its folder" in message


def test_latent_relations_are_set_beside_predefined_ones_and_random_pairs() -> None:
    assert latent_cosine(ANALYSIS) == 0.4
    assert two_hop_lead(ANALYSIS) == pytest.approx((30 * 0.4 + 10 * 0.0) / 40)
    assert latent_cosine({"relations": ["virtual"], "cosines": [[1]]}) is None
    assert two_hop_lead({"two_hops": []}) is None


@pytest.mark.parametrize(
    ("claims", "before", "after", "message"),
    [
        (NAMED, "section: Section 5\n    ", "", "claims, 1: expected a field 'section'"),
        (NAMED, "    claim: genres are named\n", "", "claims, 1: expected a field 'claim'"),
        (NAMED, "    suites: {ml-100k: [allmrec-ml-100k-generation]}\n", "", "claims, 1: expected a field 'suites'"),
        (NAMED, "[allmrec-ml-100k-generation]", "[]", "claims, 1, suites, ml-100k: expected a list"),
        (NAMED, "-generation]", "-generatoin]", "expected a suite, found .*\nDid you mean 'allmrec-ml-100k-g"),
        (NAMED, "metric: genres@3", "metric: genres@4", "expected a figure of a report, found 'genres@4'"),
        (NAMED, "    above: {allmrec: [llm_only]}\n", "", "claims, 1: expected a field 'above'"),
        (LATENT, "    unjudged: There is no measure.\n", "", "claims, 1: expected a field 'unjudged'"),
    ],
)
def test_a_claim_without_what_it_needs_is_refused(
    tmp_path: Path, claims: str, before: str, after: str, message: str
) -> None:
    assert before in claims
    with pytest.raises(UserError, match=message):
        read_paper(written(tmp_path, TINY + claims.replace(before, after)))


@pytest.fixture(params=paper_names())
def paper(request: pytest.FixtureRequest) -> Paper:
    """A paper whose claims ship."""
    return read_paper(REPORTED / f"{request.param}.yaml")


def test_the_suites_of_a_claim_have_its_data_its_rows_and_its_report(paper: Paper) -> None:
    for claim in (claim for claim in paper.claims if claim.suites):
        for name in claim.suites:
            suite = read_suite(find_suite(name))
            (data,) = {data for data in suite.datasets if key_of(data) == claim.place.dataset}
            assert set(claim.methods) <= {row.label for row in rows_of(suite, data)}, name
            if claim.metric in FIGURES:
                (made,) = made_by((name,), FIGURES[claim.metric].command)
                assert set(claim.methods) <= set(made["methods"])


def test_behaviour_that_the_papers_describe_is_claimed() -> None:
    described = {claim.metric for name in paper_names() for claim in read_paper(REPORTED / f"{name}.yaml").claims}
    assert set(FIGURES) <= described


def test_a_claim_about_other_data_does_not_make_them_the_papers() -> None:
    reasons = [
        difference_from_papers(made_result("kda", 0.2, **DATA | {"data": {"recipe": recipe}}))
        for recipe in ("lrd", "5-core")
    ]
    assert reasons == ["", "not LRD's copy: recipe 5-core"]
