"""How long runs take: measured here, or shipped as measured on another machine."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.experiments import CONFIGS, read_yaml
from benchmarks.runs import CONFIG, Result, find_runs, flat, read_result
from benchmarks.settings import setting_of
from common.data.views import OVERALL
from common.errors import UserError

Budget = tuple[str, ...]
"""What a run's time depends on besides data set and method: the values of :data:`OTHER_TIMES`, or :data:`TESTED`."""
OTHER_TIMES = ("model.llm", "trainer.max_epochs", "trainer.max_steps", "data.scenario")
"""Options that make a method take a different time than its experiment."""
STEPS = OTHER_TIMES.index("trainer.max_steps")
TESTED: Budget = ("tested",)
"""The budget of a test of a finished run, which trains nothing."""


def budget_of(settings: Mapping[str, Any]) -> Budget:
    """The budget of a training with these settings, all by dotted name without ``init_args``."""
    return tuple(str(settings.get(option)) for option in OTHER_TIMES)


def budget_in(experiment: str, changes: Mapping[str, Any] | None = None) -> Budget:
    """The budget of an experiment, as it is or with changed settings."""
    return budget_of({option: setting_of(experiment, option) for option in OTHER_TIMES} | dict(changes or {}))


def finished(runs: Path) -> Iterator[tuple[Result, dict[str, Any]]]:
    """Results and settings of the finished runs; those that cannot be read are skipped."""
    for folder in find_runs([runs]) if runs.is_dir() else ():
        try:
            yield read_result(folder), flat(read_yaml(folder / CONFIG))
        except (UserError, OSError, UnicodeDecodeError):
            continue


def durations(runs: Path) -> dict[tuple[str, str, Budget], float]:
    """Median seconds of the finished runs of each method on each data set with each budget."""
    found: dict[tuple[str, str, Budget], list[float]] = defaultdict(list)
    for result, settings in finished(runs):
        # A test states the training of its run, too.
        trained = 0.0 if result.checkpoint else result.seconds.get("train", 0.0)
        budget = TESTED if result.checkpoint else budget_of(settings)
        found[result.dataset, result.method, budget].append(trained + result.seconds.get("test", 0.0))
    return {key: statistics.median(values) for key, values in found.items()}


@cache
def shipped_times() -> tuple[str, dict[tuple[str, str], float]]:
    """The name of a machine, and the median seconds of methods on it, by data set and method."""
    values = read_yaml(CONFIGS / "times.yaml")
    times = {(dataset, method): float(s) for dataset, row in values["seconds"].items() for method, s in row.items()}
    return values["machine"], times


@cache
def shipped_sizes() -> dict[str, int]:
    """Numbers of events of the data sets that suites name."""
    return {dataset: int(events) for dataset, events in read_yaml(CONFIGS / "times.yaml")["events"].items()}


@cache
def shipped_suite_times() -> dict[str, float]:
    """Seconds of whole suites on the machine of :func:`shipped_times`, where their rows have budgets of their own."""
    return {name: float(seconds) for name, seconds in read_yaml(CONFIGS / "times.yaml")["suites"].items()}


class Expected(NamedTuple):
    """How long a run takes.

    Attributes:
        seconds: Its time; NaN if unknown.
        elsewhere: Whether it was measured on another machine, perhaps on other data.
        at_most: Whether it is that of a larger budget.
    """

    seconds: float
    elsewhere: bool = False
    at_most: bool = False


class Estimate(NamedTuple):
    """How long the rest of a suite takes.

    Attributes:
        seconds: Time of the runs whose time is known.
        unknown: Number of the others.
        elsewhere: Whether ``seconds`` include times of another machine.
        at_most: Whether ``seconds`` include times of larger budgets.
    """

    seconds: float
    unknown: int
    elsewhere: bool
    at_most: bool = False


def estimate(left: Sequence[Expected], suite: str, total: int) -> Estimate:
    """Time of the runs that a suite has left.

    Args:
        left: What :func:`expected` says of each.
        suite: Name of the suite. If it was timed as a whole, its share of that time is better than times of methods,
            whose budgets it may change.
        total: Number of all runs of the suite.
    """
    known = [run.seconds for run in left if not math.isnan(run.seconds)]
    unknown = len(left) - len(known)
    elsewhere, at_most = any(run.elsewhere for run in left), any(run.at_most for run in left)
    whole = shipped_suite_times().get(suite)
    if whole is not None and (unknown or elsewhere or at_most):
        return Estimate(whole * len(left) / total, 0, True)
    return Estimate(sum(known), unknown, elsewhere, at_most)


def expected(
    known: Mapping[tuple[str, str, Budget], float], dataset: str, methods: Sequence[str], budget: Budget
) -> Expected:
    """How long a run will take: as runs like it did, here or elsewhere, or at most as long as runs of larger budgets.

    Where a method was never timed on a data set, its time on another one is scaled.

    Args:
        known: Median seconds of the runs that were done here.
        dataset: Data set.
        methods: Label of the run, and the method that it is a variant of.
        budget: Budget of the run. Times of another machine are those of the shipped experiments' own budgets.
    """
    for method in methods:
        if (dataset, method, budget) in known:
            return Expected(known[dataset, method, budget])
    shipped = {
        (dataset, method, budget_in(f"{dataset}/{method}")): shipped_times()[1][dataset, method]
        for method in methods
        if (dataset, method) in shipped_times()[1]
    }
    for (_, _, other), seconds in shipped.items():
        if other == budget:
            return Expected(seconds, elsewhere=True)
    for times, elsewhere in ((known, False), (shipped, True)):
        larger = [times[key] for key in times if key[0] == dataset and key[1] in methods and _within(budget, key[2])]
        if larger:
            return Expected(min(larger), elsewhere, at_most=True)
    return _scaled(dataset, methods, budget)


def _scaled(dataset: str, methods: Sequence[str], budget: Budget) -> Expected:
    """The time of a method on the data set of the most similar size, in proportion to events if epochs limit it."""
    sizes, times = shipped_sizes(), shipped_times()[1]
    found = {}
    for (other, method), seconds in times.items():
        if method in methods and dataset in sizes and other in sizes and budget != TESTED:
            measured = budget_in(f"{other}/{method}")
            if _within(budget, measured):
                ratio = sizes[dataset] / sizes[other]
                found[abs(math.log(ratio))] = seconds * (ratio if math.isinf(_limit(measured[STEPS])) else 1)
    return Expected(found[min(found)], elsewhere=True) if found else Expected(math.nan)


def _within(budget: Budget, other: Budget) -> bool:
    """Whether a training with the same language model has no more epochs, steps and users than another one."""
    if TESTED in (budget, other):
        return False
    (llm, *limits, scenario), (other_llm, *other_limits, other_scenario) = budget, other
    smaller = all(_limit(own) <= _limit(most) for own, most in zip(limits, other_limits, strict=True))
    return smaller and llm == other_llm and other_scenario in (scenario, OVERALL)


def _limit(number: str) -> float:
    return math.inf if number in ("None", "-1") else float(number)


def clock(seconds: float) -> str:
    """A duration as text.

    >>> clock(42.4), clock(3700)
    ('42 s', '1 h 02 min')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"
