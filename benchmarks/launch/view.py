"""What is to be seen while a suite runs, what a plan will take, and what state it is in."""

from __future__ import annotations

import csv
import math
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from benchmarks.experiments import CONFIGS, read_yaml
from benchmarks.launch.journal import Journal, held_since
from benchmarks.launch.reports import Report
from benchmarks.launch.schedule import Attempt, Schedule
from benchmarks.runs import CONFIG, METRICS, Result, find_runs, read_result
from common.errors import UserError

if TYPE_CHECKING:
    from benchmarks.launch.plan import SuiteRun

OTHER_TIMES = ("model.llm", "trainer.max_epochs", "trainer.max_steps")
"""Options with which a method takes another time than that of its experiment."""


class LiveView:
    """A table of the runs under way, redrawn in place; one line an event where there is no terminal.

    Args:
        schedule: What is shown.
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
        """Shows what is new."""
        for line in self.schedule.events:
            self.console.print(line, highlight=False, markup=False, soft_wrap=True)
        self.schedule.events.clear()
        if self.live:
            self.live.update(self.table())

    def table(self) -> Table:
        """State, epoch, metric and time left of each run under way."""
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
    """Epoch, monitored metric and the longest time left, as far as the run has written them down."""
    folder = attempt.entry.folder
    path, config = folder / METRICS, folder / CONFIG
    if not (path.is_file() and config.is_file()):
        return "", "", ""
    settings = read_yaml(config)
    monitor, trainer = settings["early_stopping"]["monitor"], settings["trainer"]
    last, most = trainer.get("max_epochs") or -1, trainer.get("max_steps") or -1
    with path.open() as stream:
        rows = [row for row in csv.DictReader(stream) if row.get(monitor)]
    if not rows:
        return "", "", ""
    epoch, elapsed = int(float(rows[-1]["epoch"])) + 1, time.monotonic() - attempt.started
    steps = int(float(rows[-1].get("step") or 0)) + 1
    # Whichever limit comes first ends it; early stopping may do so sooner.
    share = max(epoch / last if last > 0 else 0, steps / most if most > 0 else 0)
    left = clock(max(0.0, elapsed / share - elapsed)) if share and not attempt.resumed else ""
    return f"{epoch}/{last}" if last > 0 else str(epoch), f"{monitor} {float(rows[-1][monitor]):.4f}", left


def finished(runs: Path) -> Iterator[tuple[Path, Result]]:
    """Folders of the finished runs, with what they say of themselves; one that cannot be read tells nothing here."""
    for folder in find_runs([runs]) if runs.is_dir() else ():
        try:
            yield folder, read_result(folder)
        except (UserError, OSError, UnicodeDecodeError):
            continue


def durations(runs: Path) -> dict[tuple[str, str], float]:
    """Median seconds of the finished runs of each method on each data set."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for _, result in finished(runs):
        seconds = result.seconds.get("train", 0.0) + result.seconds.get("test", 0.0)
        found[result.dataset, result.method].append(seconds)
    return {key: statistics.median(values) for key, values in found.items()}


@cache
def shipped_times() -> tuple[str, dict[tuple[str, str], float]]:
    """A machine, and the median seconds that methods took on it, by data set and method."""
    values = read_yaml(CONFIGS / "times.yaml")
    times = {(dataset, method): float(s) for dataset, row in values["seconds"].items() for method, s in row.items()}
    return values["machine"], times


def expected(
    known: Mapping[tuple[str, str], float], dataset: str, methods: Sequence[str], changed: bool
) -> tuple[float, bool]:
    """Seconds that a run will take, NaN where nobody knows, and whether they are those of another machine.

    Args:
        known: Median seconds of the runs that are done here.
        dataset: Data set.
        methods: What the run is called, and what it is a variant of.
        changed: Whether it is not what was timed elsewhere.
    """
    for times, elsewhere in ((known, False), ({} if changed else shipped_times()[1], True)):
        for method in methods:
            if (dataset, method) in times:
                return times[dataset, method], elsewhere
    return math.nan, False


def changes_time(options: Iterable[str]) -> bool:
    """Whether any option, bare or as an argument, makes a method take another time."""
    names = (option.removeprefix("--").partition("=")[0].replace(".init_args", "") for option in options)
    return not set(OTHER_TIMES).isdisjoint(names)


def plan_lines(entries: Sequence[SuiteRun], runs: Path, jobs: int) -> list[str]:
    """The command of each run, and what all will take, judged by earlier runs of the same methods."""
    known = durations(runs)
    left = [entry for entry in entries if entry.state != "done"]
    todo = [
        # What a test of a finished run takes is not what its training took.
        expected(known, e.dataset, [e.method], e.command != "run" or changes_time(e.arguments))
        for e in left
        if not isinstance(e, Report)
    ]
    lines = [f"recbench {entry.command} {' '.join(entry.arguments)}" for entry in entries]
    guess = [seconds for seconds, _ in todo if not math.isnan(seconds)]
    text = f", about {clock(sum(guess) / jobs)}" if guess else ", time unknown" if todo else ""
    if any(elsewhere for _, elsewhere in todo):
        text = f", ~{clock(sum(guess) / jobs)} by the times of {shipped_times()[0]}"
    if 0 < len(guess) < len(todo):
        text += f" for all but {len(todo) - len(guess)} of methods that have not run yet"
    reports = f"; {len(left) - len(todo)} reports to do" if len(left) > len(todo) else ""
    total = sum(not isinstance(entry, Report) for entry in entries)
    return [*lines, f"# {len(todo)} of {total} runs to do{text}; {jobs} at a time{reports}"]


def status_lines(entries: Sequence[SuiteRun], folder: Path) -> list[str]:
    """The state of each run, with what the journal last says of it."""
    last, since = Journal(folder).last(), held_since(folder)
    lines = []
    for entry in entries:
        event = last.get(entry.run_id, {})
        seconds = f"  {clock(event['seconds'])}" if event.get("seconds") is not None else ""
        code = f"  exit {event['code']}" if event.get("code") else ""
        lines.append(f"{_state(entry, event, since):<11}{entry.label}{seconds}{code}")
    return lines


def _state(entry: SuiteRun, event: Mapping[str, Any], since: float | None) -> str:
    """Where a run stands, by its folder and its last event; what a suite began that was killed does not run."""
    if entry.state == "done":
        return "done"
    if event.get("event") == "started" and since is not None and event["time"] >= since:
        return "running"
    return event["event"] if event.get("event") in ("failed", "blocked") else entry.state


def clock(seconds: float) -> str:
    """A length of time.

    >>> clock(42.4), clock(3700)
    ('42 s', '1 h 02 min')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"
