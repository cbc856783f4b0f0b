"""What the command prints, and what it refuses."""

import json
import re
import shutil
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from tests.benchmarks.leaderboard.made_files import packed
from tests.benchmarks.made_results import made_run


def write_all(folder: Path) -> None:
    made_run(folder, "popularity", 0.1, information_set=[], closed_form=True)
    for seed in range(5):
        made_run(folder, "model", 0.3 + seed / 200, seed)


def test_command_prints_what_lies_below_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_all(tmp_path)
    assert main(["leaderboard", str(tmp_path), "--format", "json"]) == 0
    assert {record["method"] for record in json.loads(capsys.readouterr().out)} == {"popularity", "model"}
    assert main(["leaderboard", str(tmp_path / "toy" / "model"), "--format", "csv"]) == 0
    assert "popularity" not in capsys.readouterr().out


def test_rows_are_filtered_by_what_they_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_all(tmp_path)
    assert main(["leaderboard", str(tmp_path), "--reads"]) == 0
    table = capsys.readouterr().out
    assert "*popularity*" in table
    assert "| model" not in table


@pytest.mark.parametrize(
    ("arguments", "cure"),
    [
        (["--slice", "cold_item"], "Did you mean 'cold_items'?"),
        (["--dataset", "toys"], "no finished run"),
        (["--reads", "orders"], "Did you mean 'order'?"),
    ],
)
def test_mistakes(arguments: list[str], cure: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_all(tmp_path)
    assert main(["leaderboard", str(tmp_path), *arguments]) == 2
    assert cure in capsys.readouterr().err


def test_a_slice_without_a_case_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = made_run(tmp_path, "model", 0.3)
    result = json.loads((folder / "result.json").read_text())
    result["cases"]["test/full/cold_user"] = 0
    (folder / "result.json").write_text(json.dumps(result))
    assert main(["leaderboard", str(tmp_path), "--slice", "cold_user"]) == 2
    error = capsys.readouterr().err
    assert "belongs to the slice 'cold_user'" in error
    assert "cold_items, overall" in error


@pytest.mark.parametrize("more", [[], ["--protocol", "full"]])
def test_a_seed_that_is_older_than_a_slice_is_left_out_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str]
) -> None:
    made_run(tmp_path, "model", 0.3, 1)
    made_run(tmp_path, "popularity", 0.1)
    older = made_run(tmp_path, "model", 0.31, 0, slice="warm")
    assert main(["leaderboard", str(tmp_path), "--slice", "cold_items", "--format", "json", *more]) == 0
    out, error = capsys.readouterr()
    assert {row["method"]: row["seeds"] for row in json.loads(out)} == {"model": 1, "popularity": 1}
    assert f"{older} without slice 'cold_items' are left out; `recbench evaluate`" in error
    assert main(["leaderboard", str(tmp_path), "--slices", "cold_items", "--format", "json", *more]) == 0
    out, error = capsys.readouterr()
    row = next(row for row in json.loads(out) if row["method"] == "model")
    assert (row["seeds"], row["slices"]["cold_items"]["n"], error) == (2, 1, "")
    assert main(["leaderboard", str(tmp_path), "--slices", "cold_items", *more]) == 0
    assert "cold_items (23)" in capsys.readouterr().out


def test_a_filtered_page_has_the_whole_ledger(tmp_path: Path) -> None:
    made_run(tmp_path / "runs", "rcf_lrd", 0.4, dataset="amazon-office", protocol="sampled-99")
    made_run(tmp_path / "runs", "model", 0.3)
    assert main(["leaderboard", str(tmp_path / "runs"), "--dataset", "toy", "--html", str(tmp_path / "site")]) == 0
    ledger = (tmp_path / "site" / "ledger.html").read_text()
    (run,) = (tmp_path / "runs" / "amazon-office" / "rcf_lrd").iterdir()
    assert f"<details><summary>1</summary>{run.name}</details>" in ledger


def test_a_page_comes_with_the_slices_that_were_asked_for(tmp_path: Path) -> None:
    write_all(tmp_path / "runs")
    site = tmp_path / "site"
    assert main(["leaderboard", str(tmp_path / "runs"), "--slices", "cold_items", "--html", str(site)]) == 0
    assert "cold_items/ndcg@10" in (site / "leaderboard.csv").read_text()
    assert "cold_items (23)" in (site / "leaderboard.md").read_text()


def test_one_table_of_two_protocols_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_all(tmp_path)
    made_run(tmp_path, "other", 0.2, fields={"masking": "none"})
    assert main(["leaderboard", str(tmp_path), "--protocol", "full"]) == 2
    assert "masking" in capsys.readouterr().err


def test_verdicts_stand_in_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_all(tmp_path)
    assert main(["leaderboard", str(tmp_path), "--slices", "cold_items"]) == 0
    lines = [re.sub(" +", " ", line) for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert lines[0].startswith("| | ranks | tie | method |")
    assert "cold_items (23)" in lines[0]
    assert lines[2].startswith("| 1 | 1 | a | model |")
    assert lines[3].startswith("| 2 | 2 | b | *popularity* |")


@pytest.mark.parametrize(("damage", "message"), [(b"PAR1 nonsense", "is corrupted"), (None, "is missing")])
def test_ranks_that_cannot_be_read(
    damage: bytes | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = made_run(tmp_path, "model", 0.3) / "ranks.parquet"
    path.write_bytes(damage) if damage else path.unlink()
    assert main(["leaderboard", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert f"{path} {message}" in error
    assert "recbench evaluate" in error


def test_figures_that_ranks_belie_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = made_run(tmp_path, "model", 0.3)
    result = json.loads((folder / "result.json").read_text())
    result["metrics"]["test/full/overall/ndcg@10"] += 0.01
    (folder / "result.json").write_text(json.dumps(result))
    assert main(["leaderboard", str(tmp_path)]) == 2
    assert "its ranks give ndcg@10" in capsys.readouterr().err


def test_a_result_of_another_version_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = made_run(tmp_path, "model", 0.3)
    result = json.loads((folder / "result.json").read_text()) | {"version": 0}
    (folder / "result.json").write_text(json.dumps(result))
    assert main(["leaderboard", str(tmp_path)]) == 2
    assert "version 0, not" in capsys.readouterr().err


def test_a_copy_counts_once_and_a_changed_copy_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = made_run(tmp_path, "model", 0.3)
    shutil.copytree(folder, tmp_path / "copy")
    assert main(["leaderboard", str(tmp_path), "--format", "json"]) == 0
    assert [record["seeds"] for record in json.loads(capsys.readouterr().out)] == [1]
    result = json.loads((folder / "result.json").read_text())
    result["metrics"]["test/full/overall/ndcg@10"] = 0.9
    (tmp_path / "copy" / "result.json").write_text(json.dumps(result))
    assert main(["leaderboard", str(tmp_path)]) == 2
    assert "the same run id but different results" in capsys.readouterr().err


def test_a_packed_run_that_is_not_there_is_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["leaderboard", str(tmp_path / "nope.recbench.zip")]) == 2
    assert f"There is no file {tmp_path / 'nope.recbench.zip'}" in capsys.readouterr().err


def test_a_folder_of_packed_runs_is_told_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = packed(tmp_path / "made")
    shared = tmp_path / "shared"
    shared.mkdir()
    path.rename(shared / path.name)
    capsys.readouterr()
    assert main(["leaderboard", str(shared)]) == 2
    assert f"Name them: {shared}/*.recbench.zip" in capsys.readouterr().err
    assert main(["leaderboard", *map(str, shared.glob("*.recbench.zip"))]) == 0
