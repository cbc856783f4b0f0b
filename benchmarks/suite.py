"""``recbench suite``: many runs from one command, skipping what is done."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from benchmarks.cli import write
from benchmarks.environment import cores
from benchmarks.experiments import find_suite, suite_names
from benchmarks.launch.devices import accelerators as devices_here
from benchmarks.launch.journal import only_one
from benchmarks.launch.local import LocalLauncher
from benchmarks.launch.overview import as_lines, overviews
from benchmarks.launch.plan import SuiteRun, not_applicable, plan
from benchmarks.launch.reports import Report, reports_of
from benchmarks.launch.rows import with_llm
from benchmarks.launch.schedule import Schedule
from benchmarks.launch.suites import read_suite
from benchmarks.launch.task import Launcher
from benchmarks.launch.view import LiveView, plan_lines, status_lines
from benchmarks.leaderboard.command import tables_of
from benchmarks.leaderboard.formats import as_markdown
from benchmarks.leaderboard.rows import Table, build_tables
from benchmarks.leaderboard.sources import own_runs
from benchmarks.runs import read_result, write_atomically
from common.errors import UserError, at_least

LEADERBOARD = "leaderboard.md"
UNSTARTED = "none, since a run that it builds on failed"
"""What stands in place of the log of a run that could not start."""


def suite(
    name: str | None = None,
    *,
    root: Path = Path("data"),
    runs: Path = Path("runs"),
    jobs: int | None = None,
    threads: int | None = None,
    llm: str | None = None,
    launcher: Literal["local", "ray"] = "local",
    address: str | None = None,
    wandb: bool = False,
    dry_run: bool = False,
    status: bool = False,
    list: bool = False,
) -> None:
    """Runs a suite: skips what is done, resumes what was begun, retries a failed run once, and continues with the rest.

    After every run, ``<runs>/suites/<name>/`` holds a leaderboard of everything finished, next to logs and reports.

    Args:
        name: Name of a shipped suite, or a YAML file.
        root: Folder of the stores.
        runs: Folder of all runs.
        jobs: Devices to keep busy, or processes where there is no accelerator; all accelerators, or one process, when
            omitted.
        threads: Threads per run; an equal share of the processors when omitted.
        llm: Language model, by name or folder, of all rows that have one; what the suite says when omitted.
        launcher: Processes on this machine (`local`), or Ray.
        address: Address of a Ray cluster; Ray is started here when omitted.
        wandb: Log every run, and the leaderboard at the end, to W&B; offline without a key.
        dry_run: Print the commands and the time they will take, and do nothing.
        status: Print the state of each run, and do nothing.
        list: Print all shipped suites, with the data they need, the number of runs, the time left and the state.
    """
    if list:
        others: dict[str, object] = {"--jobs": jobs, "--threads": threads, "--llm": llm, "--address": address}
        _refuse_beside_list(others | {"NAME": name, "--status": status, "--dry-run": dry_run, "--wandb": wandb})
        write("\n".join(as_lines(overviews(root, runs))))
        return
    if name is None:
        raise UserError("No suite is named.", "Name one, or give --list for all.")
    if dry_run and status:
        raise UserError("--dry-run and --status print different things.", "Give one of them.")
    at_least(1, "", jobs=jobs, threads=threads)
    if address is not None and launcher == "local":
        raise UserError("--address is that of a Ray cluster, but the runs are started here.", "Add --launcher ray.")
    path = find_suite(name)
    content = read_suite(path) if llm is None else with_llm(read_suite(path), llm)
    suite_folder, entries = runs / "suites" / path.stem, plan(content, root, runs)
    left_out = not_applicable(content, root)
    entries += reports_of(content, entries, root, suite_folder)
    if dry_run or status:
        # Only the cluster itself knows how many devices it has.
        devices = jobs or (devices_here() if launcher == "local" else 1) or 1
        # The time of a whole suite is that of the shipped one with its own language model.
        timed = name if llm is None and name in suite_names() else ""
        lines = plan_lines(entries, runs, devices, timed) if dry_run else status_lines(entries, suite_folder)
        write("\n".join([*(f"# {line}" for line in left_out), *lines]))
        return
    execute(entries, left_out, suite_folder, wandb, lambda: make_launcher(launcher, address, jobs, threads))


def _refuse_beside_list(given: Mapping[str, object]) -> None:
    """Raises a :class:`UserError` for options that would change nothing about the list of all suites."""
    if unread := [option for option, value in given.items() if value]:
        raise UserError(
            f"--list shows all suites and does not read {', '.join(unread)}.", "Leave out one or the other."
        )


def execute(
    entries: Sequence[SuiteRun],
    left_out: Sequence[str],
    suite_folder: Path,
    wandb: bool,
    connect: Callable[[], tuple[Launcher, int, int]],
) -> None:
    """Runs what is left of a suite, and prints its leaderboard.

    Args:
        entries: All runs of the suite.
        left_out: Lines about rows that are not applicable.
        suite_folder: Folder of the suite.
        wandb: Whether to log to W&B.
        connect: Calls :func:`make_launcher`, once the suite is locked.

    Raises:
        SystemExit: If a run failed.
    """
    if wandb:
        from benchmarks.loggers.account import wandb_mode
        from benchmarks.loggers.tracking import log_leaderboard, spared

        # Fails here, once, rather than in every run.
        wandb_mode()
    options = [f"--suite={suite_folder.name}", *(["--wandb"] if wandb else [])]
    with only_one(suite_folder):
        write_leaderboard(entries, suite_folder)
        launcher, jobs, threads = connect()
        schedule = Schedule(entries, launcher, suite_folder, jobs, threads, options)
        shown = len(schedule.done)

        def tick() -> None:
            nonlocal shown
            view.update()
            if len(schedule.done) != shown:
                shown = len(schedule.done)
                write_leaderboard(entries, suite_folder)

        with LiveView(schedule, len(entries)) as view:
            failed = schedule.run(tick)
        tables = write_leaderboard(entries, suite_folder, final=True)
    write("\n".join([(suite_folder / LEADERBOARD).read_text("utf-8"), *left_out]).rstrip())
    if failed:
        logs = [(one, UNSTARTED if one.folder in schedule.blocked else suite_folder / one.log_name) for one in failed]
        lines = [f"  {one.label}: {log}" for one, log in logs]
        sys.stderr.write("\n".join([f"{len(failed)} of {len(entries)} runs failed; their logs:", *lines, ""]))
    if wandb:
        with spared(f"W&B did not accept the tables, which are in {suite_folder / LEADERBOARD}"):
            log_leaderboard(tables, suite_folder.name, suite_folder)
    if failed:
        raise SystemExit(1)


def make_launcher(
    kind: Literal["local", "ray"], address: str | None, jobs: int | None, threads: int | None
) -> tuple[Launcher, int, int]:
    """The launcher, the number of devices to keep busy, and the threads per run.

    Raises:
        UserError: If Ray is not installed or there is no cluster at ``address``.
    """
    if kind == "ray":
        from benchmarks.launch.cluster import RayLauncher

        cluster = RayLauncher(address, jobs, threads)
        return cluster, cluster.jobs, cluster.threads
    accelerators = devices_here()
    jobs = jobs or accelerators or 1
    share = threads or (0 if jobs == 1 else max(1, cores() // jobs))
    return LocalLauncher(share, accelerators), jobs, share


def write_leaderboard(entries: Sequence[SuiteRun], suite_folder: Path, final: bool = False) -> list[Table]:
    """Writes ``leaderboard.md``: tables of the runs that are done, and links to the reports.

    Only the ``final`` leaderboard has verdicts, because they take seconds.
    """
    done = [entry for entry in entries if entry.state == "done"]
    folders = [entry.folder for entry in done if not isinstance(entry, Report)]
    tables = tables_of(own_runs(folders)) if final else build_tables([read_result(folder) for folder in folders])
    text = as_markdown(tables) or "No run is finished yet.\n"
    links = [f"* [{one.label}]({one.output.relative_to(suite_folder)})" for one in done if isinstance(one, Report)]
    write_atomically(suite_folder / LEADERBOARD, "\n".join([text, "## Reports", "", *links, ""]) if links else text)
    return tables
