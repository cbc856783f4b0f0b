"""``recbench ledger``: every figure and ordering that the papers print, beside ours."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from benchmarks.cli import write
from benchmarks.columns import markdown
from benchmarks.leaderboard.command import gather, tables_of
from benchmarks.leaderboard.sources import Finished
from benchmarks.ledger.judge import Entry, Ledger
from benchmarks.ledger.reported import REPORTED, Claim, Paper, paper_names, read_paper
from common.data.store import read_store


def ledger(
    runs: list[Path] | None = None,
    *,
    paper: str | None = None,
    root: Path = Path("data"),
    format: Literal["md", "csv", "json"] = "md",
    found: bool = False,
) -> None:
    """Sets what the papers print beside what was measured, with a verdict for each figure and each ordering.

    Args:
        runs: Run folders, or folders that hold some; ``runs`` when omitted.
        paper: Only this paper: ``lrd``, ``allmrec``, or a YAML file of the same form.
        root: Folder of the stores, whose statistics are compared, too.
        format: Markdown, CSV or JSON.
        found: Leave out what no run was made for.
    """
    paths = [REPORTED / f"{name}.yaml" for name in paper_names()]
    if paper is not None:
        paths = [Path(paper) if paper.endswith(".yaml") else REPORTED / f"{paper}.yaml"]
    places = runs or [folder for folder in [Path("runs")] if folder.is_dir()]
    entries = {
        name: [entry for entry in own if entry.verdict != "missing" or not found]
        for name, own in entries_of([read_paper(path) for path in paths], gather(places), root).items()
    }
    write({"md": _markdown, "csv": _csv, "json": _json}[format](entries))


def entries_of(papers: Sequence[Paper], runs: Sequence[Finished], root: Path) -> dict[str, list[Entry]]:
    """Every figure and ordering of papers beside ours, by paper.

    Args:
        papers: What is reported.
        runs: Finished runs.
        root: Folder of the stores.
    """
    asked = {place for one in papers for place in one.places}
    mine = [run for run in runs if run.result.dataset in {place.dataset for place in asked}]
    book = Ledger(mine, _tables(mine, {place.part for place in asked}), statistics(root))
    return {one.name: book.entries(one) for one in papers}


def statistics(root: Path) -> dict[tuple[str, str], dict[str, int]]:
    """Users, items, interactions and triplets of every store, by data set and recipe."""
    found = {}
    for path in sorted(root.glob("*/[!.]*/manifest.json")):
        manifest = read_store(path.parent).manifest
        names = ("users", "items", "interactions", "triplets")
        found[manifest.dataset, manifest.recipe] = {name: int(getattr(manifest, f"num_{name}")) for name in names}
    return found


def _tables(found: list[Finished], parts: set[str]) -> list[Any]:
    known = {key.split("/")[2] for run in found for key in run.result.cases}
    return [table for part in sorted(parts & known) for table in tables_of(found, part=part)]


def record_of(paper: str, entry: Entry) -> dict[str, Any]:
    """An entry as plain values."""
    reported, ours = entry.reported, entry.ours
    claim = isinstance(reported, Claim)
    return {
        "paper": paper,
        "kind": "ordering" if claim else "figure",
        **asdict(reported.place),
        "method": f"{reported.better} > {reported.worse}" if isinstance(reported, Claim) else reported.method,
        "metric": reported.metric,
        "printed": None if isinstance(reported, Claim) else reported.value,
        "ours": ours.mean if ours else None,
        "std": ours.std if ours else None,
        "seeds": ours.n if ours else 0,
        "verdict": entry.verdict,
        "why": entry.why,
        "note": "" if isinstance(reported, Claim) else reported.note,
        "runs": list(entry.runs),
    }


def _json(entries: dict[str, list[Entry]]) -> str:
    return json.dumps([record_of(paper, entry) for paper, own in entries.items() for entry in own], indent=2)


def _csv(entries: dict[str, list[Entry]]) -> str:
    records = [record_of(paper, entry) for paper, own in entries.items() for entry in own]
    stream = io.StringIO()
    if records:
        writer = csv.DictWriter(stream, list(records[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(record | {"runs": " ".join(record["runs"])} for record in records)
    return stream.getvalue()


def _markdown(entries: dict[str, list[Entry]]) -> str:
    lines: list[str] = []
    for paper, own in entries.items():
        counts = Counter(entry.verdict for entry in own)
        summary = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
        lines += [f"# {paper}", "", summary or "Nothing was found.", ""]
        for (table, about, orderings), members in groupby(own, key=heading_of):
            lines += [f"## {table}: {about}" + (" (orderings)" if orderings else ""), ""]
            lines += _table([record_of(paper, entry) for entry in members])
    return "\n".join(lines)


def heading_of(entry: Entry) -> tuple[str, str, bool]:
    """Table and part of it where an entry stands, and whether it is an ordering."""
    return entry.reported.place.table, entry.reported.place.about, isinstance(entry.reported, Claim)


def _table(records: Sequence[dict[str, Any]]) -> list[str]:
    names = ("data set", "slice", "method", "metric", "printed", "ours", "difference", "verdict", "why")
    rows = []
    for record in records:
        printed, ours = record["printed"], record["ours"]
        difference = ours if printed is None else (ours - printed if ours is not None else None)
        spread = f" ± {record['std']:.4f}" if record["std"] is not None else ""
        reasons = "; ".join(filter(None, (record["why"], record["note"])))
        mine = "" if printed is None else figure_of(ours) + spread
        cells = [*(record[name] for name in ("dataset", "part", "method", "metric")), figure_of(printed), mine]
        cells += [figure_of(difference, sign=True), record["verdict"], reasons]
        rows.append(cells)
    return [*markdown(names, rows), ""]


def figure_of(value: float | None, sign: bool = False) -> str:
    """A figure as the ledger shows it, empty where there is none."""
    if value is None:
        return ""
    whole = float(value).is_integer() and abs(value) >= 1
    return f"{value:{'+' if sign else ''}{',.0f' if whole else '.4f'}}"
