"""The live view of a running suite, the commands and time of a plan, and the state of its runs."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from benchmarks.experiments import read_yaml
from benchmarks.launch.journal import Journal, held_since
from benchmarks.launch.reports import Report
from benchmarks.launch.schedule import Attempt, Schedule
from benchmarks.launch.times import clock, durations, estimate, expected, shipped_times
from benchmarks.runs import CONFIG, read_metrics

if TYPE_CHECKING:
    from benchmarks.launch.plan import SuiteRun


class LiveView:
    """A table of the runs in progress, redrawn in place; without a terminal, one line per event.

    Args:
        schedule: The runs to show.
        total: Number of runs of the suite.
    """

    def __init__(self, schedule: Schedule, total: int) -> None:
        self.schedule, self.total = schedule, total
        self.console = Console(stderr=True)
        self.live = Live(console=self.console, refresh_per_second=2) if self.console.is_terminal else None

    def __enter__(self) -> LiveView:
        if self.live:
            self.live.start()
        else:
            sys.stderr.write(f"{len(self.schedule.done)} of {self.total} runs are done.\n")
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            self.live.stop()

    def update(self) -> None:
        """Shows new events and the current table."""
        for line in self.schedule.events:
            self.console.print(line, highlight=False, markup=False, soft_wrap=True)
        self.schedule.events.clear()
        if self.live:
            self.live.update(self.table())

    def table(self) -> Table:
        """State, epoch, metric and remaining time of each run in progress."""
        state = self.schedule
        title = f"{len(state.done)} of {self.total} done, {len(state.waiting)} waiting, {len(state.failed)} failed"
        table = Table(title=title, title_justify="left")
        for name in ("run", "state", "epoch", "metric", "elapsed", "at most"):
            table.add_column(name, justify="left" if name in ("run", "state") else "right")
        for attempt in state.running.values():
            epoch, metric, left = progress(attempt)
            again = "resumed" if attempt.resumed else "retried" if attempt.number > 1 else "running"
            table.add_row(attempt.entry.label, again, epoch, metric, clock(time.monotonic() - attempt.started), left)
        return table


def progress(attempt: Attempt) -> tuple[str, str, str]:
    """Epoch, monitored metric and longest remaining time, as read from the files of the run; empty if unknown."""
    folder = attempt.entry.folder
    logged = read_metrics(folder)
    if not (logged and (folder / CONFIG).is_file()):
        return "", "", ""
    settings = read_yaml(folder / CONFIG)
    monitor, trainer = settings["early_stopping"]["monitor"], settings["trainer"]
    last, most = trainer.get("max_epochs") or -1, trainer.get("max_steps") or -1
    rows = [row for row in logged if monitor in row]
    if not rows:
        return "", "", ""
    epoch, elapsed = int(float(rows[-1]["epoch"])) + 1, time.monotonic() - attempt.started
    steps = int(float(rows[-1].get("step") or 0)) + 1
    # The first limit to be reached ends the run; early stopping may end it sooner.
    share = max(epoch / last if last > 0 else 0, steps / most if most > 0 else 0)
    left = clock(max(0.0, elapsed / share - elapsed)) if share and not attempt.resumed else ""
    return f"{epoch}/{last}" if last > 0 else str(epoch), f"{monitor} {float(rows[-1][monitor]):.4f}", left


def plan_lines(entries: Sequence[SuiteRun], runs: Path, jobs: int, suite: str) -> list[str]:
    """The command of each run, and the total time, estimated from earlier runs of the same methods.

    Args:
        entries: All runs.
        runs: Folder of all runs.
        jobs: Runs at a time.
        suite: Name of the suite, if it is a shipped one as it is.
    """
    known = durations(runs)
    left = [entry for entry in entries if entry.state != "done"]
    todo = [expected(known, e.dataset, [e.method, e.of], e.budget) for e in left if not isinstance(e, Report)]
    lines = [shlex.join(["recbench", entry.command, *entry.arguments]) for entry in entries]
    total = sum(not isinstance(entry, Report) for entry in entries)
    rest = estimate(todo, suite, total)
    some, span = rest.unknown < len(todo), clock(rest.seconds / jobs)
    text = f", {'at most' if rest.at_most else 'about'} {span}" if some else ", time unknown" if todo else ""
    if rest.elsewhere:
        text = f", {'<' * rest.at_most}~{span} as timed on {shipped_times()[0]}"
    if some and rest.unknown:
        text += f", not counting {rest.unknown} of methods that have not run yet"
    reports = f"; {len(left) - len(todo)} reports to do" if len(left) > len(todo) else ""
    return [*lines, f"# {len(todo)} of {total} runs to do{text}; {jobs} at a time{reports}"]


def status_lines(entries: Sequence[SuiteRun], folder: Path) -> list[str]:
    """The state of each run, with its last event in the journal."""
    last, since = Journal(folder).last(), held_since(folder)
    lines = []
    for entry in entries:
        event = last.get(entry.run_id, {})
        seconds = f"  {clock(event['seconds'])}" if event.get("seconds") is not None else ""
        code = f"  exit {event['code']}" if event.get("code") else ""
        lines.append(f"{_state(entry, event, since):<11}{entry.label}{seconds}{code}")
    return lines


def _state(entry: SuiteRun, event: Mapping[str, Any], since: float | None) -> str:
    """State of a run from its folder and its last event; a run started by a suite that was killed is not running."""
    if entry.state == "done":
        return "done"
    if event.get("event") == "started" and since is not None and event["time"] >= since:
        return "running"
    return event["event"] if event.get("event") in ("failed", "blocked") else entry.state
