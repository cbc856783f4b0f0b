"""``recbench leaderboard``: tables of finished runs, as text or as a page."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from benchmarks.cli import write
from benchmarks.leaderboard.formats import as_csv, as_json, as_markdown
from benchmarks.leaderboard.judge import judged
from benchmarks.leaderboard.replays import settle
from benchmarks.leaderboard.rows import Table, build_table, build_tables, knows
from benchmarks.leaderboard.sources import Finished, distinct, own_runs
from benchmarks.leaderboard.submission import SUFFIX, unpack
from benchmarks.runs import INFORMATION
from common.errors import UserError, nearest


def leaderboard(
    runs: list[Path] | None = None,
    *,
    format: Literal["md", "csv", "json"] = "md",
    html: Path | None = None,
    dataset: str | None = None,
    protocol: str | None = None,
    slice: str = "overall",
    slices: list[str] | None = None,
    reads: list[str] | None = None,
    root: Path = Path("data"),
) -> None:
    """Prints tables of finished runs, one per data set and protocol, or writes them as a page.

    Args:
        runs: Run folders, folders that contain some, or files of `recbench submit`; ``runs`` when omitted.
        format: Markdown, CSV (one line per row and metric) or JSON.
        html: Folder for a page with tables, plots and a card for each run, and the ledger as a second page, together
            with the tables in all formats.
        dataset: Only this data set.
        protocol: Only this protocol, in a single table; refused if runs differ in its details.
        slice: Slice of the test cases, such as ``cold_item``.
        slices: Slices whose primary metric becomes an additional column.
        reads: Only methods that read nothing beyond these parts of the information set.
        root: Folder of the stores, whose statistics the ledger page compares with those that papers print.
    """
    for name in reads or []:
        if name not in INFORMATION:
            raise UserError(f"--reads: no method can read {name!r}.", nearest(name, INFORMATION))
    everything = gather(runs or [Path("runs")])
    datasets = {run.result.dataset for run in everything}
    if dataset is not None and datasets and dataset not in datasets:
        raise UserError(f"There is no finished run on {dataset!r}.", nearest(dataset, datasets))
    found = [run for run in everything if dataset in (None, run.result.dataset)]
    if reads is not None:
        found = [run for run in found if set(run.result.information_set) <= set(reads)]
    if protocol is not None:
        protocols = {name for run in found for name in run.result.protocols}
        if protocols and protocol not in protocols:
            raise UserError(f"No run was tested under {protocol!r}.", nearest(protocol, protocols))
        found = [run for run in found if protocol in run.result.protocols]
    if not found:
        raise UserError(*_nothing(runs or [Path("runs")]))
    known = {key.split("/")[2] for run in found for key in run.result.cases}
    for name in [slice, *(slices or [])]:
        if name not in known:
            raise UserError(f"No run has a slice {name!r}.", nearest(name, known))
    tables = tables_of(found, protocol, slice)
    if not any(row.metrics for table in tables for row in table.rows):
        raise UserError(f"No test case of these runs belongs to the slice {slice!r}.", _filled(found, protocol))
    _tell_older(found, protocol, slice)
    if html is not None:
        from benchmarks.html.ledger import write_ledger
        from benchmarks.html.page import write_page

        # The ledger is given all runs: what a filter leaves out is not missing.
        whole = dataset is None and protocol is None and reads is None
        write_ledger(everything, root, html, tables if whole else ())
        write(str(write_page(tables, found, html, slices or ())))
        return
    write({"md": as_markdown, "csv": as_csv, "json": as_json}[format](tables, slices or ()))


def _tell_older(found: Sequence[Finished], protocol: str | None, slice: str) -> None:
    """Names the runs, if any, that are left out of the tables because they are older than a slice."""
    names = [[protocol] if protocol else run.result.protocols for run in found]
    older = [run for run, own in zip(found, names, strict=True) if not any(knows(run.result, p, slice) for p in own)]
    if older:
        others = f" and {len(older) - 1} more" if older[1:] else ""
        cure = "`recbench evaluate` tests a run on the slices of today"
        sys.stderr.write(f"recbench: {older[0].path}{others} without slice {slice!r} are left out; {cure}.\n")


def _nothing(places: Sequence[Path]) -> tuple[str, str]:
    """What to say if there is no run: packed ones must be named, for their rows are those of others."""
    packed = next((folder for folder in places if next(folder.glob(f"*{SUFFIX}"), None)), None)
    if packed is None:
        return "There is no finished run to show.", "Train one with `recbench run`, or name other folders."
    return f"{packed} has no run folder, only files of `recbench submit`.", f"Name them: {packed}/*{SUFFIX}"


def _filled(found: Sequence[Finished], protocol: str | None) -> str:
    """A cure that names the slices with cases."""
    keys = (key.split("/") for run in found for key, count in run.result.cases.items() if count)
    return nearest("", {name for _, tested, name in keys if protocol in (None, tested)})


def gather(places: Sequence[Path]) -> list[Finished]:
    """Finished runs in folders and in files of `recbench submit`.

    Raises:
        UserError: If one does not exist or cannot be trusted: see :func:`distinct` and :func:`unpack`.
    """
    for place in places:
        if place.suffix == ".zip" and not place.exists():
            raise UserError(f"There is no file {place}.", "Check the path.")
    files = [place for place in places if place.is_file()]
    return settle(distinct([*own_runs(place for place in places if place not in files), *map(unpack, files)]))


def tables_of(found: list[Finished], protocol: str | None = None, slice: str = "overall") -> list[Table]:
    """Tables with verdicts: one per data set and protocol id, or one per data set if ``protocol`` is given.

    Raises:
        UserError: If ``protocol`` is given and the runs' protocol ids differ, or ranks contradict a result.
    """
    results = [run.result for run in found]
    if protocol is None:
        tables = build_tables(results, slice)
    else:
        names = sorted({result.dataset for result in results if knows(result, protocol, slice)})
        tables = [build_table([r for r in results if r.dataset == name], protocol, slice) for name in names]
    finished = [judged(table, found) for table in tables]
    # Verdicts read the ranks of rows with the primary metric alone.
    for run in found:
        for name in run.result.protocols if protocol is None else [protocol]:
            run.require_figures(name)
    return finished
