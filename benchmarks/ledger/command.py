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
from benchmarks.leaderboard.command import gather, tables_of
from benchmarks.leaderboard.sources import Finished
from benchmarks.ledger.judge import Entry, Ledger
from benchmarks.ledger.reported import REPORTED, Claim, paper_names, read_paper
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
    papers = [read_paper(path) for path in paths]
    places = runs or [folder for folder in [Path("runs")] if folder.is_dir()]
    asked = {place for one in papers for place in one.places}
    mine = [run for run in gather(places) if run.result.dataset in {place.dataset for place in asked}]
    book = Ledger(mine, _tables(mine, {place.part for place in asked}), statistics(root))
    entries = {one.name: [e for e in book.entries(one) if e.verdict != "missing" or not found] for one in papers}
    write({"md": _markdown, "csv": _csv, "json": _json}[format](entries))


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


def _record(paper: str, entry: Entry) -> dict[str, Any]:
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
    return json.dumps([_record(paper, entry) for paper, own in entries.items() for entry in own], indent=2)


def _csv(entries: dict[str, list[Entry]]) -> str:
    records = [_record(paper, entry) for paper, own in entries.items() for entry in own]
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
        for (table, about, orderings), members in groupby(own, key=_heading):
            lines += [f"## {table}: {about}" + (" (orderings)" if orderings else ""), ""]
            lines += _table([_record(paper, entry) for entry in members])
    return "\n".join(lines)


def _heading(entry: Entry) -> tuple[str, str, bool]:
    return entry.reported.place.table, entry.reported.place.about, isinstance(entry.reported, Claim)


def _table(records: Sequence[dict[str, Any]]) -> list[str]:
    names = ("data set", "slice", "method", "metric", "printed", "ours", "difference", "verdict", "why")
    lines = ["| " + " | ".join(names) + " |", "|" + " --- |" * len(names)]
    for record in records:
        printed, ours = record["printed"], record["ours"]
        difference = ours if printed is None else (ours - printed if ours is not None else None)
        spread = f" ± {record['std']:.4f}" if record["std"] is not None else ""
        reasons = "; ".join(filter(None, (record["why"], record["note"])))
        mine = "" if printed is None else _figure(ours) + spread
        cells = [*(record[name] for name in ("dataset", "part", "method", "metric")), _figure(printed), mine]
        cells += [_figure(difference, sign=True), record["verdict"], reasons]
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def _figure(value: float | None, sign: bool = False) -> str:
    if value is None:
        return ""
    whole = float(value).is_integer() and abs(value) >= 1
    return f"{value:{'+' if sign else ''}{',.0f' if whole else '.4f'}}"
