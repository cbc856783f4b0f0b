"""The rows of a suite: its methods, their predecessors, and the options that are changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.experiments import EXPERIMENTS, find_experiment, find_suite, read_yaml
from common.errors import UserError, nearest

OWN_TABLE = ("data.recipe", "data.scenario", "data.split")
"""Options whose values lead to separate tables, so that a row keeps its label under each."""
VARIANT = {"of", "options", "with"}
REPORTS = {"analyse": "index.html", "generate": "index.md", "speed": "speed.json"}
"""Commands that a suite can run as reports, and the file that each writes last."""


@dataclass(frozen=True)
class Suite:
    """The content of a suite file.

    Attributes:
        about: Its purpose, in one line.
        datasets: Keys of the data sets, or ``KEY/RECIPE`` for the store of one recipe.
        methods: Names of experiments. A data set must ship all of them except those that are ``optional``.
        seeds: Seeds of each method; a closed-form method uses only the first.
        options: Options of every run.
        optional: Methods that some of the data sets may lack.
        changes: Options of single methods and their variants, by method, for example the paper's training settings.
        vary: Options and further values: each method also runs with each value, one change at a time. A change of data
            also applies to the method's predecessors.
        variants: Further rows by label: ``of`` names the method, ``options`` what is changed, and ``with`` replaces
            predecessors by other rows.
        across: Data sets on which each of ``methods`` is also tested, without training on them; methods that know items
            by their ids are left out.
        reports: Commands to run once the runs that they need are done: ``analyse`` and ``generate`` with the labels of
            their ``methods``, ``speed`` with its ``name``; each with ``options``.
        seeds_llm: The ``seeds`` used by methods that contain a language model; all when empty.
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
        label: Label of its runs.
        method: Its experiment.
        options: The options that it changes.
        needs: For each method that it builds on, the key of the row that provides it.
    """

    key: str
    label: str
    method: str
    options: dict[str, Any]
    needs: dict[str, str]

    @property
    def table(self) -> str:
        """What distinguishes it from rows with the same label in other tables."""
        return ", ".join(str(self.options[option]) for option in OWN_TABLE if option in self.options)


def read_suite(path: Path) -> Suite:
    """Reads a suite file; with ``like``, it inherits from another suite, in the same folder or shipped.

    ``options`` are inherited one by one, and null leaves an inherited one out; anything else is replaced as a whole.

    Raises:
        UserError: If it is not a suite file, or the other suite does not exist.
    """
    values = read_yaml(path)
    if isinstance(values, dict) and "like" in values:
        name = values.pop("like")
        beside = path.with_name(f"{name}.yaml")
        other = beside if beside.is_file() else find_suite(str(name))
        inherited = asdict(read_suite(other))
        usual, own = inherited["options"], values.get("options", {})
        left_out = [name for name in usual if name in own and own[name] is None]
        options = {name: value for name, value in (usual | own).items() if name not in left_out}
        values = inherited | values | {"options": options}
    known = set(Suite.__dataclass_fields__)
    if not isinstance(values, dict):
        raise UserError(f"{path} is not a suite file.", "A suite has about, datasets and methods.")
    for key in values:
        if key not in known:
            raise UserError(f"{path}: a suite has no {key!r}.", nearest(key, known))
    for key in ("about", "datasets", "methods"):
        if not values.get(key):
            raise UserError(f"{path}: the suite has no {key}.", "A suite has about, datasets and methods.")
    for key in ("datasets", "methods", "seeds"):
        if not isinstance(values.get(key, []), list):
            raise UserError(f"{path}: {key} is {values[key]!r}, expected a list.", f"Write {key}: [{values[key]}].")
    for label, variant in values.get("variants", {}).items():
        if "of" not in variant or not set(variant) <= VARIANT:
            raise UserError(f"{path}: the variant {label} is malformed.", "A variant has of, options and with.")
    for report in values.get("reports", []):
        command = report.get("command") if isinstance(report, dict) else report
        if not isinstance(report, dict) or command not in REPORTS:
            cure = f"Write {{command: …}}. {nearest(str(command), REPORTS)}"
            raise UserError(f"{path}: {command!r} is not a command for reports.", cure)
        needed = "name" if command == "speed" else "methods"
        if not {"command", needed} <= set(report) <= {"command", needed, "options"}:
            cure = f"A report with command {command} has {needed} and options."
            raise UserError(f"{path}: the report {report} is malformed.", cure)
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
    """The model in a method's experiment."""
    model: dict[str, Any] = read_yaml(find_experiment(experiment_of(dataset, method)))["model"]
    return model


def rows_of(suite: Suite, dataset: str) -> list[SuiteRow]:
    """All rows of a suite on one of its data sets, each after its predecessors.

    A recipe in the name of the data set becomes an option of every row; a suite that is ``like`` this one but on other
    data does not inherit it.

    Raises:
        UserError: If an experiment or a row is missing, or needs itself.
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
    """``methods`` and all their predecessors, with what each needs.

    Raises:
        UserError: If an experiment is missing; the message says which method needs it.
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
    """The options that a suite changes for each of ``methods``.

    Raises:
        UserError: If it changes an unknown method.
    """
    known = list(methods)
    for method in suite.changes:
        # A method of the data set without a row in this suite may be changed for the sake of suites like this one.
        if method not in known and not _shipped(dataset, method).is_file():
            raise UserError(
                f"The suite changes {method!r}, which is not a method on {dataset}.", nearest(method, known)
            )
    return {method: recipe_of(dataset) | suite.changes.get(method, {}) for method in known}


def _ordered(dataset: str, needs: Mapping[str, Sequence[str]]) -> list[str]:
    """Keys, each after those that it needs."""
    done: dict[str, None] = {}

    def visit(key: str, above: tuple[str, ...]) -> None:
        if key in above:
            raise UserError(f"{experiment_of(dataset, key)} needs itself.", f"Change `needs` in {' or '.join(above)}.")
        if key not in needs:
            raise UserError(f"{above[-1]} builds on {key!r}, which is not a row.", nearest(key, needs))
        for other in needs[key]:
            visit(other, (*above, key))
        done[key] = None

    for key in needs:
        visit(key, ())
    return list(done)


def experiment_of(dataset: str, method: str) -> str:
    """The configuration of a method: a shipped experiment, or a file such as the best one of a sweep."""
    return method if method.endswith(".yaml") else f"{key_of(dataset)}/{method}"


def key_of(dataset: str) -> str:
    """The key of a data set, which a suite may name with a recipe.

    >>> key_of("synthetic/planted"), key_of("ml-100k")
    ('synthetic', 'ml-100k')
    """
    return dataset.partition("/")[0]


def recipe_of(dataset: str) -> dict[str, str]:
    """The option for the recipe with which a suite names a data set, if any."""
    _, _, recipe = dataset.partition("/")
    return {"data.recipe": recipe} if recipe else {}


def label_of(method: str) -> str:
    """Label of a method; a file may set its own."""
    if not method.endswith(".yaml"):
        return method
    name: str = read_yaml(find_experiment(method)).get("name") or Path(method).stem
    return name


def _shipped(dataset: str, method: str) -> Path:
    return EXPERIMENTS / key_of(dataset) / f"{method}.yaml"
