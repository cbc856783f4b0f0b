"""How long runs take: measured here, or shipped as measured on another machine."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from benchmarks.experiments import CONFIGS, read_yaml
from benchmarks.runs import Result, find_runs, read_result
from common.errors import UserError

OTHER_TIMES = ("model.llm", "trainer.max_epochs", "trainer.max_steps")
"""Options that make a method take a different time than its experiment."""


def finished(runs: Path) -> Iterator[tuple[Path, Result]]:
    """Folders and results of the finished runs; those that cannot be read are skipped."""
    for folder in find_runs([runs]) if runs.is_dir() else ():
        try:
            yield folder, read_result(folder)
        except (UserError, OSError, UnicodeDecodeError):
            continue


def durations(runs: Path) -> dict[tuple[str, str], float]:
    """Median seconds of the finished runs of each method on each data set."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for _, result in finished(runs):
        # An evaluation states the training of the run that it tested, too.
        trained = 0.0 if result.checkpoint else result.seconds.get("train", 0.0)
        seconds = trained + result.seconds.get("test", 0.0)
        found[result.dataset, result.method].append(seconds)
    return {key: statistics.median(values) for key, values in found.items()}


@cache
def shipped_times() -> tuple[str, dict[tuple[str, str], float]]:
    """The name of a machine, and the median seconds of methods on it, by data set and method."""
    values = read_yaml(CONFIGS / "times.yaml")
    times = {(dataset, method): float(s) for dataset, row in values["seconds"].items() for method, s in row.items()}
    return values["machine"], times


@cache
def shipped_suite_times() -> dict[str, float]:
    """Seconds of whole suites on the machine of :func:`shipped_times`, where their rows have budgets of their own."""
    return {name: float(seconds) for name, seconds in read_yaml(CONFIGS / "times.yaml")["suites"].items()}


class Estimate(NamedTuple):
    """How long the rest of a suite takes.

    Attributes:
        seconds: Time of the runs whose time is known.
        unknown: Number of the others.
        elsewhere: Whether ``seconds`` include times of another machine.
    """

    seconds: float
    unknown: int
    elsewhere: bool


def estimate(left: Sequence[tuple[float, bool]], suite: str, total: int) -> Estimate:
    """Time of the runs that a suite has left.

    Args:
        left: What :func:`expected` says of each.
        suite: Name of the suite. If it was timed as a whole, its share of that time is better than times of methods,
            whose budgets it may change.
        total: Number of all runs of the suite.
    """
    known = [seconds for seconds, _ in left if not math.isnan(seconds)]
    unknown, elsewhere = len(left) - len(known), any(foreign for _, foreign in left)
    whole = shipped_suite_times().get(suite)
    if whole is not None and (unknown or elsewhere):
        return Estimate(whole * len(left) / total, 0, True)
    return Estimate(sum(known), unknown, elsewhere)


def expected(
    known: Mapping[tuple[str, str], float], dataset: str, methods: Sequence[str], changed: bool
) -> tuple[float, bool]:
    """Seconds that a run will take (NaN if unknown), and whether they were measured on another machine.

    Args:
        known: Median seconds of the runs that were done here.
        dataset: Data set.
        methods: Label of the run, and the method that it is a variant of.
        changed: Whether the run differs from what was timed on the other machine.
    """
    for times, elsewhere in ((known, False), ({} if changed else shipped_times()[1], True)):
        for method in methods:
            if (dataset, method) in times:
                return times[dataset, method], elsewhere
    return math.nan, False


def changes_time(options: Iterable[str]) -> bool:
    """Whether any option, with or without dashes and value, makes a method take a different time."""
    names = (option.removeprefix("--").partition("=")[0].replace(".init_args", "") for option in options)
    return not set(OTHER_TIMES).isdisjoint(names)


def clock(seconds: float) -> str:
    """A duration as text.

    >>> clock(42.4), clock(3700)
    ('42 s', '1 h 02 min')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"
