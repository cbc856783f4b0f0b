"""From per-case ranks to metrics and slices, the basis of every table."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import polars as pl
import torch
from torch import Tensor

from common.metrics.cases import COLUMNS, case_metrics

METRIC_VERSION = 1
"""Part of the protocol id; incremented when the definition of a metric changes."""
OVERALL = "overall"
SLICE = "slice/"
"""Prefix of the columns of ``ranks.parquet`` that say which cases belong to a slice."""


def rank_table(
    ranks: Mapping[str, Mapping[str, Tensor]], masks: Mapping[str, Mapping[str, Tensor]] | None = None
) -> pl.DataFrame:
    """Per-case ranks of all protocols as one table.

    Args:
        ranks: For each protocol the columns of :data:`common.metrics.cases.COLUMNS`, each of shape ``(m,)``.
        masks: For each protocol and slice, whether each case belongs to it, shape ``(m,)``.

    Returns:
        One row per case: ``protocol``, those columns and, for each slice, ``slice/<name>``.
    """
    parts = [
        pl.DataFrame(
            {"protocol": [protocol] * len(table["case_id"])}
            | {c: table[c].numpy() for c in COLUMNS}
            | {f"{SLICE}{name}": mask.numpy() for name, mask in (masks or {}).get(protocol, {}).items()}
        )
        for protocol, table in ranks.items()
    ]
    return pl.concat(parts, how="diagonal").with_columns(pl.col(COLUMNS).cast(pl.Int32))


def write_ranks(table: pl.DataFrame, path: Path) -> None:
    """Writes ``ranks.parquet`` completely or not at all."""
    part = path.with_name(f".{path.name}.part")
    # The errors that Polars raises when it writes itself do not tell a full disk from a bug.
    content = BytesIO()
    table.write_parquet(content)
    try:
        part.write_bytes(content.getbuffer())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def slice_metrics(
    table: pl.DataFrame, masks: Mapping[str, Mapping[str, Tensor]]
) -> tuple[dict[str, float], dict[str, int]]:
    """Metrics of all cases and of each slice.

    Args:
        table: What :func:`rank_table` returns.
        masks: For each protocol and slice, whether each row of the protocol belongs to it, shape ``(m,)``.

    Returns:
        Values by ``test/<protocol>/<slice>/<metric>``, and numbers of cases by ``test/<protocol>/<slice>``. An empty
        slice has a number of cases, 0, but no metrics.
    """
    metrics: dict[str, float] = {}
    cases: dict[str, int] = {}
    for protocol in table["protocol"].unique(maintain_order=True):
        rows = table.filter(pl.col("protocol") == protocol)
        columns = {name: torch.from_numpy(rows[name].cast(pl.Int64).to_numpy().copy()) for name in COLUMNS}
        everyone = torch.ones(rows.height, dtype=torch.bool)
        for name, mask in {OVERALL: everyone, **masks.get(protocol, {})}.items():
            key = f"test/{protocol}/{name}"
            cases[key] = int(mask.sum())
            if cases[key]:
                part = case_metrics({column: values[mask] for column, values in columns.items()})
                metrics |= {f"{key}/{metric}": float(value) for metric, value in part.items()}
    return metrics, cases


def slice_means(
    values: Mapping[str, Mapping[str, Tensor]], masks: Mapping[str, Mapping[str, Tensor]]
) -> dict[str, float]:
    """Means of what is known of cases beside their ranks, over each slice that has any.

    Args:
        values: For each protocol and metric, the value of each case, shape ``(m,)``.
        masks: For each protocol and slice, whether each case belongs to it, shape ``(m,)``.

    Returns:
        Means by ``test/<protocol>/<slice>/<metric>``.
    """
    return {
        f"test/{protocol}/{slice}/{metric}": float(column[mask].mean())
        for protocol, columns in values.items()
        for slice, mask in masks[protocol].items()
        if mask.any()
        for metric, column in columns.items()
    }
