"""One HTML file that contains data, style, code and chart library."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from plotly.offline import get_plotlyjs

from benchmarks.html.payload import as_script, payload
from benchmarks.html.section import ASSETS, filled, now
from benchmarks.leaderboard.formats import as_csv, as_json, as_markdown
from benchmarks.leaderboard.rows import Table
from benchmarks.leaderboard.sources import Finished
from benchmarks.runs import write_atomically

SCRIPTS = ("state.js", "table.js", "charts.js", "card.js", "main.js")


def write_page(tables: Sequence[Table], runs: Sequence[Finished], folder: Path, slices: Sequence[str] = ()) -> Path:
    """Writes ``index.html`` and, next to it, the tables as Markdown, CSV and JSON.

    Args:
        tables: Tables with verdicts.
        runs: Their runs.
        folder: Folder for the files.
        slices: Slices whose primary metric becomes a column of the tables in text; the page can show any.

    Returns:
        Path of the page.
    """
    values = payload(tables, runs) | {"made": now()}
    parts = {
        "style": (ASSETS / "style.css").read_text("utf-8"),
        "data": as_script(values),
        "library": get_plotlyjs(),
        "script": "\n".join((ASSETS / name).read_text("utf-8") for name in SCRIPTS),
    }
    page = filled("page.html", parts)
    formats = {"md": as_markdown, "csv": as_csv, "json": as_json}
    tables_in = {f"leaderboard.{ending}": form(tables, slices) for ending, form in formats.items()}
    for name, text in ({"index.html": page} | tables_in).items():
        write_atomically(folder / name, text)
    return folder / "index.html"
