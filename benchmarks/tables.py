"""``recbench leaderboard``: tables as Markdown, CSV and JSON; and one run's figures as lines."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from benchmarks.cli import write
from benchmarks.leaderboard import (
    RANKED_SEEDS,
    SHOWN,
    SMALL_SLICE,
    Row,
    Table,
    build_table,
    build_tables,
    rows_as_records,
)
from benchmarks.results import metric_of
from benchmarks.runs import Result, find_runs, read_result
from common.errors import UserError, nearest


def leaderboard(
    runs: list[Path] | None = None,
    *,
    format: Literal["md", "csv", "json"] = "md",
    dataset: str | None = None,
    protocol: str | None = None,
    part: str = "overall",
    reads: list[str] | None = None,
) -> None:
    """Prints tables of finished runs, one for each data set and protocol.

    Args:
        runs: Run folders, or folders that hold some; ``runs`` when omitted.
        format: Markdown, CSV (one line a row and metric) or JSON.
        dataset: Only this data set.
        protocol: Only this protocol, in a single table: refused when runs differ in what the protocol says.
        part: Slice of the test cases, such as ``cold_items``.
        reads: Only methods that read nothing beyond these parts of the information set.
    """
    results = [read_result(folder) for folder in find_runs(runs or [Path("runs")])]
    results = [r for r in results if dataset in (None, r.dataset)]
    if reads is not None:
        results = [r for r in results if set(r.information_set) <= set(reads)]
    if protocol is not None:
        results = [r for r in results if protocol in r.protocols]
    if not results:
        raise UserError("There is no finished run to show.", "Train one with `recbench run`, or name other folders.")
    known = {key.split("/")[2] for result in results for key in result.cases}
    if part not in known:
        raise UserError(f"No run has a slice {part!r}.", nearest(part, known))
    if protocol is None:
        tables = build_tables(results, part)
    else:
        names = sorted({result.dataset for result in results})
        tables = [build_table([r for r in results if r.dataset == name], protocol, part) for name in names]
    write({"md": as_markdown, "csv": as_csv, "json": as_json}[format](tables))


def as_markdown(tables: Sequence[Table]) -> str:
    """Markdown: a heading, a table and its notes for each."""
    return "\n".join(_markdown(table) for table in tables)


def as_csv(tables: Sequence[Table]) -> str:
    """CSV: one line for each row and metric."""
    stream = io.StringIO()
    names = [
        *("dataset", "protocol", "protocol_id", "part", "cases", "method", "rank", "seeds", "floor", "metric"),
        *("mean", "std", "n", "share", "train_seconds", "information_set", "marks"),
    ]
    writer = csv.DictWriter(stream, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for record in _records(tables):
        flat = {name: "; ".join(record[name]) for name in ("information_set", "marks")}
        for metric, cell in record["metrics"].items():
            writer.writerow(record | flat | {"metric": metric} | cell)
    return stream.getvalue()


def as_json(tables: Sequence[Table]) -> str:
    """JSON: a list with an object a row."""
    return json.dumps(_records(tables), indent=2)


def summary_lines(result: Result) -> list[str]:
    """One run's figures, a line a protocol."""
    seconds = result.seconds
    training = result.training
    lines = [
        f"{result.dataset} / {result.method}, seed {result.seed}: {training.get('epochs', 0)} epochs, "
        f"stopped by {training.get('stopped', 'evaluation')}, "
        f"{seconds.get('train', 0):.1f} s training, {seconds.get('test', 0):.1f} s test"
        + (", undertrained" if training.get("undertrained") else "")
    ]
    for protocol in result.protocols:
        figures = [
            f"{name} {metric_of(result.metrics, protocol, name):.4f}"
            for name in SHOWN
            if not math.isnan(metric_of(result.metrics, protocol, name))
        ]
        cases = result.cases[f"test/{protocol}/overall"]
        lines.append(f"  {protocol} ({cases:,} cases): " + "  ".join(figures))
    return lines


def _records(tables: Sequence[Table]) -> list[dict[str, Any]]:
    return [record for table in tables for record in rows_as_records(table)]


def _markdown(table: Table) -> str:
    shown = [name for name in SHOWN if any(name in row.metrics for row in table.rows)]
    small = table.cases < SMALL_SLICE
    head = ["", "method", *(f"**{name}**" if name == table.primary else name for name in shown)]
    head += ["seeds", "above floor", "reads", "train s", "marks"]
    lines = [
        f"## {table.dataset}, {table.protocol}" + ("" if table.part == "overall" else f", {table.part}"),
        "",
        f"{table.cases:,} test cases, protocol id `{table.protocol_id}`"
        + (f"; {table.note}" if table.note else "")
        + (f". **Fewer than {SMALL_SLICE} cases: no conclusion.**" if small else "."),
        "",
        "| " + " | ".join(head) + " |",
        "|" + " --- |" * len(head),
        *("| " + " | ".join(_cells(row, shown, small)) + " |" for row in table.rows),
        "",
        *_footnotes(table),
    ]
    return "\n".join(lines)


def _cells(row: Row, shown: Sequence[str], small: bool) -> list[str]:
    figures = [str(row.metrics[name]) if name in row.metrics else "" for name in shown]
    return [
        "" if row.rank is None else str(row.rank),
        f"*{row.method}*" if row.floor else row.method,
        *(f"({figure})" if small and figure else figure for figure in figures),
        str(row.seeds),
        "" if row.share is None else f"{row.share:+.1%}",
        ", ".join(row.information_set) or "nothing",
        "" if row.floor else f"{row.train_seconds:.0f}",
        "; ".join(row.marks),
    ]


def _footnotes(table: Table) -> list[str]:
    notes = [f"Floors are in italics. Sorted by {table.primary}; mean ± standard deviation over seeds."]
    if any(row.share is not None for row in table.rows):
        notes.append("*above floor*: share of the gap between the best floor that reads nothing more and 1.")
    if any(row.rank is None for row in table.rows):
        notes.append(f"Rows with fewer than {RANKED_SEEDS} seeds have no rank.")
    return [" ".join(notes), ""]
