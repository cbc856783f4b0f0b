"""From a suite's file to its runs: data sets × methods × seeds, and what those are made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from benchmarks.experiments import EXPERIMENTS, find_experiment
from benchmarks.runs import LAST, RESULT
from common.errors import UserError, nearest

if TYPE_CHECKING:
    from benchmarks.configuration import RunCLI

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
        after: Folders of the runs that it is made from.
        devices: How many devices, or processes, it runs on.
    """

    dataset: str
    method: str
    seed: int
    arguments: tuple[str, ...]
    folder: Path
    wave: int = 0
    after: tuple[Path, ...] = ()
    devices: int = 1

    @property
    def log_name(self) -> str:
        """Name of the file that holds its output."""
        return f"{self.dataset}-{self.method}-{self.seed}.log"

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
                arguments = [
                    f"--config={experiment_of(dataset, method)}",
                    f"--seed_everything={seed}",
                    f"--data.root={root}",
                ]
                name = label_of(method) + ending
                arguments += [f"--runs={runs}", f"--name={name}"]
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
                after = tuple(entry.folder for entry in earlier.values())
                entry = Entry(dataset, name, seed, tuple(arguments), cli.plan.folder, wave, after, _devices(cli))
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
            wanted = yaml.safe_load(find_experiment(experiment_of(dataset, method)).read_text()).get("needs", [])
            for other in wanted:
                visit(other, (*above, method))
            needs[method] = wanted

    for method in methods:
        visit(method, ())
    return needs


def experiment_of(dataset: str, method: str) -> str:
    """The configuration of a method: a shipped experiment, or a file such as a sweep's best."""
    return method if method.endswith(".yaml") else f"{dataset}/{method}"


def label_of(method: str) -> str:
    """What a method is called: a file says it itself."""
    if not method.endswith(".yaml"):
        return method
    name: str = yaml.safe_load(find_experiment(method).read_text()).get("name") or Path(method).stem
    return name


def _devices(cli: RunCLI) -> int:
    """Devices of a run, as far as its configuration says a number."""
    devices = cli.config.trainer.devices
    return devices if isinstance(devices, int) and devices > 0 else 1


def _shipped(dataset: str, method: str) -> Path:
    return EXPERIMENTS / dataset / f"{method}.yaml"


def _text(value: object) -> str:
    return yaml.safe_dump(value, default_flow_style=True).removesuffix("\n...\n").strip()
