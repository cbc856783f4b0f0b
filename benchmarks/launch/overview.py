"""An overview of the shipped suites: the data each needs, its size, the time it will take, and its state."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.columns import aligned
from benchmarks.experiments import find_suite, suite_names
from benchmarks.launch.journal import held_since
from benchmarks.launch.reports import is_reported
from benchmarks.launch.rows import (
    SuiteRow,
    experiment_of,
    key_of,
    model_of,
    recipe_of,
    rows_of,
    seeds_of,
    timeless,
    transferable_in,
)
from benchmarks.launch.suites import Suite, read_suite
from benchmarks.launch.times import (
    OTHER_TIMES,
    TESTED,
    Budget,
    Expected,
    budget_of,
    clock,
    durations,
    estimate,
    expected,
    finished,
    shipped_times,
)
from benchmarks.runs import ORIGIN
from benchmarks.settings import setting_of
from benchmarks.standins import STANDIN, find_standin
from common.data.stores import find_store
from common.errors import UserError

OF_THE_TEST = ("data.recipe", "data.store", "model.domain")
"""Settings that differ in a test on another data set."""
DECISIVE = (*OTHER_TIMES, "data.split")
"""Settings that make another run of a method under the same label, and which a suite may leave to the experiment."""
RUN_ID, FINGERPRINT = "run_id", "fingerprint"
"""Keys of a finished run's id, and of that of the data it was tested on, among its settings."""


@dataclass(frozen=True)
class Overview:
    """A suite at a glance.

    Attributes:
        name: Its name.
        data: State of each data set: ``ready``, ``not prepared`` or ``no stand-in``.
        runs: Number of its runs.
        done: How many of them are done.
        seconds: Estimated time of the remaining runs whose methods have been timed, here or on another machine.
        unknown: How many of the remaining runs are of methods that have not been timed.
        running: Whether a process is running it now.
        reports: How many reports are left.
        elsewhere: Whether ``seconds`` include times of another machine.
        at_most: Whether ``seconds`` include times of larger budgets.
    """

    name: str
    data: dict[str, str]
    runs: int
    done: int
    seconds: float
    unknown: int
    running: bool
    reports: int = 0
    elsewhere: bool = False
    at_most: bool = False

    @property
    def state(self) -> str:
        """Its state, in words."""
        if self.running:
            return f"running, {self.done} of {self.runs} done"
        if self.done == self.runs and self.reports:
            return f"reports to do: {self.reports}"
        return "done" if self.done == self.runs else f"{self.done} of {self.runs} done" if self.done else "to do"

    @property
    def left(self) -> str:
        """The remaining time, in words."""
        known = self.runs - self.done - self.unknown
        if not known:
            return "" if self.done == self.runs else "unknown"
        mark = "<" * self.at_most + "~" * self.elsewhere
        rest = f" and {self.unknown} unknown" if self.unknown else ""
        return f"{mark}{clock(self.seconds)}{rest}"


def overviews(root: Path, runs: Path) -> list[Overview]:
    """All shipped suites.

    Args:
        root: Folder of the stores.
        runs: Folder of all runs.
    """
    settings = finished_settings(runs)
    known = durations(runs)
    return [overview(name, read_suite(find_suite(name)), root, runs, settings, known) for name in suite_names()]


def overview(
    name: str,
    suite: Suite,
    root: Path,
    runs: Path,
    settings: Mapping[tuple[str, str, int], Sequence[Mapping[str, Any]]],
    known: Mapping[tuple[str, str, Budget], float],
) -> Overview:
    """A suite at a glance.

    Args:
        name: Its name.
        suite: Its content.
        root: Folder of the stores.
        runs: Folder of all runs.
        settings: Result of :func:`finished_settings`.
        known: Median seconds by data set, method and budget.
    """
    data, done, left, reports = dict[str, str](), 0, list[Expected](), 0
    folder = runs / "suites" / name
    for dataset in suite.datasets:
        rows = rows_of(suite, dataset, timeless(suite, dataset, root))
        data |= _stores(suite, dataset, rows, root)
        transferable = transferable_in(suite, dataset, rows)
        others = [(f"{key_of(dataset)}>{key_of(other)}", recipe_of(other)) for other in suite.across]
        measures = [report for report in suite.reports if "name" in report]
        reports += sum(not is_reported(report, report["name"], dataset, folder) for report in measures)
        for row, seed in _seeded(suite, dataset, rows):
            experiment = experiment_of(dataset, row.method)
            usual = {option: setting_of(experiment, option) for option in DECISIVE}
            wanted = usual | _plain(suite.options | row.options)
            for tested, recipe in [(key_of(dataset), wanted), *(others if row.key in transferable else ())]:
                found = settings.get((tested, row.label, seed), ())
                # A store that was prepared since has no runs yet, whatever its recipe.
                store = _fingerprint(root, tested, recipe.get("data.recipe")) if found else {}
                same = [run for run in found if _equal(run, wanted | store, tested)]
                if same:
                    done += 1
                else:
                    budget = TESTED if ">" in tested else budget_of(wanted)
                    left.append(expected(known, tested.rpartition(">")[2], [row.label, row.method], budget))
                if tested == key_of(dataset):
                    reports += _unreported(suite, row, seed, [run[RUN_ID] for run in same], folder)
    for other in suite.across:
        data.setdefault(other, readiness(root, other, recipe_of(other), ()))
    rest = estimate(left, name, done + len(left))
    return Overview(
        name=name,
        data=data,
        runs=done + len(left),
        done=done,
        seconds=rest.seconds,
        unknown=rest.unknown,
        running=held_since(folder) is not None,
        reports=reports,
        elsewhere=rest.elsewhere,
        at_most=rest.at_most,
    )


def finished_settings(runs: Path) -> dict[tuple[str, str, int], list[dict[str, Any]]]:
    """Settings and ids of all finished runs, by data set, label and seed; settings have names without ``init_args``.

    A test on another data set is filed under ``<data set of the training>><data set of the test>``.
    """
    found = defaultdict(list)
    for result, settings in finished(runs):
        origin = result.data.get(ORIGIN)
        if result.checkpoint is None or origin:
            # A configuration need not name the recipe of its store; the result does.
            own = {"data.recipe": result.data.get("recipe"), RUN_ID: result.run_id}
            own |= {FINGERPRINT: result.data.get("fingerprint")}
            tested = f"{origin}>{result.dataset}" if origin else result.dataset
            found[tested, result.method, result.seed].append(settings | own)
    return found


def _stores(suite: Suite, dataset: str, rows: Sequence[SuiteRow], root: Path) -> dict[str, str]:
    """State of a suite's data set, and of the same under other recipes, which rows may vary."""
    states = {dataset: readiness(root, dataset, suite.options | recipe_of(dataset), rows)}
    recipes = {f"{key_of(dataset)}/{row.options['data.recipe']}" for row in rows if "data.recipe" in row.options}
    return states | {other: readiness(root, other, recipe_of(other), rows) for other in sorted(recipes - {dataset})}


def readiness(root: Path, dataset: str, options: Mapping[str, Any], rows: Sequence[SuiteRow]) -> str:
    """Whether a data set has the store that a suite needs, and the stand-in language model if any row needs it."""
    try:
        store = find_store(root, key_of(dataset), options.get("data.recipe"), options.get("data.store"))
    except UserError:
        return "not prepared"
    if any(_arguments(dataset, row).get("llm") == STANDIN for row in rows):
        try:
            find_standin(store)
        except UserError:
            return "no stand-in"
    return "ready"


def as_lines(found: Sequence[Overview]) -> list[str]:
    """A table of suites, one line each, and the meaning of its marks."""
    table = [("suite", "state", "runs", "time left", "data")]
    for one in found:
        data = ", ".join(key if state == "ready" else f"{key} ({state})" for key, state in one.data.items())
        table.append((one.name, one.state, str(one.runs), one.left, data))
    about = f"# ~: as timed on {shipped_times()[0]}, or scaled by the number of events"
    notes = [about] if any(one.elsewhere for one in found) else []
    notes += ["# <: at most, as timed with more epochs, steps or users"] if any(one.at_most for one in found) else []
    return ["  ".join(row).rstrip() for row in aligned(table)] + notes


def _seeded(suite: Suite, dataset: str, rows: Sequence[SuiteRow]) -> Iterator[tuple[SuiteRow, int]]:
    """Every row that has runs of its own, with each of its seeds."""
    for row in _apart(suite, dataset, rows):
        seeds = seeds_of(suite, dataset, row)
        yield from ((row, seed) for seed in (seeds[:1] if _once(dataset, row) else seeds))


def _fingerprint(root: Path, tested: str, recipe: str | None) -> dict[str, str]:
    """That of the store that runs are planned to be tested on, as a setting; none if it is not prepared."""
    try:
        return {FINGERPRINT: find_store(root, tested.rpartition(">")[2], recipe).manifest.fingerprint}
    except UserError:
        return {}


def _unreported(suite: Suite, row: SuiteRow, seed: int, run_ids: Sequence[str], folder: Path) -> int:
    """How many reports of a row are left, if it has finished runs with these ids."""
    own = [report for report in suite.reports if row.label in report.get("methods", ())]
    what = f"{row.label}-{seed}"
    return sum(not any(is_reported(report, what, run_id, folder) for run_id in run_ids) for report in own)


def _apart(suite: Suite, dataset: str, rows: Sequence[SuiteRow]) -> list[SuiteRow]:
    """Rows without those that change nothing about their method, as in the plan."""
    kept: dict[str, SuiteRow] = {}
    same: dict[str, str] = {}
    for row in rows:
        usual = kept.get(row.method)
        needs = {other: same.get(key, key) for other, key in row.needs.items()}
        if usual is not None and needs == usual.needs:
            have, changed = (_plain(suite.options | one.options) for one in (usual, row))
            experiment = experiment_of(dataset, row.method)
            if all((have[k] if k in have else setting_of(experiment, k)) == v for k, v in changed.items()):
                same[row.key] = row.method
                continue
        kept[row.key] = row
    return list(kept.values())


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    return {key.replace(".init_args", ""): value for key, value in options.items()}


def _once(dataset: str, row: SuiteRow) -> bool:
    """Whether a row is a single run for all seeds: a closed form without predecessors."""
    from benchmarks.configuration import closed_form

    return not row.needs and closed_form(str(model_of(dataset, row.method)["class_path"]))


def _arguments(dataset: str, row: SuiteRow) -> dict[str, Any]:
    changed = {key.rpartition(".")[2]: value for key, value in row.options.items() if key.startswith("model.")}
    return {**model_of(dataset, row.method).get("init_args", {}), **changed}


def _equal(run: Mapping[str, Any], wanted: Mapping[str, Any], tested: str) -> bool:
    """Whether a finished run has all wanted settings, except for those that differ in tests on other data."""
    keys = [key for key in wanted if ">" not in tested or key not in OF_THE_TEST]
    pairs = [(run.get(key), wanted[key]) for key in keys]
    return all(have == want or (isinstance(want, int | float) and str(have) == str(want)) for have, want in pairs)
