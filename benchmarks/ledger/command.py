"""``recbench ledger``: every figure that the papers print and everything that they claim, next to ours."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from benchmarks.cli import write
from benchmarks.columns import markdown
from benchmarks.leaderboard.command import gather, tables_of
from benchmarks.leaderboard.rows import SMALL_SLICE, Table
from benchmarks.leaderboard.sources import Finished
from benchmarks.ledger.conditions import Data
from benchmarks.ledger.judge import Ledger, LedgerEntry, Prepared
from benchmarks.ledger.reported import REPORTED, Claim, Paper, paper_names, read_paper
from benchmarks.ledger.schema import COUNTS, SPLIT_COUNTS
from common.data.store import read_store

DECIMALS = dict.fromkeys((*COUNTS, *SPLIT_COUNTS, "parameters", "pairs"), 0) | {
    "train_minutes": 1,
    "loss": 3,
    "density": 6,
    **dict.fromkeys(("average_length", "inference_seconds", "train_ratio", "inference_ratio"), 2),
}
"""Decimals of metrics that are not shares, by name or by its first word."""


def ledger(
    runs: list[Path] | None = None,
    *,
    paper: str | None = None,
    root: Path = Path("data"),
    format: Literal["md", "csv", "json"] = "md",
    found: bool = False,
) -> None:
    """Compares what the papers print with what was measured, with a verdict for each figure and each claim.

    Args:
        runs: Run folders, or folders that contain some; ``runs`` when omitted.
        paper: Only this paper: ``lrd``, ``allmrec``, or a YAML file of the same form.
        root: Folder of the stores, whose statistics are also compared.
        format: Markdown, CSV or JSON.
        found: Leave out what has no run here.
    """
    paths = [REPORTED / f"{name}.yaml" for name in paper_names()]
    if paper is not None:
        paths = [Path(paper) if paper.endswith(".yaml") else REPORTED / f"{paper}.yaml"]
    places = runs or [folder for folder in [Path("runs")] if folder.is_dir()]
    papers = [read_paper(path) for path in paths]
    entries = {
        name: [entry for entry in own if entry.runs or not found]
        for name, own in entries_of(papers, gather(places), root).items()
    }
    notes = {one.name: one.note for one in papers}
    write(_markdown(entries, notes) if format == "md" else {"csv": _csv, "json": _json}[format](entries))


def entries_of(
    papers: Sequence[Paper], runs: Sequence[Finished], root: Path, judged: Sequence[Table] = ()
) -> dict[str, list[LedgerEntry]]:
    """Every figure and claim of the papers next to ours, by paper.

    Args:
        papers: The papers.
        runs: Finished runs.
        root: Folder of the stores.
        judged: Tables of all runs that have verdicts already, each of a slice whose other tables are among them.
    """
    asked = {place for one in papers for place in one.places}
    keys = {place.dataset for place in asked} | {copy for one in papers for own in one.copies.values() for copy in own}
    mine = [run for run in runs if run.result.dataset in keys]
    slices = {place.slice for place in asked} - {table.slice for table in judged}
    book = Ledger(runs, [*judged, *_tables(mine, slices)], store_figures(root))
    return {one.name: book.entries(one) for one in papers}


def store_figures(root: Path) -> list[Prepared]:
    """Counts, and average length and density to as many decimals as printed, of every store."""
    found = []
    for path in sorted(root.glob("*/[!.]*/manifest.json")):
        manifest = read_store(path.parent).manifest
        figures: dict[str, float] = {name: int(getattr(manifest, f"num_{name}")) for name in COUNTS}
        parts = manifest.splits.get("leave_one_out", {})
        figures |= {name: int(parts[name]) for name in SPLIT_COUNTS if name in parts}
        figures["average_length"] = round(manifest.num_interactions / max(manifest.num_users, 1), 2)
        figures["density"] = round(manifest.num_interactions / max(manifest.num_users * manifest.num_items, 1), 6)
        data = Data(manifest.dataset, manifest.recipe, manifest.time)
        found.append(Prepared(data, path.parent.name, figures))
    return found


def _tables(found: list[Finished], slices: set[str]) -> list[Table]:
    known = {key.split("/")[2] for run in found for key in run.result.cases}
    return [table for slice in sorted(slices & known) for table in tables_of(found, slice=slice)]


def record_of(paper: str, entry: LedgerEntry) -> dict[str, Any]:
    """An entry as plain values."""
    reported, ours = entry.reported, entry.ours
    if isinstance(reported, Claim):
        kind = "ordering" if reported.worse else "claim"
        own: dict[str, Any] = {"method": " > ".join(reported.methods), "printed": None}
    else:
        kind, own = "figure", {"method": reported.method, "printed": reported.value}
    return {
        "paper": paper,
        "kind": kind,
        **asdict(reported.place),
        **own,
        "metric": reported.metric,
        "tolerance": None if isinstance(reported, Claim) else reported.tolerance,
        # For an ordering, ours is a difference, not a figure.
        "ours": ours.mean if ours and kind != "ordering" else None,
        "std": ours.std if ours else None,
        "difference": entry.difference,
        "seeds": ours.n if ours else 0,
        "cases": entry.cases,
        "verdict": entry.verdict,
        "why": entry.why,
        "note": reported.note,
        "suites": list(reported.suites) if isinstance(reported, Claim) else [],
        "runs": list(entry.runs),
    }


def texts_of(record: dict[str, Any]) -> dict[str, str]:
    """The text of a record in each column, the same on the page as in the terminal."""
    metric, tolerance = record["metric"], record["tolerance"]
    spread = "" if record["std"] is None else f" ± {figure_of(record['std'], metric)}"
    small = record["cases"] is not None and record["cases"] < SMALL_SLICE
    suites = f"shown by {', '.join(record['suites'])}" if record["suites"] else ""
    return {
        "data set": record["dataset"],
        "slice": record["slice"] + (f" (n = {record['cases']})" if small else ""),
        "method": record["method"],
        "metric": metric,
        "printed": figure_of(record["printed"], metric, complete=True),
        "tolerance": "" if tolerance is None else "exact" if not tolerance else f"± {tolerance:.0%}",
        "ours": figure_of(record["ours"], metric) + spread,
        "difference": figure_of(record["difference"], metric, sign=True),
        "verdict": record["verdict"],
        "why": "; ".join(filter(None, (record["why"], suites, record["note"]))),
        "runs": " ".join(record["runs"]),
    }


def _json(entries: dict[str, list[LedgerEntry]]) -> str:
    return json.dumps([record_of(paper, entry) for paper, own in entries.items() for entry in own], indent=2)


def _csv(entries: dict[str, list[LedgerEntry]]) -> str:
    records = [record_of(paper, entry) for paper, own in entries.items() for entry in own]
    stream = io.StringIO()
    if records:
        writer = csv.DictWriter(stream, list(records[0]), lineterminator="\n")
        writer.writeheader()
        lists = ("gpus", "recipes", "suites", "runs")
        writer.writerows(record | {name: " ".join(record[name]) for name in lists} for record in records)
    return stream.getvalue()


def _markdown(entries: dict[str, list[LedgerEntry]], notes: Mapping[str, str]) -> str:
    lines: list[str] = []
    for paper, own in entries.items():
        counts = Counter(entry.verdict for entry in own)
        summary = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
        lines += [f"# {paper}", "", *([notes[paper], ""] if notes[paper] else []), summary or "Nothing was found.", ""]
        for (table, about, orderings), members in groupby(own, key=heading_of):
            lines += [f"## {table}: {about}" + (" (orderings)" if orderings else ""), ""]
            rows = [texts_of(record_of(paper, entry)) for entry in members]
            lines += [*markdown(list(rows[0]), [list(row.values()) for row in rows]), ""]
    return "\n".join(lines)


def heading_of(entry: LedgerEntry) -> tuple[str, str, bool]:
    """The table of an entry, the part of it, and whether the entry is an ordering."""
    reported = entry.reported
    return reported.place.table, reported.place.about, isinstance(reported, Claim) and bool(reported.worse)


def figure_of(value: float | None, metric: str, sign: bool = False, complete: bool = False) -> str:
    """A figure as the ledger shows it, empty if there is none; a complete one has all of its own decimals."""
    if value is None:
        return ""
    decimals = DECIMALS.get(metric, DECIMALS.get(metric.partition("_")[0], 4))
    if complete:
        decimals = max(decimals, -int(Decimal(str(value)).normalize().as_tuple().exponent))
    return f"{value:{'+' if sign else ''},.{decimals}f}"
