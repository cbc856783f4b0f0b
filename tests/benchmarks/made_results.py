"""Results as a run would write them, with figures of choice."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from benchmarks.results import SLICE, slice_metrics, write_ranks
from benchmarks.runs import CONFIG, METRICS, RANKS, Result, hash_of


def made_result(method: str, value: float, seed: int = 0, protocol: str = "full", **changes: Any) -> Result:  # noqa: ANN401
    fields = {"fingerprint": "f", "split": "leave_one_out", "cases": 200} | changes.pop("fields", {})
    key = f"test/{protocol}"
    values: dict[str, Any] = {
        "run_id": hash_of(method, value, seed),
        "config_id": hash_of(method),
        "method": method,
        "dataset": "toy",
        "seed": seed,
        "protocols": {protocol: {"id": hash_of(fields), "fields": fields}},
        "information_set": ["order"],
        "metrics": {f"{key}/overall/ndcg@10": value, f"{key}/overall/hr@10": value, f"{key}/cold_items/hr@10": 0.5},
        "cases": {f"{key}/overall": 200, f"{key}/cold_items": 12},
    }
    return Result(**values | changes)


def made_run(
    runs: Path,
    method: str,
    rate: float,
    seed: int = 0,
    cases: int = 200,
    slice: str = "cold_items",
    **changes: Any,  # noqa: ANN401
) -> Path:
    """The folder of a run whose ranks give its figures: about ``rate`` of the targets are among the first ten.

    A ninth of the cases belong to the slice ``slice``.
    """
    protocol = changes.get("protocol", "full")
    generator = np.random.default_rng(int(hash_of(method, rate, seed), 16))
    # Users are hard or easy for all methods alike, as in real data.
    ease = np.random.default_rng(7).random(cases) + 0.05 * generator.standard_normal(cases)
    hit = ease.argsort().argsort() < round(rate * cases)
    columns = {"case_id": np.arange(cases), "user": np.arange(cases) + 1, "target": np.arange(cases) % 9 + 1}
    columns |= {"higher": np.where(hit, generator.integers(0, 10, cases), 50), "equal": np.zeros(cases, int)}
    table = pl.DataFrame({"protocol": [protocol] * cases} | columns | {"num_candidates": np.full(cases, 1000)})
    cold = torch.from_numpy(columns["target"] == 1)
    metrics, counts = slice_metrics(table, {protocol: {slice: cold}})
    table = table.with_columns(pl.Series(f"{SLICE}{slice}", cold.numpy()))
    result = replace(made_result(method, rate, seed, **changes), metrics=metrics, cases=counts)
    folder = runs / result.dataset / method / result.run_id
    folder.mkdir(parents=True)
    write_ranks(table, folder / RANKS)
    (folder / CONFIG).write_text(f"seed_everything: {seed}\nmodel:\n  class_path: {method}\n")
    (folder / METRICS).write_text("epoch,step,train/loss,val/ndcg@10\n0,7,,0.1\n0,7,0.9,\n1,15,,0.2\n1,15,0.7,\n")
    result.write(folder)
    return folder
