"""From what is known of each case, ranks above all, to metrics and slices: the basis of every table."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.files import replacing
from common.metrics.cases import COLUMNS, case_metrics

METRIC_VERSION = 1
"""Part of the protocol id; incremented when the definition of a metric changes."""
ALL_CASES = "overall"
"""The slice that holds every case."""
SLICE = "slice/"
"""Prefix of the columns of ``ranks.parquet`` that say which cases belong to a slice."""
VALUE = "value/"
"""Prefix of the columns of ``ranks.parquet`` with a metric of each case that does not follow from its rank."""


def rank_table(
    ranks: Mapping[str, Mapping[str, Tensor]],
    masks: Mapping[str, Mapping[str, Tensor]] | None = None,
    values: Mapping[str, Mapping[str, Tensor]] | None = None,
) -> pl.DataFrame:
    """Per-case ranks of all protocols as one table.

    Args:
        ranks: For each protocol the columns of :data:`common.metrics.cases.COLUMNS`, each of shape ``(m,)``.
        masks: For each protocol and slice, whether each case belongs to it, shape ``(m,)``.
        values: For each protocol and metric that does not follow from ranks, the value of each case, shape ``(m,)``.

    Returns:
        One row per case: ``protocol``, those columns and, for each slice, ``slice/<name>``, for each such metric
        ``value/<metric>``; null where a protocol has no such slice or metric.
    """
    parts = [
        pl.DataFrame(
            {"protocol": [protocol] * len(table["case_id"])}
            | {c: table[c].numpy() for c in COLUMNS}
            | {f"{SLICE}{name}": mask.numpy() for name, mask in (masks or {}).get(protocol, {}).items()}
            | {f"{VALUE}{name}": column.cpu().numpy() for name, column in (values or {}).get(protocol, {}).items()}
        )
        for protocol, table in ranks.items()
    ]
    return pl.concat(parts, how="diagonal").with_columns(pl.col(COLUMNS).cast(pl.Int32))


def write_ranks(table: pl.DataFrame, path: Path) -> None:
    """Writes ``ranks.parquet`` completely or not at all."""
    # The errors that Polars raises when it writes itself do not tell a full disk from a bug.
    content = BytesIO()
    table.write_parquet(content)
    with replacing(path) as part:
        part.write_bytes(content.getbuffer())


def slice_metrics(
    table: pl.DataFrame, masks: Mapping[str, Mapping[str, Tensor]]
) -> tuple[dict[str, float], dict[str, int]]:
    """Metrics of all cases and of each slice, those of ranks and means of every other value that is stored.

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
        others = stored_values(rows)
        everyone = torch.ones(rows.height, dtype=torch.bool)
        for name, mask in {ALL_CASES: everyone, **masks.get(protocol, {})}.items():
            key = f"test/{protocol}/{name}"
            cases[key] = int(mask.sum())
            if cases[key]:
                part = case_metrics({column: values[mask] for column, values in columns.items()})
                metrics |= {f"{key}/{metric}": float(value) for metric, value in part.items()}
                metrics |= {f"{key}/{metric}": float(values[mask.numpy()].mean()) for metric, values in others.items()}
    return metrics, cases


def stored_values(rows: pl.DataFrame) -> dict[str, NDArray[np.float64]]:
    """Metrics that do not follow from ranks, by name: the value of each case, shape ``(m,)``.

    Args:
        rows: Cases of one protocol.
    """
    names = [name for name in rows.columns if name.startswith(VALUE) and not rows[name].null_count()]
    return {name.removeprefix(VALUE): rows[name].cast(pl.Float64).to_numpy() for name in names}
