"""What the stored cases of a run say about the figures in its result."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from benchmarks.results import ALL_CASES, SLICE, stored_values
from benchmarks.runs import Result
from common.metrics.functional import hit_rate, mrr, ndcg

TOLERANCE = 1e-9
FROM_RANKS = re.compile(r"(hr|ndcg)@[1-9]\d*|mrr|tie_share")
"""Metrics that follow from ranks."""


def case_gains(metric: str, higher: torch.Tensor, equal: torch.Tensor) -> torch.Tensor:
    """The value of ``hr@K``, ``ndcg@K``, ``mrr`` or ``tie_share`` for each case, shape ``(m,)``."""
    name, _, cutoff = metric.partition("@")
    if name == "mrr":
        return mrr(higher, equal)
    if name == "tie_share":
        return (equal > 0).double()
    return {"hr": hit_rate, "ndcg": ndcg}[name](higher, equal, int(cutoff))


def gains_of_ranks(metric: str, *ranks: pl.Series) -> NDArray[np.float64]:
    """The value of a metric for each case, shape ``(m,)``, given the columns ``higher`` and ``equal``."""
    higher, equal = (torch.from_numpy(column.cast(pl.Int64).to_numpy().copy()) for column in ranks)
    gains: NDArray[np.float64] = case_gains(metric, higher, equal).numpy()
    return gains


def contradiction(result: Result, protocol: str, table: pl.DataFrame) -> str | None:
    """How stored cases contradict a result, as a clause about the first figure that differs; ``None`` if they do not.

    Figures of slices that are not stored, and metrics that neither follow from ranks nor are stored for each case, must
    only be numbers.

    Args:
        result: The result.
        protocol: Protocol of its figures.
        table: All columns of its cases under this protocol.
    """
    masks = _masks(table)
    stated = _stated(result, protocol)
    stored = stored_values(table)
    names = sorted({metric for _, metric in stated if metric in stored or FROM_RANKS.fullmatch(metric)})
    counts = dict(zip(masks, (int(mask.sum()) for mask in masks.values()), strict=True))
    for name, count in counts.items():
        told = result.cases.get(f"test/{protocol}/{name}", count)
        if told != count:
            return f"its ranks are those of {count} cases under {protocol}{_on(name)}, but its result says {told}"
    means = _means(
        masks, [stored[n] if n in stored else gains_of_ranks(n, table["higher"], table["equal"]) for n in names]
    )
    places = {name: number for number, name in enumerate(masks)}
    for (name, metric), value in stated.items():
        if metric not in names or name not in places:
            if not math.isfinite(value):
                return f"its result says that {metric} under {protocol}{_on(name)} is {value}"
            continue
        found = means[places[name], names.index(metric)]
        if not abs(found - value) <= TOLERANCE:
            ours = f"{found:.6f}" if counts[name] else "no case"
            return f"its ranks give {metric} {ours} under {protocol}{_on(name)}, but its result says {value:.6f}"
    return None


def _stated(result: Result, protocol: str) -> dict[tuple[str, str], float]:
    """The figures of a result under a protocol, by slice and metric; the primary slice first."""
    prefix = f"test/{protocol}/"
    parts = {key: key.removeprefix(prefix).partition("/") for key in result.metrics if key.startswith(prefix)}
    figures = {(name, metric): result.metrics[key] for key, (name, _, metric) in parts.items()}
    return dict(sorted(figures.items(), key=lambda figure: figure[0][0] != ALL_CASES))


def _masks(table: pl.DataFrame) -> dict[str, NDArray[np.bool_]]:
    """Whether each case belongs to each slice that is stored, shape ``(m,)``; a protocol without a slice has nulls."""
    names = [name for name in table.columns if name.startswith(SLICE) and table[name].null_count() < table.height]
    masks = {name.removeprefix(SLICE): table[name].fill_null(value=False).to_numpy() for name in names}
    return {ALL_CASES: np.ones(table.height, dtype=bool)} | masks


def _means(masks: dict[str, NDArray[np.bool_]], gains: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The mean of each metric on each slice, shape ``(slices, metrics)``; NaN on an empty slice."""
    members = np.stack(list(masks.values())).astype(np.float64)
    values = np.stack(gains, axis=1) if gains else np.empty((members.shape[1], 0))
    with np.errstate(invalid="ignore"):
        means: NDArray[np.float64] = members @ values / members.sum(1, keepdims=True)
    return means


def _on(name: str) -> str:
    return "" if name == ALL_CASES else f" on {name}"
