"""The same rows as Markdown, CSV and JSON."""

import csv
import io
import json
import re
from dataclasses import replace

import pytest

from benchmarks.leaderboard.formats import as_csv, as_json, as_markdown
from benchmarks.leaderboard.rows import Row, Standing, build_table, build_tables
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
    part = as_markdown([build_table([made_result("model", 0.3, data={"leakage": 0.973})], "full", "cold_items")])
    assert "For 97.3% of all test cases, of whatever slice, the training data" in part


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


def test_runs_of_a_row_are_found() -> None:
    ids = ("c1" * 6, "d2" * 6)
    results = [made_result("a", seed / 10, seed, config_id=name) for name in ids for seed in (1, 2)]
    results = [replace(run, run_id=f"{run.config_id[:2]}{run.seed}") for run in results]
    tables = build_tables(results)
    assert "their runs' `config.yaml`: *a [c1c1]*: `c11`, `c12`; *a [d2d2]*: `d21`, `d22`." in as_markdown(tables)
    rows = csv.DictReader(io.StringIO(as_csv(tables)))
    assert {(row["method"], row["config_id"], row["runs"]) for row in rows} == {
        ("a [c1c1]", ids[0], "c11; c12"),
        ("a [d2d2]", ids[1], "d21; d22"),
    }
    apart = [made_result("a", 0.1, config_id=name, settings={"lr": n}) for n, name in enumerate(ids)]
    assert "config.yaml" not in as_markdown(build_tables(apart))


def test_footnotes_explain_only_what_is_there() -> None:
    standing = Standing(None, "", (0.1, 0.0, 0.2), 0.1)
    notes = {"Floors are in italics", "*vs best*"}

    def told(row: Row) -> set[str]:
        text = as_markdown([replace(build_table([RESULTS[1]], "full"), rows=(row,))])
        return {note for note in notes if note in text}

    floor, model = (build_table([run], "full").rows[0] for run in RESULTS[:2])
    assert told(model) == told(replace(model, standing=replace(standing, lead=None))) == set()
    assert told(floor) == {"Floors are in italics"}
    assert told(replace(model, standing=standing)) == {"*vs best*"}


def test_counts_are_whole_in_csv() -> None:
    run = made_result("a", 0.1, parameters={"trained": 34550, "frozen": 0}, seconds={"train": 1.5})
    (row, *_) = csv.DictReader(io.StringIO(as_csv(build_tables([run]))))
    assert (row["trained"], row["frozen"], row["train_seconds"]) == ("34550", "0", "1.5")


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
