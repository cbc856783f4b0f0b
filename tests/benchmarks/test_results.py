"""Slices are means over their own cases, from stored ranks alone."""

from pathlib import Path

import polars as pl
import pytest
import torch

from benchmarks.callbacks import RunRecord
from benchmarks.results import rank_table, slice_metrics
from benchmarks.runs import RANKS
from benchmarks.train import finish
from common.metrics.cases import COLUMNS
from tests.benchmarks.made_results import made_result

HIGHER = [0, 3, 50, 12, 0, 7]


def table() -> pl.DataFrame:
    cases = torch.arange(len(HIGHER))
    columns = dict.fromkeys(("case_id", "user", "target"), cases)
    higher = torch.tensor(HIGHER)
    columns |= {"higher": higher, "equal": torch.zeros_like(cases), "num_candidates": torch.full_like(cases, 100)}
    return rank_table({"full": columns, "sampled-99": columns})


def test_a_row_for_each_case_and_protocol() -> None:
    ranks = table()
    assert ranks["protocol"].value_counts(sort=True)["count"].to_list() == [6, 6]
    assert ranks.schema["higher"] == pl.Int32


@pytest.mark.parametrize("chosen", [[0, 1, 2], [3], [0, 4, 5]])
def test_a_slice_is_the_mean_over_its_cases(chosen: list[int]) -> None:
    mask = torch.zeros(len(HIGHER), dtype=torch.bool)
    mask[chosen] = True
    metrics, cases = slice_metrics(table(), {"full": {"part": mask}})
    assert cases["test/full/part"] == len(chosen)
    assert metrics["test/full/part/hr@10"] == pytest.approx(sum(HIGHER[i] < 10 for i in chosen) / len(chosen))
    assert metrics["test/full/part/mrr"] == pytest.approx(sum(1 / (HIGHER[i] + 1) for i in chosen) / len(chosen))


def test_slices_are_stored_with_the_cases_of_their_protocol() -> None:
    columns = {name: table()[name].head(3).to_torch() for name in COLUMNS}
    mask = torch.tensor([True, False, True])
    ranks = rank_table({"full": columns, "sampled-99": columns}, {"full": {"part": mask}})
    assert ranks["slice/part"].to_list() == [True, False, True, None, None, None]


def test_an_empty_slice_has_a_number_and_no_metric() -> None:
    metrics, cases = slice_metrics(table(), {"full": {"none": torch.zeros(6, dtype=torch.bool)}})
    assert cases["test/full/none"] == 0
    assert not [name for name in metrics if "/none/" in name]


def test_overall_is_there_for_every_protocol() -> None:
    metrics, cases = slice_metrics(table(), {})
    assert cases == {"test/full/overall": 6, "test/sampled-99/overall": 6}
    assert metrics["test/full/overall/hr@1"] == pytest.approx(2 / 6)


HITS = torch.tensor([1.0, 0.0, 0.5, 0.0, 1.0, 0.0], dtype=torch.float64)
ANSWERS = {"sampled-99": {"generated/hr@1": HITS}}


def test_values_beside_ranks_are_stored_and_averaged_over_each_slice_with_cases() -> None:
    columns = {name: table()[name].head(6).to_torch() for name in COLUMNS}
    ranks = rank_table({"full": columns, "sampled-99": columns}, values=ANSWERS)
    assert ranks["value/generated/hr@1"].to_list() == [None] * 6 + HITS.tolist()
    masks = {"part": HITS > 0, "none": torch.zeros(6, dtype=torch.bool)}
    metrics, _ = slice_metrics(ranks, {"full": masks, "sampled-99": masks})
    answers = {name: value for name, value in metrics.items() if name.endswith("generated/hr@1")}
    assert answers == {
        "test/sampled-99/overall/generated/hr@1": pytest.approx(2.5 / 6),
        "test/sampled-99/part/generated/hr@1": pytest.approx(2.5 / 3),
    }


def test_a_finished_run_holds_what_is_known_of_its_cases(tmp_path: Path) -> None:
    record = RunRecord("val/hr@1", "max", {})
    record.ranks = {"sampled-99": {name: torch.arange(6) for name in COLUMNS}}
    record.slices, record.values = {"sampled-99": {"part": HITS > 0}}, ANSWERS
    finish(tmp_path, made_result("model", 0.3), record, [])
    ranks = pl.read_parquet(tmp_path / RANKS)
    assert ranks["value/generated/hr@1"].to_list() == HITS.tolist()
    assert ranks["slice/part"].to_list() == (HITS > 0).tolist()
