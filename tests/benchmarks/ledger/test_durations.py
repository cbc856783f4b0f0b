"""Times in the ledger: of training, of a batch of the test, and relative to another method."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import main
from benchmarks.ledger.reported import REPORTED, Claim, ReportedFigure, read_paper
from benchmarks.runs import CONFIG
from tests.benchmarks.ledger.made_papers import DATA, TINY, written
from tests.benchmarks.made_results import made_run

A6000: dict[str, Any] = {"processor": "EPYC", "cores": 16, "memory": 2**37, "gpus": ["NVIDIA RTX A6000"]}


def ours(
    folder: Path, capsys: pytest.CaptureFixture[str], metric: str, table: str = "", order: str = ""
) -> dict[str, Any]:
    """Entries about a metric by method, with ``table`` among the fields of its table and ``order`` in its column."""
    text = (
        TINY.replace("best: sasrec, ", order)
        .replace("{hr@10: 0.1, ndcg@10: 0.05}", "9")
        .replace("sasrec: 0.2", "sasrec: 3")
    )
    paper = written(folder, text.replace("    about", f"    metric: {metric}\n{table}    about"))
    assert main(["ledger", str(folder / "runs"), "--paper", str(paper), "--format", "json"]) == 0
    return {entry["method"]: entry for entry in json.loads(capsys.readouterr().out)}


def test_minutes_of_training_count_what_a_run_is_made_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = made_run(tmp_path / "runs", "caser", 0.1, **DATA, seconds={"train": 60.0})
    made_run(tmp_path / "runs", "sasrec", 0.2, **DATA, seconds={"train": 30.0}, predecessors={"caser": first.name})
    found = ours(tmp_path, capsys, "train_minutes")
    assert (found["caser"]["ours"], found["sasrec"]["ours"]) == (1.0, 1.5)


def test_a_run_that_two_others_are_made_from_is_counted_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = made_run(tmp_path / "runs", "gru4rec", 0.1, **DATA, seconds={"train": 60.0})
    made_from = {"filter": first.name}
    second = made_run(tmp_path / "runs", "caser", 0.1, **DATA, seconds={"train": 30.0}, predecessors=made_from)
    made_from["stage1"] = second.name
    trained = made_run(tmp_path / "runs", "ncf", 0.2, **DATA, seconds={"train": 90.0}, predecessors=made_from)
    made_run(tmp_path / "runs", "sasrec", 0.2, **DATA, predecessors={"checkpoint": trained.name})
    assert ours(tmp_path, capsys, "train_minutes")["sasrec"]["ours"] == 3.0


def test_a_batch_of_the_test_takes_its_share_of_the_seconds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = made_run(tmp_path / "runs", "sasrec", 0.2, cases=200, **DATA, seconds={"test": 50.0})
    (run / CONFIG).write_text("data: {init_args: {eval_batch_size: 32}}")
    made_run(tmp_path / "runs", "caser", 0.1, **DATA, seconds={"test": 50.0})
    found = ours(tmp_path, capsys, "inference_seconds")
    assert found["sasrec"]["ours"] == 32 * 50 / 200
    assert found["caser"]["verdict"] == "missing"  # its batches are unknown


@pytest.mark.parametrize(("metric", "ratio"), [("train_ratio", 0.25), ("inference_ratio", 3.0)])
def test_ratios_are_relative_to_a_method(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], metric: str, ratio: float
) -> None:
    relative = "    relative_to: caser\n"
    for seed, share in enumerate((0.9, 1.1)):
        seconds = {"train": 30.0 * share, "test": 15.0 * share}
        made_run(tmp_path / "runs", "sasrec", 0.2, seed, **DATA, seconds=seconds)
    assert ours(tmp_path, capsys, metric, relative)["sasrec"]["verdict"] == "missing"
    for seed in range(1, 3):
        made_run(tmp_path / "runs", "caser", 0.1, seed, **DATA, seconds={"train": 132.0, "test": 5.5})
    found = ours(tmp_path, capsys, metric, relative)
    assert found["sasrec"]["ours"] == pytest.approx(ratio)
    assert (found["sasrec"]["seeds"], len(found["sasrec"]["runs"])) == (1, 4)
    assert found["caser"]["ours"] == 1.0


def timed(
    folder: Path,
    method: str,
    train: float,
    hardware: dict[str, Any] | None,
    seeds: int = 5,
    **changes: Any,  # noqa: ANN401
) -> None:
    """Runs whose seconds of training differ a little by seed."""
    for seed in range(seeds):
        environment = {} if hardware is None else {"hardware": hardware}
        seconds = {"train": train * (1 + seed / 1000), "test": train}
        made_run(folder / "runs", method, 0.2, seed, **DATA | changes, environment=environment, seconds=seconds)


@pytest.mark.parametrize(
    ("hardware", "verdict", "why"),
    [
        (A6000, "reproduced", ""),
        (A6000 | {"gpus": ["NVIDIA H200"]}, "not comparable", "other hardware (NVIDIA H200)"),
        (A6000 | {"gpus": ["NVIDIA RTX A6000"] * 2}, "not comparable", "other hardware (NVIDIA RTX A6000, NVIDIA RTX"),
        (A6000 | {"gpus": []}, "not comparable", "other hardware (EPYC)"),
        (None, "not comparable", "unknown hardware"),
    ],
)
def test_minutes_face_those_on_the_same_gpus(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], hardware: dict[str, Any] | None, verdict: str, why: str
) -> None:
    timed(tmp_path, "sasrec", 180.0, hardware)
    record = ours(tmp_path, capsys, "train_minutes", '    gpus: ["*A6000*"]\n')["sasrec"]
    assert (record["verdict"], record["why"][: len(why)]) == (verdict, why)
    assert record["ours"] == pytest.approx(3.0, rel=0.01)


def test_minutes_are_those_of_every_training_behind_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = made_run(
        tmp_path / "runs", "caser", 0.1, **DATA, seconds={"train": 90.0}, environment={"hardware": {"gpus": ["H200"]}}
    )
    timed(tmp_path, "sasrec", 90.0, A6000, 1, predecessors={"filter": first.name})
    record = ours(tmp_path, capsys, "train_minutes", '    gpus: ["*A6000*"]\n')["sasrec"]
    assert (record["ours"], record["why"].partition(";")[0]) == (3.0, "other hardware (H200)")


@pytest.mark.parametrize("metric", ["train_ratio", "inference_ratio"])
@pytest.mark.parametrize(
    ("other", "verdict", "why"),
    [
        ({}, "reproduced", ""),
        ({"memory": 2**36}, "reproduced", ""),
        ({"gpus": ["NVIDIA H200"]}, "not comparable", "times on several machines"),
    ],
)
def test_a_ratio_is_judged_on_whichever_one_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], metric: str, other: dict[str, Any], verdict: str, why: str
) -> None:
    machine = {"processor": "EPYC", "cores": 2, "gpus": []}
    timed(tmp_path, "sasrec", 30.0, machine)
    timed(tmp_path, "caser", 10.0, machine | other)
    record = ours(tmp_path, capsys, metric, "    relative_to: caser\n")["sasrec"]
    assert (record["verdict"], record["why"]) == (verdict, why)


@pytest.mark.parametrize(
    ("better", "seeds", "other", "verdict", "why"),
    [
        ("sasrec", 5, {}, "reproduced", "separated over seeds"),
        ("caser", 5, {}, "not reproduced", "separated over seeds"),
        ("sasrec", 3, {}, "inconclusive", "fewer than 5 seeds"),
        ("sasrec", 5, {"cores": 4}, "not comparable", "times on several machines"),
    ],
)
def test_an_ordering_by_time_is_judged_over_seeds_on_one_machine(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    better: str,
    seeds: int,
    other: dict[str, Any],
    verdict: str,
    why: str,
) -> None:
    machine = {"processor": "EPYC", "cores": 2, "gpus": []}
    timed(tmp_path, "sasrec", 180.0, machine, seeds)
    timed(tmp_path, "caser", 120.0, machine | other)
    order = f"best: {better}, "
    worse = "caser" if better == "sasrec" else "sasrec"
    record = ours(tmp_path, capsys, "train_minutes", '    gpus: ["*A6000*"]\n', order)[f"{better} > {worse}"]
    assert (record["verdict"], record["why"], record["seeds"]) == (verdict, why, seeds)
    assert record["difference"] == pytest.approx(1.0 if better == "sasrec" else -1.0, rel=0.01)


def test_speed_that_a_paper_claims_is_barred_by_nothing_but_conditions_on_runs() -> None:
    allmrec = read_paper(REPORTED / "allmrec.yaml")
    of_time = ("train_minutes", "inference_seconds", "train_ratio", "inference_ratio")
    printed: list[ReportedFigure | Claim] = [*allmrec.cells, *allmrec.claims]
    own = [one for one in printed if one.metric in of_time and not one.place.source]
    assert len(own) == 12
    assert {one.place.differs for one in own} == {""}
    assert {one.metric for one in own if not one.place.gpus} == {"train_ratio", "inference_ratio"}
