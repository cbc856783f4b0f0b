"""Means over cases: cutoffs, precision, and the metrics of top lists."""

import subprocess
import sys

import pytest
import torch
from torch import Tensor

from common.metrics.cases import case_metrics


def table(higher: list[int], equal: list[int], candidates: int = 100) -> dict[str, Tensor]:
    columns = {"higher": higher, "equal": equal, "num_candidates": [candidates] * len(higher)}
    return {name: torch.tensor(values) for name, values in columns.items()}


def test_cutoffs_stay_below_the_number_of_candidates() -> None:
    names = {name for name in case_metrics(table([0, 3], [0, 0], candidates=20)) if "@" in name}
    assert names == {"hr@1", "hr@5", "hr@10", "ndcg@1", "ndcg@5", "ndcg@10"}


def test_means_are_the_same_for_any_number_of_threads() -> None:
    places = torch.arange(200_000) % 97
    long = {"higher": places, "equal": places % 3, "num_candidates": torch.full_like(places, 100)}
    kept = torch.get_num_threads()
    found = []
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        found.append({name: value.item() for name, value in case_metrics(long).items()})
    torch.set_num_threads(kept)
    assert found[0] == found[1] == found[2]


def test_means_are_taken_in_double_precision() -> None:
    metrics = case_metrics(table([0, 1, 50], [0, 1, 0]))
    assert metrics["hr@1"].dtype == torch.float64
    assert metrics["hr@1"].item() == pytest.approx(1 / 3, abs=1e-15)
    assert metrics["mrr"].item() == pytest.approx((1 + (1 / 2 + 1 / 3) / 2 + 1 / 51) / 3, abs=1e-15)
    assert metrics["tie_share"].item() == pytest.approx(1 / 3, abs=1e-15)


def test_top_lists_give_coverage_and_mean_popularity() -> None:
    lists = {"top_items": torch.tensor([[1, 2], [2, 0]])}
    metrics = case_metrics(table([0, 1], [0, 0], candidates=4) | lists, train_count=torch.tensor([0, 7, 4, 1, 0]))
    assert metrics["coverage@2"].item() == 2 / 4
    assert metrics["mean_popularity@2"].item() == (7 + 4 + 4) / 3


def test_tables_of_results_load_no_framework() -> None:
    frameworks = {"lightning", "torchmetrics", "transformers"}
    code = f"import sys, benchmarks.leaderboard.command; print({frameworks} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120)
    assert found.stdout.strip() == "set()"
