"""Times in the ledger: of training, of a batch of the test, and relative to another method."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import main
from benchmarks.runs import CONFIG
from tests.benchmarks.ledger.made_papers import DATA, TINY, written
from tests.benchmarks.made_results import made_run


def ours(folder: Path, capsys: pytest.CaptureFixture[str], metric: str, table: str = "") -> dict[str, Any]:
    """Entries about a metric by method, with ``table`` among the fields of its table."""
    text = (
        TINY.replace("best: sasrec, ", "")
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
    made_run(tmp_path / "runs", "sasrec", 0.2, **DATA, seconds={"train": 30.0, "test": 15.0})
    assert ours(tmp_path, capsys, metric, relative)["sasrec"]["verdict"] == "missing"
    for seed, train in enumerate((110.0, 130.0)):
        made_run(tmp_path / "runs", "caser", 0.1, seed, **DATA, seconds={"train": train, "test": 5.0})
    found = ours(tmp_path, capsys, metric, relative)
    assert found["sasrec"]["ours"] == pytest.approx(ratio)
    assert len(found["sasrec"]["runs"]) == 3
    assert found["caser"]["ours"] == 1.0
