"""Verdicts come from the runs' ranks, and only over rows with seeds enough."""

import csv
import io
import json
from pathlib import Path

import pytest

from benchmarks.leaderboard.formats import as_csv, as_json
from benchmarks.leaderboard.judge import judged
from benchmarks.leaderboard.rows import Table, build_table
from benchmarks.leaderboard.sources import own_runs
from common.errors import UserError
from tests.benchmarks.made_results import made_run


def table_of(runs: Path) -> Table:
    found = own_runs([runs])
    return judged(build_table([run.result for run in found], "full"), found, resamples=1000)


def test_twins_share_a_letter_and_a_planted_gain_has_its_own(tmp_path: Path) -> None:
    for seed in range(5):
        made_run(tmp_path, "best", 0.40 + seed / 1000, seed, cases=2000)
        made_run(tmp_path, "one", 0.20 + seed / 1000, seed, cases=2000)
        made_run(tmp_path, "twin", 0.20 + seed / 1000, seed, cases=2000)
    rows = table_of(tmp_path).rows
    assert [row.standing.group for row in rows if row.standing] == ["a", "b", "b"]
    assert [row.standing.ranks for row in rows if row.standing] == [(1, 1), (2, 3), (2, 3)]


def test_too_few_seeds_get_an_interval_and_no_verdict(tmp_path: Path) -> None:
    for seed in range(5):
        made_run(tmp_path, "many", 0.4, seed)
    made_run(tmp_path, "few", 0.1)
    table = table_of(tmp_path)
    few = table.rows[1].standing
    assert few is not None
    assert (few.ranks, few.group) == (None, "")
    assert few.lead is not None
    assert few.lead[1] < few.lead[0] < few.lead[2] < 0
    assert not table.pairs[0, 1][3]


def test_a_stand_in_has_an_interval_and_is_compared_with_nothing(tmp_path: Path) -> None:
    for seed in range(5):
        for name, rate in (("best", 0.40), ("worst", 0.20)):
            made_run(tmp_path, name, rate + seed / 1000, seed, cases=2000)
        made_run(tmp_path, "made", 0.30 + seed / 1000, seed, cases=2000, language_model="standin-text")
    table = table_of(tmp_path)
    found = [(row.method, row.standing.ranks, row.standing.group) for row in table.rows if row.standing]
    assert found == [("best", (1, 1), "a"), ("made", None, ""), ("worst", (2, 2), "b")]
    assert table.rows[1].standing
    assert table.rows[1].standing.lead
    assert [table.pairs[pair][3] for pair in ((0, 1), (1, 2), (0, 2))] == [False, False, True]


def test_difference_is_that_of_the_means_both_ways(tmp_path: Path) -> None:
    made_run(tmp_path, "a", 0.4)
    made_run(tmp_path, "b", 0.2)
    table = table_of(tmp_path)
    means = [row.metrics["ndcg@10"].mean for row in table.rows]
    assert table.pairs[0, 1][0] == pytest.approx(means[0] - means[1])
    assert table.pairs[1, 0][:2] == pytest.approx((-table.pairs[0, 1][0], -table.pairs[0, 1][2]))


def test_files_tell_the_difference_to_the_best_and_to_each_other_row(tmp_path: Path) -> None:
    for name, value in {"a": 0.4, "b": 0.3, "c": 0.2}.items():
        made_run(tmp_path, name, value)
    table = table_of(tmp_path)
    lines = {row["method"]: row for row in csv.DictReader(io.StringIO(as_csv([table]))) if row["metric"] == "ndcg@10"}
    assert [lines["a"][name] for name in ("lead", "lead_low", "lead_high")] == ["", "", ""]
    told = tuple(float(lines["c"][name]) for name in ("lead", "lead_low", "lead_high"))
    assert told == table.pairs[2, 0][:3]
    against = {record["method"]: record["against"] for record in json.loads(as_json([table]))}
    assert {name: set(others) for name, others in against.items()} == {"a": {*"bc"}, "b": {*"ac"}, "c": {*"ab"}}
    assert tuple(against["b"]["c"].values()) == table.pairs[1, 2]


def test_a_slice_is_judged_on_its_own_cases(tmp_path: Path) -> None:
    for seed in range(5):
        made_run(tmp_path, "best", 0.40 + seed / 1000, seed, cases=2000)
        made_run(tmp_path, "worst", 0.20 + seed / 1000, seed, cases=2000)
    found = own_runs([tmp_path])
    table = judged(build_table([run.result for run in found], "full", "cold_items"), found, resamples=1000)
    means = [row.metrics["ndcg@10"].mean for row in table.rows]
    assert table.pairs[0, 1][0] == pytest.approx(means[0] - means[1])
    assert table.pairs[0, 1][3]


def test_ranks_of_other_cases_are_refused(tmp_path: Path) -> None:
    made_run(tmp_path, "a", 0.4)
    made_run(tmp_path, "b", 0.2, cases=100)
    with pytest.raises(UserError, match="ranks of other cases"):
        table_of(tmp_path)
