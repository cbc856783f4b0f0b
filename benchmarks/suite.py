"""``recbench suite``: data sets × methods × seeds, one run after the other, skipping what is done."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, Literal

import yaml

from benchmarks.cli import write
from benchmarks.experiments import EXPERIMENTS, find_experiment, find_suite
from benchmarks.leaderboard import build_tables
from benchmarks.runs import LAST, RESULT, read_result, write_atomically
from benchmarks.tables import as_markdown
from common.errors import UserError, nearest

State = Literal["done", "unfinished", "to do"]


@dataclass(frozen=True)
class Entry:
    """One run of a suite.

    Attributes:
        dataset: Key of the data set.
        method: Label of the method: the name of its experiment, and what was changed.
        seed: Its seed.
        arguments: Arguments of ``recbench run``.
        folder: Its run folder.
        wave: Runs of a wave need runs of earlier waves only.
    """

    dataset: str
    method: str
    seed: int
    arguments: tuple[str, ...]
    folder: Path
    wave: int = 0

    @property
    def label(self) -> str:
        """``<data set>/<method> seed <seed>``."""
        return f"{self.dataset}/{self.method} seed {self.seed}"

    @property
    def state(self) -> State:
        """Whether it is done, begun or still to do."""
        if (self.folder / RESULT).is_file():
            return "done"
        return "unfinished" if (self.folder / LAST).is_file() else "to do"


@dataclass(frozen=True)
class Suite:
    """A suite's file.

    Attributes:
        about: What it is for, in a line.
        datasets: Keys of the data sets.
        methods: Names of experiments; one that a data set does not ship is skipped there only where ``optional``.
        seeds: Seeds of each method; a closed-form method takes the first.
        options: Options of every run.
        optional: Methods that some of the data sets may lack.
        vary: Options and further values of theirs: each method also runs with each, one change at a time.
    """

    about: str
    datasets: list[str]
    methods: list[str]
    seeds: list[int] = field(default_factory=lambda: [1])
    options: dict[str, Any] = field(default_factory=dict)
    optional: list[str] = field(default_factory=list)
    vary: dict[str, list[Any]] = field(default_factory=dict)

    def changes(self, method: str) -> dict[str, dict[str, Any]]:
        """What is changed for a method, by the end of its label: nothing, then one option at a time.

        Other data are changed for what a method is made from, too.
        """
        return {"": {}} | {
            f"-{option.rpartition('.')[2]}-{value}": {option: value}
            for option, values in self.vary.items()
            for value in values
            if method in self.methods or option.startswith("data.")
        }


def suite(
    name: str,
    *,
    root: Path = Path("data"),
    runs: Path = Path("runs"),
    jobs: int = 1,
    dry_run: bool = False,
    status: bool = False,
) -> None:
    """Runs a suite: skips what is done, resumes what was begun, retries a failed run once, and goes on.

    A leaderboard of what is finished stands in ``<runs>/suites/<name>/`` after every run, beside the runs' logs.

    Args:
        name: Name of a shipped suite, or a YAML file.
        root: Folder of the stores.
        runs: Folder of all runs.
        jobs: How many runs at a time.
        dry_run: Print the commands and do nothing.
        status: Print what is done and do nothing.
    """
    path = find_suite(name)
    entries = plan(read_suite(path), root, runs)
    if dry_run or status:
        commands = (f"recbench run {' '.join(entry.arguments)}" for entry in entries)
        write("\n".join(commands if dry_run else (f"{entry.state:<11}{entry.label}" for entry in entries)))
        return
    place = runs / "suites" / path.stem
    failed = list(execute(entries, place, jobs))
    write((place / "leaderboard.md").read_text())
    if failed:
        lines = [f"  {entry.label}: {place / _log_name(entry)}" for entry in failed]
        sys.stderr.write("\n".join([f"{len(failed)} of {len(entries)} runs failed; their logs:", *lines, ""]))
        raise SystemExit(1)


def read_suite(path: Path) -> Suite:
    """Reads a suite's file.

    Raises:
        UserError: If it is no such file.
    """
    values = yaml.safe_load(path.read_text())
    known = set(Suite.__dataclass_fields__)
    if not isinstance(values, dict) or not {"about", "datasets", "methods"} <= set(values):
        raise UserError(f"{path} is no suite.", "A suite has about, datasets and methods.")
    for key in values:
        if key not in known:
            raise UserError(f"{path}: a suite has no {key!r}.", nearest(key, known))
    return Suite(**values)


def plan(suite: Suite, root: Path, runs: Path) -> list[Entry]:
    """All runs of a suite, predecessors first: those of the same data set and seed.

    What a method's experiment says it ``needs`` is run, too, where the suite does not list it.

    Raises:
        UserError: If a store or an experiment is not there.
    """
    from benchmarks.configuration import RunCLI
    from benchmarks.train import quieten

    quieten()
    entries: dict[tuple[str, str, int], Entry] = {}
    for dataset in suite.datasets:
        listed = [m for m in suite.methods if m not in suite.optional or _shipped(dataset, m).is_file()]
        for method, needed in with_needs(dataset, listed).items():
            unchanged: dict[int, dict[str, Any]] = {}
            for (ending, changes), seed in product(suite.changes(method).items(), suite.seeds):
                earlier = {other: _earlier(entries, suite, dataset, other, ending, seed) for other in needed}
                arguments = [f"--config={dataset}/{method}", f"--seed_everything={seed}", f"--data.root={root}"]
                arguments += [f"--runs={runs}", f"--name={method}{ending}"]
                arguments += [f"--{option}={_text(value)}" for option, value in (suite.options | changes).items()]
                arguments += [f"--predecessors.{other}={entry.folder}" for other, entry in earlier.items()]
                cli = RunCLI(arguments)
                # A value that the experiment has anyway makes no other run; seeds make none of a closed form.
                settings = cli.plan.config | {"name": method}
                if settings == unchanged.setdefault(seed, settings) and ending:
                    continue
                if cli.closed_form and not needed and seed != suite.seeds[0]:
                    continue
                # The store of the plan, also when another one is prepared meanwhile.
                arguments.append(f"--data.store={cli.plan.manifest.store_id}")
                wave = 1 + max((entry.wave for entry in earlier.values()), default=-1)
                entry = Entry(dataset, method + ending, seed, tuple(arguments), cli.plan.folder, wave)
                entries[dataset, method + ending, seed] = entry
    return sorted(entries.values(), key=lambda entry: entry.wave)


def _earlier(
    entries: Mapping[tuple[str, str, int], Entry], suite: Suite, dataset: str, method: str, ending: str, seed: int
) -> Entry:
    """The run that another one is made from: of the same data and seed, as far as there is one."""
    names = product((method + ending, method), (seed, suite.seeds[0]))
    return next(entries[dataset, name, s] for name, s in names if (dataset, name, s) in entries)


def with_needs(dataset: str, methods: Sequence[str]) -> dict[str, list[str]]:
    """``methods`` and all that they are made from, each behind what it needs itself; with those needs.

    Raises:
        UserError: If an experiment is not there, or needs itself.
    """
    needs: dict[str, list[str]] = {}

    def visit(method: str, above: tuple[str, ...]) -> None:
        if method in above:
            raise UserError(f"{dataset}/{method} needs itself.", f"Mend `needs` of {' or '.join(above)}.")
        if method not in needs:
            wanted = yaml.safe_load(find_experiment(f"{dataset}/{method}").read_text()).get("needs", [])
            for other in wanted:
                visit(other, (*above, method))
            needs[method] = wanted

    for method in methods:
        visit(method, ())
    return needs


def execute(entries: Sequence[Entry], place: Path, jobs: int) -> Iterator[Entry]:
    """Runs what is not done, ``jobs`` at a time, and yields the entries that failed twice."""
    place.mkdir(parents=True, exist_ok=True)
    write_leaderboard(entries, place)
    todo = [entry for entry in entries if entry.state != "done"]
    _say(f"{len(entries) - len(todo)} of {len(entries)} runs are done.")
    for wave in sorted({entry.wave for entry in todo}):
        members = [entry for entry in todo if entry.wave == wave]
        with ThreadPoolExecutor(jobs) as pool:
            for entry, seconds, code in pool.map(lambda entry: _run(entry, place, jobs), members):
                _say(f"{entry.label}: {'done' if code == 0 else f'FAILED ({code})'} in {seconds:.0f} s")
                write_leaderboard(entries, place)
                if code:
                    yield entry


def launch(command: Sequence[str], log: Path, environment: dict[str, str]) -> int:
    """Runs a command as a process of its own, its output at the end of ``log``; returns its exit code."""
    with log.open("a") as stream:
        return subprocess.run(command, stdout=stream, stderr=stream, env=environment).returncode


def write_leaderboard(entries: Sequence[Entry], place: Path) -> None:
    """Writes ``leaderboard.md`` of the runs that are done."""
    results = [read_result(entry.folder) for entry in entries if entry.state == "done"]
    text = as_markdown(build_tables(results)) or "No run is finished yet.\n"
    write_atomically(place / "leaderboard.md", text)


def _run(entry: Entry, place: Path, jobs: int) -> tuple[Entry, float, int]:
    started = time.perf_counter()
    code = 1
    for _attempt in range(2):
        resume = ["--ckpt_path=last"] if entry.state == "unfinished" else []
        command = [sys.executable, "-m", "benchmarks", "run", *entry.arguments, *resume]
        command.append("--trainer.enable_progress_bar=false")
        code = launch(command, place / _log_name(entry), _environment(jobs))
        # The same mistake would be made again.
        if code in (0, 2):
            break
    return entry, time.perf_counter() - started, code


def _environment(jobs: int) -> dict[str, str]:
    if jobs == 1:
        return dict(os.environ)
    return os.environ | {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // jobs))}


def _shipped(dataset: str, method: str) -> Path:
    return EXPERIMENTS / dataset / f"{method}.yaml"


def _text(value: object) -> str:
    return yaml.safe_dump(value, default_flow_style=True).removesuffix("\n...\n").strip()


def _log_name(entry: Entry) -> str:
    return f"{entry.dataset}-{entry.method}-{entry.seed}.log"


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
