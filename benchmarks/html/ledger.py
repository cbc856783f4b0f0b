"""The ledger as a page: what the papers print next to ours, with filters by verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.html.section import ASSETS, alignment, filled, now, section
from benchmarks.leaderboard.rows import Table
from benchmarks.leaderboard.sources import Finished
from benchmarks.ledger.command import entries_of, heading_of, record_of, texts_of
from benchmarks.ledger.judge import LedgerEntry
from benchmarks.ledger.reported import REPORTED, Paper, paper_names, read_paper
from benchmarks.runs import write_atomically

VERDICTS = {
    "reproduced": "mark good",
    "not reproduced": "mark bad",
    "inconclusive": "mark",
    "shown, not judged": "chip",
    "not comparable": "chip",
    "not applicable": "chip",
    "missing": "chip",
}
"""Verdicts in the order of their buttons, with the CSS classes of their marks."""
LEFT = ("data set", "slice", "method", "metric", "verdict", "why", "runs")


def write_ledger(runs: Sequence[Finished], root: Path, folder: Path, judged: Sequence[Table] = ()) -> Path:
    """Writes ``ledger.html``.

    Args:
        runs: Finished runs.
        root: Folder of the stores, whose statistics are also compared.
        folder: Folder for the page.
        judged: Tables of all runs that have verdicts already, which take seconds.

    Returns:
        Path of the page.
    """
    papers = [read_paper(REPORTED / f"{name}.yaml") for name in paper_names()]
    found = entries_of(papers, runs, root, judged)
    counts = Counter(entry.verdict for entries in found.values() for entry in entries)
    buttons = [
        f'<button type="button" data-verdict="{verdict}" aria-current="false"><b>{verdict}</b> '
        f"<span>{counts[verdict]}</span></button>"  # type: ignore[index]  # a verdict may be None
        for verdict in VERDICTS
        if counts[verdict]  # type: ignore[index]  # a verdict may be None
    ]
    total = f"{sum(counts.values())} figures and claims of {len(papers)} papers, generated "
    parts = {
        "style": (ASSETS / "style.css").read_text("utf-8"),
        "made": total + now(),
        "verdicts": "\n".join(buttons),
        "papers": "\n".join(_paper(paper, found[paper.name]) for paper in papers),
        "script": (ASSETS / "ledger.js").read_text("utf-8"),
    }
    write_atomically(folder / "ledger.html", filled("ledger.html", parts))
    return folder / "ledger.html"


def _paper(paper: Paper, entries: Sequence[LedgerEntry]) -> str:
    tables = [
        _table(paper, heading, [record_of(paper.name, entry) for entry in members])
        for heading, members in groupby(entries, key=heading_of)
    ]
    note = f'<p class="legend"><b>{escape(paper.name)}.</b> {escape(paper.note)}</p>' if paper.note else ""
    return "\n".join([note, *tables])


def _table(paper: Paper, heading: tuple[str, str, bool], records: Sequence[dict[str, Any]]) -> str:
    table, about, orderings = heading
    title = f"{paper.name}, {table}: {about}" + (" (orderings)" if orderings else "")
    columns = {name: name in LEFT for name in texts_of(records[0])}
    source, where = records[0]["source"] or paper.source, "the source" if records[0]["source"] else "the paper"
    link = f'<a href="{escape(source)}">{where}</a>'
    return section(title, link, columns, "\n".join(map(_row, records)))


def _row(record: dict[str, Any]) -> str:
    cells = {name: escape(text) for name, text in texts_of(record).items()}
    cells["verdict"] = f'<span class="{VERDICTS[record["verdict"]]}">{record["verdict"]}</span>'
    cells["why"] = f'<span style="white-space:normal">{cells["why"]}</span>'
    if record["runs"]:
        cells["runs"] = (
            f"<details><summary>{len(record['runs'])}</summary>{'<br>'.join(map(escape, record['runs']))}</details>"
        )
    content = "".join(f"<td{alignment(name in LEFT)}>{text}</td>" for name, text in cells.items())
    return f'<tr data-verdict="{record["verdict"]}">{content}</tr>'
