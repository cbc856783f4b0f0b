"""From a suite file to its runs: data sets × methods × seeds, and their predecessors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from benchmarks.experiments import as_yaml
from benchmarks.launch.devices import accelerators
from benchmarks.launch.rows import (
    SuiteRow,
    experiment_of,
    key_of,
    label_of,
    lacks,
    recipe_of,
    rows_of,
    seeds_of,
    ships_methods,
    timeless,
    transferable_in,
)
from benchmarks.launch.suites import Suite
from benchmarks.launch.times import TESTED, Budget, budget_of
from benchmarks.runs import LAST, RESULT, flat, read_result
from common.data.stores import find_store
from common.data.views import OVERALL, view
from common.errors import UserError

if TYPE_CHECKING:
    from benchmarks.configuration import RunCLI

State = Literal["done", "unfinished", "to do"]


@dataclass(frozen=True)
class SuiteRun:
    """One run of a suite.

    Attributes:
        dataset: Key of the data set.
        method: Label of the method: the name of its experiment, and what was changed.
        seed: Its seed.
        arguments: Arguments of ``command``.
        folder: Its run folder.
        wave: Its place in the order: runs of a wave only need runs of earlier waves.
        after: Folders of its predecessors.
        devices: How many devices, or processes, it runs on.
        table: What distinguishes it from runs with the same method and seed in other tables.
        command: ``run``, ``evaluate`` for the test of a run on another data set, or the command of a report.
        budget: What its time depends on.
        of: The method that it is a variant of, or itself.
    """

    dataset: str
    method: str
    seed: int
    arguments: tuple[str, ...]
    folder: Path
    wave: int = 0
    after: tuple[Path, ...] = ()
    devices: int = 1
    table: str = ""
    command: Literal["run", "evaluate", "analyse", "generate", "speed"] = "run"
    budget: Budget = ()
    of: str = ""

    @property
    def run_id(self) -> str:
        """Name of its folder, which is unique."""
        return self.folder.name

    @property
    def log_name(self) -> str:
        """Name of the file that holds its output."""
        return f"{self.dataset}-{self.method}-{self.seed}-{self.run_id}.log"

    @property
    def label(self) -> str:
        """``<data set>/<method> seed <seed>``, with its table if there are several."""
        return f"{self.dataset}/{self.method} {f'({self.table}) ' if self.table else ''}seed {self.seed}"

    @property
    def state(self) -> State:
        """Whether it is done, unfinished or still to do."""
        if (self.folder / RESULT).is_file():
            return "done"
        return "unfinished" if (self.folder / LAST).is_file() else "to do"


def plan(suite: Suite, root: Path, runs: Path) -> list[SuiteRun]:
    """All runs of a suite, each after its predecessors, which have the same data set and seed.

    Methods that an experiment ``needs`` are run as well, even if the suite does not list them.

    Raises:
        UserError: If a store or an experiment is missing, a store has too few users for a scenario, or the result of a
            run that is done cannot be read.
    """
    from benchmarks.train import quieten

    quieten()
    # Checked here, because no row may be able to go there.
    for other in suite.across:
        find_store(root, key_of(other), recipe_of(other).get("data.recipe"))
    entries: dict[tuple[str, str, int], SuiteRun] = {}
    usual: dict[tuple[str, str, int], dict[str, Any]] = {}
    parsed: dict[tuple[str, str], RunCLI] = {}
    viewed: set[tuple[str, str]] = set()
    tests: list[SuiteRun] = []
    rows = {dataset: rows_of(suite, dataset, timeless(suite, dataset, root)) for dataset in suite.datasets}
    tested = {dataset: transferable_in(suite, dataset, rows[dataset]) for dataset in suite.datasets}
    for dataset, seed in product(suite.datasets, suite.seeds):
        for row in rows[dataset]:
            if seed not in (seeds := seeds_of(suite, dataset, row)):
                continue
            require_seed(suite, dataset, row, seed, entries)
            earlier = {other: entries[dataset, key, seed] for other, key in row.needs.items()}
            arguments = [*arguments_of(suite, dataset, row, seed, earlier), f"--data.root={root}", f"--runs={runs}"]
            if (dataset, row.key) not in parsed:
                parsed[dataset, row.key] = _parsed(arguments, f"{dataset}/{row.label}")
                require_users(parsed[dataset, row.key], viewed)
            folders = {other: str(entry.folder) for other, entry in earlier.items()}
            cli = parsed[dataset, row.key].with_seed(seed, folders)
            # Neither a value that the experiment already has nor another seed of a closed form makes a new run.
            settings = cli.plan.config | {"name": row.method}
            same = settings == usual.setdefault((dataset, row.method, seed), settings) and row.key != row.method
            if same or (cli.closed_form and not row.needs and seed != seeds[0]):
                like = (dataset, row.method, seed) if same else (dataset, row.key, seeds[0])
                entries[dataset, row.key, seed] = entries[like]
                continue
            entries[dataset, row.key, seed] = entry = entry_of(dataset, row, cli, arguments, earlier)
            if row.key in tested[dataset]:
                tests += [tested_on(other, entry, cli, root, runs) for other in suite.across]
    # Rows that resolve to the same run are planned once: no two processes may write one folder.
    unique: dict[Path, SuiteRun] = {}
    for entry in (*entries.values(), *tests):
        unique.setdefault(entry.folder, entry)
    for entry in unique.values():
        if entry.state == "done":
            read_result(entry.folder)
    return sorted(unique.values(), key=lambda entry: entry.wave)


def _parsed(arguments: Sequence[str], label: str) -> RunCLI:
    from benchmarks.configuration import RunCLI

    try:
        cli = RunCLI(arguments)
    except UserError as error:
        raise UserError(f"{label}: {error.what}", error.cure) from error
    if cli.config.trainer.fast_dev_run:
        what = f"{label}: with trainer.fast_dev_run a run leaves no result, and counts as failed."
        raise UserError(what, "Leave it out; trainer.max_epochs and trainer.limit_train_batches make runs short.")
    return cli


def require_seed(
    suite: Suite, dataset: str, row: SuiteRow, seed: int, entries: Mapping[tuple[str, str, int], SuiteRun]
) -> None:
    """Checks that the rows which a row builds on have its seed.

    Args:
        suite: The suite.
        dataset: Its data set, as ``KEY`` or ``KEY/RECIPE``.
        row: The row.
        seed: Its seed.
        entries: All earlier runs, by data set, key and seed.

    Raises:
        UserError: If one has a language model, and the suite runs it with fewer seeds.
    """
    for key in row.needs.values():
        if (dataset, key, seed) not in entries:
            raise UserError(
                f"{dataset}/{row.label} with seed {seed} needs {key}, which has only the seeds {suite.seeds_llm}.",
                f"Add {seed} to `seeds_llm`, or leave `seeds_llm` out.",
            )


def require_users(cli: RunCLI, viewed: set[tuple[str, str]]) -> None:
    """Checks that a run's store has users enough for its scenario.

    Args:
        cli: The run.
        viewed: Stores and scenarios that were checked before, of which it becomes one.

    Raises:
        UserError: If it has not, as the run would say.
    """
    data, store = cli.config.data.init_args, cli.plan.manifest.store_id
    if data.scenario != OVERALL and (store, data.scenario) not in viewed:
        view(find_store(Path(data.root), data.dataset, store=store).split(), data.scenario)
        viewed.add((store, data.scenario))


def arguments_of(suite: Suite, dataset: str, row: SuiteRow, seed: int, earlier: Mapping[str, SuiteRun]) -> list[str]:
    """Arguments of ``recbench run`` for a row of a suite, without those that say where.

    Args:
        suite: The suite.
        dataset: Its data set, as ``KEY`` or ``KEY/RECIPE``.
        row: The row.
        seed: Its seed.
        earlier: The runs that it builds on, by method.
    """
    return [
        f"--config={experiment_of(dataset, row.method)}",
        # A method that is named by its file may have been written for other data.
        f"--data.dataset={key_of(dataset)}",
        f"--seed_everything={seed}",
        f"--name={row.label}",
        *options_of(suite, row),
        *(f"--predecessors.{other}={entry.folder}" for other, entry in earlier.items()),
    ]


def entry_of(
    dataset: str, row: SuiteRow, cli: RunCLI, arguments: Sequence[str], earlier: Mapping[str, SuiteRun]
) -> SuiteRun:
    """The run of a row with one seed.

    Args:
        dataset: Its data set, as ``KEY`` or ``KEY/RECIPE``.
        row: The row.
        cli: Its configuration.
        arguments: The arguments from which that was parsed.
        earlier: The runs that it builds on, by method.
    """
    return SuiteRun(
        dataset=key_of(dataset),
        method=row.label,
        seed=cli.config.seed_everything,
        # Pins the store, in case another one is prepared in the meantime.
        arguments=(*arguments, f"--data.store={cli.plan.manifest.store_id}"),
        folder=cli.plan.folder,
        wave=1 + max((entry.wave for entry in earlier.values()), default=-1),
        after=tuple(entry.folder for entry in earlier.values()),
        devices=devices_of(cli),
        table=row.table,
        budget=budget_of(flat(cli.plan.config)),
        of=row.method,
    )


def not_applicable(suite: Suite, root: Path) -> list[str]:
    """Rows that are left out, and rows that cannot be tested on the other data sets, with the reason.

    Args:
        suite: The suite.
        root: Folder of the stores.
    """
    without_times = [
        f"{key_of(dataset)}/{label_of(method)}: not applicable: it reads times, which were not recorded"
        for dataset in suite.datasets
        for method in timeless(suite, dataset, root)
        if method in (*suite.floors, *suite.methods)
    ]
    not_shipped = [
        f"{key_of(dataset)}/{floor}: left out: nothing is shipped for {key_of(dataset)}; name the floor with the data "
        f"whose settings it takes, as in ml-100k/{floor}"
        for dataset in suite.datasets
        for floor in suite.floors
        if not ships_methods(dataset) and lacks(dataset, floor)
    ]
    rows = {dataset: rows_of(suite, dataset, timeless(suite, dataset, root)) for dataset in suite.datasets}
    tested = {dataset: transferable_in(suite, dataset, rows[dataset]) for dataset in suite.datasets}
    bound_to_ids = [
        f"{key_of(dataset)}/{row.label} on {other}: not applicable: it knows items by their ids"
        for other in suite.across
        for dataset in suite.datasets
        for row in rows[dataset]
        if row.key in suite.methods and row.key not in tested[dataset]
    ]
    return [*not_shipped, *without_times, *bound_to_ids]


def tested_on(other: str, entry: SuiteRun, cli: RunCLI, root: Path, runs: Path) -> SuiteRun:
    """The test of a run on another data set, of whose items its method knows only the texts.

    Args:
        other: The data set, as ``KEY`` or ``KEY/RECIPE``.
        entry: The run.
        cli: Its configuration.
        root: Folder of the stores.
        runs: Folder of all runs.

    Raises:
        UserError: If there is no such store, its items have no texts, or the run was trained on only some users.
    """
    from benchmarks.configuration import RunCLI
    from benchmarks.evaluate import ACROSS, across, plan_of_test

    changes = across(cli, cli.config.data.init_args.scenario, other)
    plan = plan_of_test(RunCLI([*entry.arguments, *changes]), entry.run_id, entry.folder)
    if (stages := plan.manifest.stages) and stages[-1]["items_without_text"] == stages[-1]["items"] > 0:
        raise UserError(
            f"No item of {other} has a text, but {entry.method} knows items of other data sets only by their texts.",
            "Prepare it from a source with titles or descriptions, or leave it out of `across`.",
        )
    return SuiteRun(
        dataset=plan.manifest.dataset,
        method=entry.method,
        seed=entry.seed,
        arguments=(str(entry.folder), f"--data={other}", f"--root={root}", f"--runs={runs}"),
        folder=plan.folder,
        wave=entry.wave + 1,
        after=(entry.folder,),
        # Its configuration is that of the run, which also says on how many devices.
        devices=entry.devices,
        table=f"{ACROSS}{entry.dataset}",
        command="evaluate",
        budget=TESTED,
        of=entry.of,
    )


def options_of(suite: Suite, row: SuiteRow) -> list[str]:
    """Arguments of ``recbench run`` for everything that a suite and one of its rows change."""
    return [f"--{option}={as_yaml(value)}" for option, value in (suite.options | row.options).items()]


def devices_of(cli: RunCLI) -> int:
    """Number of devices of a run: 1 if its configuration names no number, all devices of this machine for -1."""
    devices, kind = cli.config.trainer.devices, cli.config.trainer.accelerator
    if str(devices) == "-1":
        return 1 if kind == "cpu" else max(1, accelerators())
    if isinstance(devices, list):
        return max(1, len(devices))
    names = [name for name in str(devices).split(",") if name.strip()]
    return len(names) if len(names) > 1 else max(1, int(devices)) if str(devices).isdigit() else 1
