"""Reports of a suite: analyses of its finished runs, texts about users, and measurements of speed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.launch.plan import State, SuiteRun
from benchmarks.launch.rows import key_of, recipe_of
from benchmarks.launch.suites import REPORTS, Suite
from benchmarks.runs import hash_of
from common.errors import UserError, nearest


@dataclass(frozen=True)
class Report(SuiteRun):
    """A command that writes a page or figures into its suite's folder, after the run that it is about."""

    @property
    def output(self) -> Path:
        """The file that it writes last."""
        return self.folder / REPORTS[self.command]

    @property
    def log_name(self) -> str:
        """Name of the file that holds its output."""
        return f"{self.run_id}.log"

    @property
    def label(self) -> str:
        """The command, and the run or measurement that it is about."""
        if self.command == "speed":
            return f"speed {self.method} on {self.dataset}{f' ({self.table})' if self.table else ''}"
        return f"{self.command} {super().label}"

    @property
    def state(self) -> State:
        """Whether it is done or still to do."""
        return "done" if self.output.is_file() else "to do"


def reports_of(suite: Suite, entries: Sequence[SuiteRun], root: Path, suite_folder: Path) -> list[Report]:
    """All reports of a suite.

    Args:
        suite: The suite.
        entries: Its runs.
        root: Folder of the stores.
        suite_folder: Folder of the suite.

    Raises:
        UserError: If a report is about a method without a run, or its command does not accept an option.
    """
    from benchmarks.cli import parsed

    made = [one for report in suite.reports for one in _reports(report, suite, entries, root, suite_folder)]
    # One that is named twice is made once: no two processes may write one folder.
    reports = list({report.folder: report for report in made}.values())
    for report in reports:
        parsed(report.command, report.arguments)
    return reports


def folder_name(report: Mapping[str, Any], what: str, made_from: str) -> str:
    """Name of a report's folder, which depends on its options and on the run or data set that it is made from."""
    return f"{report['command']}-{what}-{hash_of(made_from, report.get('options', {}))}"


def is_reported(report: Mapping[str, Any], what: str, made_from: str, suite_folder: Path) -> bool:
    """Whether the suite's folder contains a finished report."""
    return (suite_folder / folder_name(report, what, made_from) / REPORTS[report["command"]]).is_file()


def _reports(
    report: Mapping[str, Any], suite: Suite, entries: Sequence[SuiteRun], root: Path, suite_folder: Path
) -> Iterator[Report]:
    command, given = report["command"], report.get("options", {})
    options = [argument for name, value in given.items() for argument in _arguments(name, value)]
    if command == "speed":
        for dataset in suite.datasets:
            folder = suite_folder / folder_name(report, report["name"], dataset)
            yield Report(
                dataset=key_of(dataset),
                method=report["name"],
                seed=0,
                arguments=(report["name"], f"--dataset={dataset}", f"--root={root}", *options, f"--out={folder}"),
                folder=folder,
                table=recipe_of(dataset).get("data.recipe", ""),
                command=command,
            )
        return
    runs = [entry for entry in entries if entry.command == "run"]
    for method in report["methods"]:
        if not (own := [run for run in runs if run.method == method]):
            known = {run.method for run in runs}
            raise UserError(f"The suite has no run of {method!r} to {command}.", nearest(method, known))
        for run in own:
            folder = suite_folder / folder_name(report, f"{method}-{run.seed}", run.run_id)
            yield Report(
                dataset=run.dataset,
                method=method,
                seed=run.seed,
                arguments=(str(run.folder), f"--root={root}", *options, f"--out={folder}"),
                folder=folder,
                wave=run.wave + 1,
                after=(run.folder,),
                table=run.table,
                command=command,
            )


def _arguments(name: str, value: object) -> list[str]:
    """An option as its command takes it: a switch that is off and null are left out, and each of a list is one more."""
    option = f"--{name.replace('_', '-')}"
    if value is True:
        return [option]
    values = value if isinstance(value, list) else [] if value is None or value is False else [value]
    return [f"{option}={one}" for one in values]
