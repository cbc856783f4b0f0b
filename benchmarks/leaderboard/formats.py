"""Tables as Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.columns import markdown
from benchmarks.leaderboard.labels import told_by_id
from benchmarks.leaderboard.rows import (
    RANKED_SEEDS,
    RANKED_SEEDS_LLM,
    SHOWN,
    SMALL_SLICE,
    STAND_IN,
    Row,
    Standing,
    Table,
)
from benchmarks.ledger.copies import difference_from_papers
from benchmarks.results import ALL_CASES
from common.data.views import OVERALL

COSTS: dict[str, tuple[str, Callable[[float], str]]] = {
    "train_seconds": ("train s", lambda value: f"{value:,.0f}"),
    "users_per_second": ("users/s", lambda value: f"{value:,.0f}"),
    "memory": ("memory", lambda value: f"{value / 2**20:,.0f} MiB"),
    "device_memory": ("GPU memory", lambda value: f"{value / 2**20:,.0f} MiB"),
    "trained": ("trained", lambda value: f"{value:,.0f}"),
    "frozen": ("frozen", lambda value: f"{value:,.0f}"),
    "trials": ("trials", lambda value: f"{value:,.0f}"),
    "hours": ("tuning h", lambda value: f"{value:.1f}"),
}
"""Heading and format of each cost."""


def as_markdown(tables: Sequence[Table], slices: Sequence[str] = ()) -> str:
    """Markdown: a heading, the rows and notes for each table.

    Args:
        tables: The tables.
        slices: Slices whose primary metric becomes a column.
    """
    return "\n".join(_markdown(table, slices) for table in tables)


def as_csv(tables: Sequence[Table], slices: Sequence[str] = ()) -> str:
    """CSV: one line per row and metric; the primary metric of a slice is called ``<slice>/<metric>``.

    ``reach`` is half the width of the uncorrected 95 % interval of the mean over seeds.
    """
    stream = io.StringIO()
    names = [
        *("dataset", "protocol", "protocol_id", "scenario", "slice", "cases"),
        *("method", "rank", "rank_low", "rank_high", "group"),
        *("lead", "lead_low", "lead_high", "seeds", "floor", "metric", "mean", "std", "n", "reach", "share"),
        *("information_set", "marks", *COSTS, "config_id", "runs"),
    ]
    writer = csv.DictWriter(stream, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for record in (record_of(table, row) for table in tables for row in table.rows):
        flat: dict[str, Any] = {name: "; ".join(record[name]) for name in ("information_set", "marks", "runs")}
        flat |= dict(zip(("rank_low", "rank_high"), record["ranks"] or (None, None), strict=True))
        flat |= dict(zip(("lead", "lead_low", "lead_high"), record["lead"] or (None, None, None), strict=True))
        # Most are counts, which are whole unless runs differ.
        flat |= {name: int(value) if value.is_integer() else value for name, value in record["costs"].items()}
        own = {name: record["slices"][name] for name in slices if name in record["slices"]}
        cells = record["metrics"] | {f"{name}/{record['primary']}": cell for name, cell in own.items()}
        for metric, cell in cells.items():
            writer.writerow(record | flat | {"metric": metric} | cell)
    return stream.getvalue()


def as_json(tables: Sequence[Table], slices: Sequence[str] = ()) -> str:
    """JSON: a list with one object per row, including all slices and the comparison with every other row."""
    records = [
        record_of(table, row) | {"against": _against(table, number)}
        for table in tables
        for number, row in enumerate(table.rows)
    ]
    return json.dumps(records, indent=2)


def record_of(table: Table, row: Row) -> dict[str, Any]:
    """A row as plain values."""
    standing = row.standing or Standing(None, "", None, 0.0)
    return {
        name: getattr(table, name)
        for name in ("dataset", "protocol", "protocol_id", "scenario", "slice", "cases", "primary")
    } | {
        "method": row.method,
        "rank": row.rank,
        "ranks": standing.ranks,
        "group": standing.group,
        "lead": standing.lead,
        "spread": standing.spread,
        "seeds": row.seeds,
        "share": row.share,
        "floor": row.floor,
        "information_set": list(row.information_set),
        "marks": list(row.marks),
        "costs": row.costs,
        "config_id": row.runs[0].config_id,
        "runs": [run.run_id for run in row.runs],
        "metrics": {name: vars(cell) | {"reach": cell.reach} for name, cell in row.metrics.items()},
        "slices": {name: vars(cell) | {"reach": cell.reach} for name, cell in row.slices.items()},
    }


def aside_of(table: Table) -> str:
    """What a heading adds about a table: how it differs from others, and its data from those of papers."""
    return "; ".join(filter(None, (table.variant, difference_from_papers(table.rows[0].runs[0]))))


def _against(table: Table, own: int) -> dict[str, dict[str, float | bool]]:
    """The comparison with each other row: difference of the primary metric, its 95 % interval, and the verdict."""
    names = ("difference", "low", "high", "separated")
    others = [(number, other) for number, other in enumerate(table.rows) if (own, number) in table.pairs]
    return {other.method: dict(zip(names, table.pairs[own, number], strict=True)) for number, other in others}


def _markdown(table: Table, slices: Sequence[str]) -> str:
    columns = _columns(table, slices)
    small = table.cases < SMALL_SLICE
    scenario = [table.scenario] if table.scenario != OVERALL else []
    part = [table.slice] if table.slice != ALL_CASES else []
    lines = [
        "## "
        + ", ".join([table.dataset, table.protocol, *scenario, *part])
        + (f" ({aside})" if (aside := aside_of(table)) else ""),
        "",
        f"{table.cases:,} test cases, protocol id `{table.protocol_id}`"
        + (f"; {table.note}" if table.note else "")
        + (f". **Fewer than {SMALL_SLICE} cases: too few for conclusions.**" if small else "."),
        "",
        *markdown(list(columns), [[text(row) for text in columns.values()] for row in table.rows]),
        "",
        *_footnotes(table),
    ]
    return "\n".join(lines)


def _columns(table: Table, slices: Sequence[str]) -> Mapping[str, Callable[[Row], str]]:
    """Heading and content of each column that is not empty."""
    primary = table.primary
    shown = {name: f"**{name}**" if name == primary else name for name in SHOWN}
    columns: dict[str, Callable[[Row], str]] = {
        "": lambda row: "" if row.rank is None else str(row.rank),
        "ranks": lambda row: _ranks(row.standing),
        "tie": lambda row: row.standing.group if row.standing else "",
        "method": lambda row: f"*{row.name}*" if row.floor else row.name,
    }
    columns |= {head: _metric(name, table.cases) for name, head in shown.items()}
    columns |= {f"{name} ({table.slices.get(name, 0):,})": _slice(name, table) for name in slices}
    columns |= {
        "vs best": lambda row: _lead(row.standing),
        "seeds": lambda row: str(row.seeds),
        "above floor": lambda row: "" if row.share is None else f"{row.share:+.1%}",
        "reads": lambda row: ", ".join(row.information_set) or "nothing",
    }
    columns |= {head: _cost(name, text) for name, (head, text) in COSTS.items()}
    columns["marks"] = lambda row: "; ".join(row.marks)
    always = {"method", "marks"}
    return {head: text for head, text in columns.items() if head in always or any(text(row) for row in table.rows)}


def _metric(name: str, cases: int) -> Callable[[Row], str]:
    return lambda row: _cell(str(row.metrics[name]), cases) if name in row.metrics else ""


def _slice(name: str, table: Table) -> Callable[[Row], str]:
    return lambda row: _cell(str(row.slices[name]), table.slices.get(name, 0)) if name in row.slices else ""


def _cost(name: str, text: Callable[[float], str]) -> Callable[[Row], str]:
    return lambda row: text(row.costs[name]) if row.costs.get(name) else ""


def _cell(figure: str, cases: int) -> str:
    return f"({figure})" if cases < SMALL_SLICE else figure


def _ranks(standing: Standing | None) -> str:
    if standing is None or standing.ranks is None:
        return ""
    first, last = standing.ranks
    return str(first) if first == last else f"{first}–{last}"


def _lead(standing: Standing | None) -> str:
    if standing is None or standing.lead is None:
        return ""
    value, low, high = standing.lead
    return f"{value:+.4f} [{low:+.4f}, {high:+.4f}]"


def _footnotes(table: Table) -> list[str]:
    notes = ["Floors are in italics."] if any(row.floor for row in table.rows) else []
    notes.append(f"Sorted by {table.primary}; mean ± standard deviation over seeds.")
    if table.leakage is not None:
        whose = "the test cases" if table.slice == ALL_CASES else "all test cases, of whatever slice"
        notes.append(f"For {table.leakage:.1%} of {whose}, the training data contain events after the target.")
    if any(row.share is not None for row in table.rows):
        notes.append("*above floor*: share closed of the gap between the best floor that reads no more and 1.")
    if any(row.rank is None for row in table.rows):
        notes.append(f"Rows with fewer than {RANKED_SEEDS} seeds ({RANKED_SEEDS_LLM} with an LLM) have no rank.")
    if any(row.stand_in for row in table.rows):
        notes.append(f"Rows on a {STAND_IN} have none either, however many their seeds: they say nothing about LLMs.")
    if any(row.standing and row.standing.ranks for row in table.rows):
        notes.append(
            "*ranks*: the ranks that a row may have; rows that share a letter under *tie* are not separated (Welch's t "
            "over seeds, paired bootstrap over users, and both sources of chance together, each with Holm's correction "
            "over all pairs)."
        )
    if any(_lead(row.standing) for row in table.rows):
        notes.append(
            "*vs best*: difference from the best row with its uncorrected 95 % interval; without a rank, it only "
            "compares checkpoints."
        )
    by_id = [row for row in table.rows if told_by_id(row.method, row.runs[0].config_id)]
    if by_id:
        runs = [f"*{row.method}*: {', '.join(f'`{run.run_id}`' for run in row.runs)}" for row in by_id]
        notes.append(
            f"Settings of rows that are told apart by ids are in their runs' `config.yaml`: {'; '.join(runs)}."
        )
    return [" ".join(notes), ""]
