"""The rows of a suite: its methods, what those are made from, and what is changed of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.experiments import EXPERIMENTS, find_experiment, find_suite, read_yaml
from common.errors import UserError, nearest

OWN_TABLE = ("data.recipe", "data.scenario", "data.split")
"""Options whose values stand in different tables, so that a row keeps its label under each."""
VARIANT = {"of", "options", "with"}
REPORTS = {"analyse": "index.html", "generate": "index.md", "speed": "speed.json"}
"""Commands that a suite carries out on its finished runs or beside them, and the file that each leaves last."""


@dataclass(frozen=True)
class Suite:
    """A suite's file.

    Attributes:
        about: What it is for, in a line.
        datasets: Keys of the data sets, or ``KEY/RECIPE`` where the store of one recipe is meant.
        methods: Names of experiments; one that a data set does not ship is skipped there only where ``optional``.
        seeds: Seeds of each method; a closed-form method takes the first.
        options: Options of every run.
        optional: Methods that some of the data sets may lack.
        changes: Options of single methods, and of their variants, by method: what the paper trains with, for example.
        vary: Options and further values of theirs: each method also runs with each, one change at a time. Other data
            are changed for what a method is made from, too.
        variants: Further rows by label: the method that each is a variant ``of``, ``options`` that are changed, and
            ``with`` which other rows it is made, by the method in whose place they stand.
        across: Data sets that each of ``methods`` is tested on besides, without training on them; methods that know
            items by their ids are left out there.
        reports: Commands that are carried out when the runs that they need are done: ``analyse`` and ``generate`` with
            the labels of the ``methods`` whose runs they are of, ``speed`` with its ``name``; each with ``options``.
        seeds_llm: Those of ``seeds`` that methods with a language model inside take; all when empty.
    """

    about: str
    datasets: list[str]
    methods: list[str]
    seeds: list[int] = field(default_factory=lambda: [1])
    options: dict[str, Any] = field(default_factory=dict)
    optional: list[str] = field(default_factory=list)
    changes: dict[str, dict[str, Any]] = field(default_factory=dict)
    vary: dict[str, list[Any]] = field(default_factory=dict)
    variants: dict[str, dict[str, Any]] = field(default_factory=dict)
    across: list[str] = field(default_factory=list)
    seeds_llm: list[int] = field(default_factory=list)
    reports: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class SuiteRow:
    """A row of a suite, for all its seeds.

    Attributes:
        key: Its name within the suite.
        label: What its runs are called.
        method: Its experiment.
        options: What is changed of it.
        needs: For each method that it is made from, the key of the row that makes it.
    """

    key: str
    label: str
    method: str
    options: dict[str, Any]
    needs: dict[str, str]

    @property
    def table(self) -> str:
        """What tells it from rows of the same label that stand in other tables."""
        return ", ".join(str(self.options[option]) for option in OWN_TABLE if option in self.options)


def read_suite(path: Path) -> Suite:
    """Reads a suite's file; with ``like``, what it does not say is that of another suite, beside it or shipped.

    Raises:
        UserError: If it is no such file, or the other is not there.
    """
    values = read_yaml(path)
    if isinstance(values, dict) and "like" in values:
        name = values.pop("like")
        beside = path.with_name(f"{name}.yaml")
        other = beside if beside.is_file() else find_suite(str(name))
        values = asdict(read_suite(other)) | values
    known = set(Suite.__dataclass_fields__)
    if not isinstance(values, dict) or not {"about", "datasets", "methods"} <= set(values):
        raise UserError(f"{path} is no suite.", "A suite has about, datasets and methods.")
    for key in values:
        if key not in known:
            raise UserError(f"{path}: a suite has no {key!r}.", nearest(key, known))
    for label, variant in values.get("variants", {}).items():
        if "of" not in variant or not set(variant) <= VARIANT:
            raise UserError(f"{path}: the variant {label} is not understood.", "A variant has of, options and with.")
    for report in values.get("reports", []):
        command = report.get("command") if isinstance(report, dict) else report
        if not isinstance(report, dict) or command not in REPORTS:
            cure = f"Write {{command: …}}. {nearest(str(command), REPORTS)}"
            raise UserError(f"{path}: {command!r} is no report's command.", cure)
        needed = "name" if command == "speed" else "methods"
        if not {"command", needed} <= set(report) <= {"command", needed, "options"}:
            cure = f"One of {command} has {needed} and options."
            raise UserError(f"{path}: the report {report} is not understood.", cure)
    suite = Suite(**values)
    if not set(suite.seeds_llm) <= set(suite.seeds):
        raise UserError(f"{path}: seeds_llm {suite.seeds_llm} are not all among the seeds {suite.seeds}.", "Add them.")
    return suite


def seeds_of(suite: Suite, dataset: str, row: SuiteRow) -> list[int]:
    """The seeds of a row."""
    inside = "llm" in model_of(dataset, row.method).get("init_args", {})
    return suite.seeds_llm if inside and suite.seeds_llm else suite.seeds


@cache
def model_of(dataset: str, method: str) -> dict[str, Any]:
    """The model of a method's experiment."""
    model: dict[str, Any] = read_yaml(find_experiment(experiment_of(dataset, method)))["model"]
    return model


def rows_of(suite: Suite, dataset: str) -> list[SuiteRow]:
    """All rows of a suite on one of its data sets, each behind what it is made from.

    A recipe that the data set is named with is an option of every row; a suite ``like`` this one, on other data,
    inherits none.

    Raises:
        UserError: If an experiment or a row is not there, or needs itself.
    """
    listed = [m for m in suite.methods if m not in suite.optional or _shipped(dataset, m).is_file()]
    needs = with_needs(dataset, [*listed, *(variant["of"] for variant in suite.variants.values())])
    own = _changes(suite, dataset, needs)
    rows = {
        method: SuiteRow(method, label_of(method), method, own[method], {other: other for other in n})
        for method, n in needs.items()
    }
    for option, value in ((option, value) for option, values in suite.vary.items() for value in values):
        ending, data = f"-{option.rpartition('.')[2]}-{value}", option.startswith("data.")
        for method, needed in needs.items():
            if data or method in listed:
                label = label_of(method) + ("" if option in OWN_TABLE else ending)
                others = {other: other + ending if data else other for other in needed}
                rows[method + ending] = SuiteRow(method + ending, label, method, own[method] | {option: value}, others)
    for label, variant in suite.variants.items():
        others = {other: variant.get("with", {}).get(other, other) for other in needs[variant["of"]]}
        options = own[variant["of"]] | variant.get("options", {})
        rows[label] = SuiteRow(label, label, variant["of"], options, others)
    return [rows[key] for key in _ordered(dataset, {key: list(row.needs.values()) for key, row in rows.items()})]


def with_needs(dataset: str, methods: Sequence[str]) -> dict[str, list[str]]:
    """``methods`` and all that they are made from, with what each needs.

    Raises:
        UserError: If an experiment is not there; where a method needs it, the message says which.
    """
    needs: dict[str, list[str]] = {}
    waiting = [(method, "") for method in methods]
    while waiting:
        method, heir = waiting.pop(0)
        if method not in needs:
            path = _experiment(dataset, method, heir)
            needs[method] = list(read_yaml(path).get("needs", []))
            waiting = [(other, method) for other in needs[method]] + waiting
    return needs


def _experiment(dataset: str, method: str, heir: str) -> Path:
    try:
        return find_experiment(experiment_of(dataset, method))
    except UserError as error:
        if not heir:
            raise
        raise UserError(f"{experiment_of(dataset, heir)} needs {method!r}: {error.what}", error.cure) from error


def _changes(suite: Suite, dataset: str, methods: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What a suite changes of each of ``methods``.

    Raises:
        UserError: If it changes a method that there is not.
    """
    known = list(methods)
    for method in suite.changes:
        # One that the data set has, and this suite has no row of, may be changed for a suite that is like it.
        if method not in known and not _shipped(dataset, method).is_file():
            raise UserError(f"The suite changes {method!r}, which is no method on {dataset}.", nearest(method, known))
    return {method: recipe_of(dataset) | suite.changes.get(method, {}) for method in known}


def _ordered(dataset: str, needs: Mapping[str, Sequence[str]]) -> list[str]:
    """Keys, each behind what it needs."""
    done: dict[str, None] = {}

    def visit(key: str, above: tuple[str, ...]) -> None:
        if key in above:
            raise UserError(
                f"{experiment_of(dataset, key)} needs itself.", f"Mend what {' or '.join(above)} is made from."
            )
        if key not in needs:
            raise UserError(f"{above[-1]} is to be made with {key!r}, which is no row.", nearest(key, needs))
        for other in needs[key]:
            visit(other, (*above, key))
        done[key] = None

    for key in needs:
        visit(key, ())
    return list(done)


def experiment_of(dataset: str, method: str) -> str:
    """The configuration of a method: a shipped experiment, or a file such as a sweep's best."""
    return method if method.endswith(".yaml") else f"{key_of(dataset)}/{method}"


def key_of(dataset: str) -> str:
    """The key of a data set that a suite may name with a recipe.

    >>> key_of("synthetic/planted"), key_of("ml-100k")
    ('synthetic', 'ml-100k')
    """
    return dataset.partition("/")[0]


def recipe_of(dataset: str) -> dict[str, str]:
    """The option that pins the recipe with which a suite names a data set, if it does."""
    _, _, recipe = dataset.partition("/")
    return {"data.recipe": recipe} if recipe else {}


def label_of(method: str) -> str:
    """What a method is called: a file says it itself."""
    if not method.endswith(".yaml"):
        return method
    name: str = read_yaml(find_experiment(method)).get("name") or Path(method).stem
    return name


def _shipped(dataset: str, method: str) -> Path:
    return EXPERIMENTS / key_of(dataset) / f"{method}.yaml"
