"""The data of the page: tables and runs as plain values."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from benchmarks.leaderboard.formats import aside_of, record_of
from benchmarks.leaderboard.rows import SHOWN, Cell, Row, Table, primary_metric
from benchmarks.leaderboard.sources import Finished
from benchmarks.runs import CONFIG, METRICS, Result

DIGITS = 6
LONGEST_CURVE = 200
"""Number of points to which longer learning curves are thinned."""


def payload(tables: Sequence[Table], runs: Iterable[Finished]) -> dict[str, Any]:
    """Tables with their rows, and a card for each of their runs."""
    used = {run.run_id for table in tables for row in table.rows for run in row.runs}
    environments: list[dict[str, Any]] = []
    cards = {run.result.run_id: _card(run, environments) for run in runs if run.result.run_id in used}
    return {"tables": [_table(table) for table in tables], "runs": cards, "environments": environments}


def _table(table: Table) -> dict[str, Any]:
    shown = [name for name in SHOWN if any(name in row.metrics for row in table.rows)]
    first = table.rows[0].runs[0]
    return {
        "dataset": table.dataset,
        "protocol": table.protocol,
        "id": table.protocol_id,
        "slice": table.slice,
        "scenario": table.scenario,
        "cases": table.cases,
        "primary": table.primary,
        "note": table.note,
        "leakage": table.leakage,
        "variant": aside_of(table),
        "fields": first.protocols[table.protocol]["fields"],
        "metrics": shown,
        "slices": table.slices,
        "rows": [_row(table, row) for row in table.rows],
        "pairs": _pairs(table),
    }


def _row(table: Table, row: Row) -> dict[str, Any]:
    record = record_of(table, row)
    kept = ("rank", "ranks", "group", "seeds", "floor", "marks", "runs")
    key = f"test/{table.protocol}/{table.slice}/{table.primary}"
    return {name: record[name] for name in kept} | {
        "method": row.name,
        "reads": record["information_set"],
        "lead": record["lead"],
        "spread": _short(record["spread"]),
        "share": row.share,
        "costs": {name: _short(value) for name, value in row.costs.items()},
        "metrics": {name: _cell(row.metrics[name]) for name in SHOWN if name in row.metrics},
        "slices": {name: _cell(cell) for name, cell in row.slices.items()},
        "points": [_short(run.metrics[key]) for run in row.runs if key in run.metrics],
    }


def _cell(cell: Cell) -> list[float | int | None]:
    # What is shown with four digits has all of its own: rounded twice, it would differ from the tables in text.
    return [cell.mean, cell.std, cell.n, None if cell.reach is None else _short(cell.reach)]


def _pairs(table: Table) -> list[list[list[Any] | None]]:
    """Difference, interval and verdict for each row against every other; empty without verdicts."""
    if not table.pairs:
        return []
    k = 1 + max(number for number, _ in table.pairs)
    return [
        [[_short(v) for v in table.pairs[i, j][:3]] + [table.pairs[i, j][3]] if i != j else None for j in range(k)]
        for i in range(k)
    ]


def _card(run: Finished, environments: list[dict[str, Any]]) -> dict[str, Any]:
    result = run.result
    curves = curve(run.text(METRICS), result.training.get("monitor", "val/ndcg@10"))
    # Most runs were made on the same machine, whose description is stored only once.
    if result.environment not in environments:
        environments.append(result.environment)
    return {
        "method": result.method,
        "dataset": result.dataset,
        "seed": result.seed,
        "path": str(run.path),
        "environment": environments.index(result.environment),
        "training": result.training,
        "seconds": {name: _short(value) for name, value in result.seconds.items()},
        "memory": result.peak_memory,
        "parameters": result.parameters,
        "predecessors": result.predecessors,
        "tuning": result.tuning,
        "language_model": result.language_model,
        "data": result.data,
        "protocols": {name: entry["id"] for name, entry in result.protocols.items()},
        "figures": _figures(result),
        "config": run.text(CONFIG),
        "curve": {name: _thinned(points) for name, points in curves.items()},
    }


def _figures(result: Result) -> dict[str, dict[str, float]]:
    """Overall metrics under each protocol."""
    found = {}
    for protocol in result.protocols:
        keys = {name: f"test/{protocol}/overall/{name}" for name in (*SHOWN, primary_metric(protocol))}
        found[protocol] = {name: result.metrics[key] for name, key in keys.items() if key in result.metrics}
    return found


def curve(text: str, monitor: str) -> dict[str, list[list[float]]]:
    r"""The monitored metric and the training loss by epoch, from a run's ``metrics.csv``; what is no number is skipped.

    >>> curve("epoch,train/loss,val/mrr\n0,,0.25\n0,0.5,\n1,0.4,\n", "val/mrr")
    {'val/mrr': [[0, 0.25]], 'train/loss': [[0, 0.5], [1, 0.4]]}
    """
    rows = csv.reader(text.splitlines())
    header = next(rows, [])
    wanted = {name: header.index(name) for name in (monitor, "train/loss") if name in header}
    if "epoch" not in header:
        return {}
    epoch = header.index("epoch")
    points: dict[str, list[list[float]]] = {name: [] for name in wanted}
    for row in rows:
        for name, column in wanted.items():
            place, value = (_number(row[n]) if n < len(row) else None for n in (epoch, column))
            if place is not None and value is not None:
                points[name].append([int(place), _short(value)])
    return {name: values for name, values in points.items() if values}


def _number(text: str) -> float | None:
    with suppress(ValueError):
        return value if math.isfinite(value := float(text)) else None
    return None


def _thinned(points: list[list[float]]) -> list[list[float]]:
    step = math.ceil(len(points) / LONGEST_CURVE)
    return points if step <= 1 else [*points[:-1:step], points[-1]]


def _short(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def as_script(values: dict[str, Any]) -> str:
    """JSON that is safe inside a ``script`` element."""
    return json.dumps(values, separators=(",", ":"), default=str).replace("<", "\\u003c")
