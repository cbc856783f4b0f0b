"""Runs of one id are one run, or one of them is wrong."""

from pathlib import Path

import polars as pl
import pytest

from benchmarks.leaderboard.command import gather
from benchmarks.results import write_ranks
from benchmarks.runs import RANKS
from common.errors import UserError
from tests.benchmarks.leaderboard.made_files import packed, true_run

SAME_ID = "the same run id and different results"


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


def test_the_same_seed_run_elsewhere_is_a_replay(tmp_path: Path) -> None:
    path = packed(tmp_path, 0.31)
    here = true_run(tmp_path / "here", 0.3, seconds={"train": 9.0, "test": 1.0})
    (run,) = gather([tmp_path / "here", path])
    assert run.place == here
    (mark,) = run.result.marks
    assert mark == f"replayed: {here.name} by {here.name}"
