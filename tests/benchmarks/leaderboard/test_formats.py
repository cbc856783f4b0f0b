"""The same rows as Markdown, CSV and JSON."""

import csv
import io
import json
import re

import pytest

from benchmarks.leaderboard.formats import as_csv, as_json, as_markdown
from benchmarks.leaderboard.rows import build_table, build_tables
from tests.benchmarks.made_results import made_result

RESULTS = [
    made_result("popularity", 0.1, information_set=[], closed_form=True),
    *(made_result("model", 0.3 + seed / 100, seed) for seed in range(3)),
]


def test_markdown_marks_floors_primary_and_missing_ranks() -> None:
    ranked = [made_result("ranked", 0.2, seed) for seed in range(5)]
    text = re.sub(" +", " ", as_markdown(build_tables([*RESULTS, *ranked])))
    assert "| 2 | *popularity* |" in text
    assert "| | model | 0.3100 ± 0.0100 |" in text
    assert "**ndcg@10**" in text
    assert "fewer than 5 seeds (3 with an LLM) have no rank" in text


def test_columns_stand_below_each_other() -> None:
    lines = [line for line in as_markdown(build_tables(RESULTS)).splitlines() if line.startswith("|")]
    edges = {tuple(match.start() for match in re.finditer("[|]", line)) for line in lines}
    assert len(lines) == 4
    assert len(edges) == 1


def test_leakage_is_told_where_times_were_recorded() -> None:
    text = as_markdown(build_tables([made_result("model", 0.3, data={"leakage": 0.973})]))
    assert "For 97.3% of the test cases, the training data contain events after the target" in text
    assert "after the target" not in as_markdown(build_tables([made_result("model", 0.3, data={"leakage": None})]))


def test_small_slices_are_put_in_brackets() -> None:
    text = as_markdown([build_table(RESULTS, "full", "cold_items")])
    assert "12 test cases" in text
    assert "too few for conclusions" in text
    assert "(0.5000 ± 0.0000)" in text


def test_csv_and_json_hold_the_same_figures() -> None:
    tables = build_tables(RESULTS)
    rows = list(csv.DictReader(io.StringIO(as_csv(tables))))
    records = json.loads(as_json(tables))
    figures = {(r["method"], name): cell["mean"] for r in records for name, cell in r["metrics"].items()}
    assert {(row["method"], row["metric"]): float(row["mean"]) for row in rows} == figures
    assert {row["std"] for row in rows if row["method"] == "popularity"} == {""}
    reaches = {(r["method"], name): cell["reach"] for r in records for name, cell in r["metrics"].items()}
    assert {(row["method"], row["metric"]): float(row["reach"]) for row in rows if row["reach"]} == {
        key: reach for key, reach in reaches.items() if reach is not None
    }
    assert any(reaches.values())


def test_csv_leaves_out_a_slice_that_no_run_has() -> None:
    tables = build_tables(RESULTS)
    assert as_csv(tables, ["tied_in_time"]) == as_csv(tables)


@pytest.mark.parametrize(
    ("dataset", "recipe", "aside"),
    [
        ("amazon-beauty", "5-core", " (not A-LLMRec's data, which are amazon-luxury-beauty)"),
        ("amazon-games", "5-core", " (not A-LLMRec's copy: recipe 5-core)"),
        ("amazon-games", "allmrec", ""),
        ("toy", "5-core", ""),
    ],
)
def test_a_table_on_other_data_than_a_papers_says_so(dataset: str, recipe: str, aside: str) -> None:
    result = made_result("a", 0.2, dataset=dataset, data={"recipe": recipe})
    assert f"## {dataset}, full{aside}\n" in as_markdown(build_tables([result]))
