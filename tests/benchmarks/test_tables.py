"""The same rows as Markdown, CSV and JSON, and what the command refuses."""

import csv
import io
import json
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.leaderboard import build_table, build_tables
from benchmarks.tables import as_csv, as_json, as_markdown
from tests.benchmarks.made_results import made_result

RESULTS = [
    made_result("popularity", 0.1, information_set=[], closed_form=True),
    *(made_result("model", 0.3 + seed / 100, seed) for seed in range(3)),
]


def write_all(folder: Path) -> None:
    for number, result in enumerate(RESULTS):
        (folder / str(number)).mkdir()
        result.write(folder / str(number))


def test_markdown_marks_floors_primary_and_missing_ranks() -> None:
    text = as_markdown(build_tables(RESULTS))
    assert "| 1 | *popularity* |" in text
    assert "|  | model | 0.3100 ± 0.0100 |" in text
    assert "**ndcg@10**" in text
    assert "fewer than 5 seeds have no rank" in text


def test_small_slices_are_put_in_brackets() -> None:
    text = as_markdown([build_table(RESULTS, "full", "cold_items")])
    assert "12 test cases" in text
    assert "no conclusion" in text
    assert "(0.5000 ± 0.0000)" in text


def test_csv_and_json_hold_the_same_figures() -> None:
    tables = build_tables(RESULTS)
    rows = list(csv.DictReader(io.StringIO(as_csv(tables))))
    records = json.loads(as_json(tables))
    figures = {(r["method"], name): cell["mean"] for r in records for name, cell in r["metrics"].items()}
    assert {(row["method"], row["metric"]): float(row["mean"]) for row in rows} == figures
    assert {row["std"] for row in rows if row["method"] == "popularity"} == {""}


def test_command_prints_what_lies_below_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_all(tmp_path)
    assert main(["leaderboard", str(tmp_path), "--format", "json"]) == 0
    assert {record["method"] for record in json.loads(capsys.readouterr().out)} == {"popularity", "model"}
    assert main(["leaderboard", str(tmp_path / "1"), str(tmp_path / "2"), "--format", "csv"]) == 0
    assert "popularity" not in capsys.readouterr().out


def test_rows_are_filtered_by_what_they_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_all(tmp_path)
    assert main(["leaderboard", str(tmp_path), "--reads"]) == 0
    assert "| model |" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "cure"),
    [(["--part", "cold_item"], "Did you mean 'cold_items'?"), (["--dataset", "toys"], "no finished run")],
)
def test_mistakes(arguments: list[str], cure: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_all(tmp_path)
    assert main(["leaderboard", str(tmp_path), *arguments]) == 2
    assert cure in capsys.readouterr().err


def test_one_table_of_two_protocols_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_all(tmp_path)
    (tmp_path / "other").mkdir()
    made_result("other", 0.2, fields={"masking": "none"}).write(tmp_path / "other")
    assert main(["leaderboard", str(tmp_path), "--protocol", "full"]) == 2
    assert "masking" in capsys.readouterr().err
