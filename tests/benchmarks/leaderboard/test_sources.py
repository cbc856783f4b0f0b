"""Runs of one id are one run, or one of them is wrong."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from benchmarks.__main__ import main
from benchmarks.leaderboard.command import gather, tables_of
from benchmarks.leaderboard.sources import own_runs
from benchmarks.results import write_ranks
from benchmarks.runs import RANKS, read_result
from common.errors import UserError
from tests.benchmarks.leaderboard.made_files import answered, packed, true_run

SAME_ID = "the same run id but different results"


def reordered(run: Path) -> Path:
    write_ranks(pl.read_parquet(run / RANKS).reverse(), run / RANKS)
    return run


def exchanged(run: Path) -> Path:
    """The run with the ranks of two cases exchanged, which leaves every figure as it was."""
    table = pl.read_parquet(run / RANKS)
    higher = table["higher"].to_list()
    other = next(number for number, value in enumerate(higher) if value != higher[0])
    higher[0], higher[other] = higher[other], higher[0]
    write_ranks(table.with_columns(higher=pl.Series(higher, dtype=table["higher"].dtype)), run / RANKS)
    return run


def test_the_order_in_which_cases_are_stored_makes_no_other_run(tmp_path: Path) -> None:
    true_run(tmp_path / "a")
    reordered(true_run(tmp_path / "b"))
    assert len(gather([tmp_path])) == 1


def test_other_ranks_with_equal_figures_are_another_run(tmp_path: Path) -> None:
    one = true_run(tmp_path / "a")
    other = exchanged(true_run(tmp_path / "b"))
    with pytest.raises(UserError, match=SAME_ID) as error:
        gather([tmp_path])
    assert str(one) in str(error.value)
    assert str(other) in str(error.value)


def test_answers_are_gains_of_their_cases_where_they_are_stored(tmp_path: Path) -> None:
    metric = "generated/legacy_hr@1"
    answered(true_run(tmp_path / "a"), [1, 0, 0, 0] * 50)
    true_run(tmp_path / "b", seed=1)
    read, unread = (own_runs([tmp_path / name])[0] for name in "ab")
    assert [run.stores("full", metric) for run in (read, unread)] == [True, False]
    _, _, gains = read.gains("full", metric)
    assert gains.tolist() == [1, 0, 0, 0] * 50


def test_copies_of_a_packed_file_are_one_run(tmp_path: Path) -> None:
    path = packed(tmp_path)
    copy = tmp_path / "copy.zip"
    copy.write_bytes(path.read_bytes())
    assert [run.result.marks for run in gather([path, copy])] == [["self-reported"]]


def test_two_files_of_one_id_that_differ_are_refused(tmp_path: Path) -> None:
    paths = [packed(tmp_path / name, rate, seconds=5.0 + rate) for name, rate in (("a", 0.3), ("b", 0.31))]
    with pytest.raises(UserError, match=SAME_ID):
        gather(paths)


def test_a_file_that_gives_a_run_from_here_other_ranks_is_refused(tmp_path: Path) -> None:
    path = packed(tmp_path, 0.31)
    true_run(tmp_path / "here", 0.3, seconds={"train": 5.0, "test": 1.0})
    with pytest.raises(UserError, match=SAME_ID):
        gather([tmp_path / "here", path])


@pytest.mark.parametrize("train", [9.0, 0.0])
def test_the_same_seed_run_elsewhere_is_a_replay(tmp_path: Path, train: float) -> None:
    path = packed(tmp_path, 0.31, seconds=train and 5.0)
    here = true_run(tmp_path / "here", 0.3, seconds={"train": train, "test": 2.0})
    (run,) = gather([tmp_path / "here", path])
    assert run.path == here
    (mark,) = run.result.marks
    assert mark == f"replayed: {here.name} by {here.name}"


def damaged(run: Path, runs: Path) -> Path:
    """A copy of a run, below ``runs``, whose ranks cannot be read."""
    copy = runs / "synthetic" / "floor" / run.name
    shutil.copytree(run, copy)
    (copy / RANKS).write_bytes(b"PAR1 nonsense")
    return copy


def belied(run: Path, runs: Path) -> Path:
    """A copy of a run, below ``runs``, whose figures are better than its ranks."""
    copy = runs / "synthetic" / "floor" / run.name
    shutil.copytree(run, copy)
    result = read_result(copy)
    replace(result, metrics={name: value + 0.1 for name, value in result.metrics.items()}).write(copy)
    return copy


@pytest.mark.parametrize("harm", [damaged, belied])
def test_the_advice_for_damaged_ranks_helps(
    harm: Callable[[Path, Path], Path], floor: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = harm(floor, tmp_path)
    assert main(["leaderboard", str(tmp_path)]) == 2
    advice = re.search("`recbench ([^`]+)`", capsys.readouterr().err)
    assert advice is not None
    assert main(advice[1].split()) == 0
    capsys.readouterr()
    # A suite names the run's own folder alone.
    for place in (tmp_path, copy):
        assert main(["leaderboard", str(place), "--format", "json"]) == 0
        out, err = capsys.readouterr()
        ours = read_result(floor).metrics["test/full/overall/ndcg@10"]
        row = next(row for row in json.loads(out) if row["protocol"] == "full")
        assert row["metrics"]["ndcg@10"]["mean"] == pytest.approx(ours)
        assert row["runs"] != [floor.name]
        assert f"{copy} is damaged" in err


def test_an_evaluation_under_another_protocol_mends_nothing(floor: Path, tmp_path: Path) -> None:
    copy = damaged(floor, tmp_path)
    assert main(["evaluate", str(copy), "--protocol", "sampled-99"]) == 0
    assert copy in [run.path for run in own_runs([tmp_path])]


def test_a_sound_run_stays_beside_its_evaluation(floor: Path, tmp_path: Path) -> None:
    shutil.copytree(floor, tmp_path / "synthetic" / "floor" / floor.name)
    assert main(["evaluate", str(tmp_path / "synthetic" / "floor" / floor.name)]) == 0
    (row,) = next(table for table in tables_of(own_runs([tmp_path])) if table.protocol == "full").rows
    assert [run.run_id for run in row.runs] == [floor.name]


def test_what_lies_beside_a_run_need_not_be_in_order(tmp_path: Path) -> None:
    run = true_run(tmp_path)
    (run.with_name("other")).mkdir()
    (run.with_name("other") / "result.json").write_text("{")
    assert [found.path for found in own_runs([run])] == [run]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("metrics", {"test/full/overall/hr@5": 0.9}, "its ranks give hr@5 .* under full, but its result says 0.9"),
        ("metrics", {"test/full/overall/mrr": float("nan")}, "its ranks give mrr .* but its result says nan"),
        ("metrics", {"test/full/overall/ndcg@10": float("nan")}, "its ranks give ndcg@10 .* says nan"),
        ("metrics", {"test/full/overall/coverage@10": float("nan")}, r"coverage@10 under full is nan"),
        ("metrics", {"test/full/cold_items/hr@10": 0.99}, "hr@10 .* under full on cold_items, but .* 0.99"),
        ("cases", {"test/full/cold_items": 7000}, "on cold_items, but its result says 7000"),
    ],
)
def test_every_figure_that_ranks_give_is_checked(
    key: str, value: dict[str, float], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = true_run(tmp_path)
    result = read_result(run)
    replace(result, **{key: getattr(result, key) | value}).write(run)
    assert main(["leaderboard", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert re.search(message, err), err
    assert "recbench evaluate" in err


def test_a_result_without_the_primary_metric_is_checked_as_well(tmp_path: Path) -> None:
    run = true_run(tmp_path)
    result = read_result(run)
    replace(result, metrics={"test/full/overall/hr@10": 0.99}).write(run)
    with pytest.raises(UserError, match="its ranks give hr@10"):
        tables_of(own_runs([tmp_path]))
