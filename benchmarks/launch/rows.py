"""The rows of a suite: its methods, their predecessors, and the options that are changed."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.experiments import EXPERIMENTS, find_experiment, read_experiment
from benchmarks.launch.suites import Suite
from common.data.stores import find_store
from common.errors import UserError, nearest

OWN_TABLE = ("data.recipe", "data.scenario", "data.split")
"""Options whose values lead to separate tables, so that a row keeps its label under each."""


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


def seeds_of(suite: Suite, dataset: str, row: SuiteRow) -> list[int]:
    """The seeds of a row, in order; a reader that a suite names is a language model, the usual one an encoder."""
    inside = "llm" in model_of(dataset, row.method).get("init_args", {}) or "model.reader" in row.options
    fewer = suite.seeds_llm if inside else []
    return [seed for seed in suite.seeds if seed in fewer] or suite.seeds


@cache
def model_of(dataset: str, method: str) -> dict[str, Any]:
    """The model in a method's experiment."""
    model: dict[str, Any] = read_experiment(find_experiment(experiment_of(dataset, method)))["model"]
    return model


def made_with(suite: Suite, dataset: str, row: SuiteRow, rows: Mapping[str, SuiteRow]) -> dict[str, Any]:
    """Arguments of a row's model, but for defaults; what a control of a trained model leaves out is as trained.

    Args:
        suite: The suite.
        dataset: Its data set, as ``KEY`` or ``KEY/RECIPE``.
        row: The row.
        rows: All rows of the suite there, by key.
    """
    options = {name: value for name, value in (suite.options | row.options).items() if name.startswith("model.")}
    changed = {name.rpartition(".")[2]: value for name, value in options.items()}
    own = {**model_of(dataset, row.method).get("init_args", {}), **changed}
    trained = row.needs.get(str(own.get("trained")))
    usual = made_with(suite, dataset, rows[trained], rows) if trained else {}
    return usual | {name: value for name, value in own.items() if value is not None}


def transferable_in(suite: Suite, dataset: str, rows: Sequence[SuiteRow]) -> set[str]:
    """Those of a suite's methods that are tested on the other data sets: who can rank items by their texts alone.

    Args:
        suite: The suite.
        dataset: One of its data sets, as ``KEY`` or ``KEY/RECIPE``.
        rows: All rows of the suite there.
    """
    from benchmarks.evaluate import transferable

    by_key = {row.key: row for row in rows}
    return {
        row.key
        for row in rows
        if suite.across and row.key in suite.methods
        if transferable(model_of(dataset, row.method)["class_path"], made_with(suite, dataset, row, by_key))
    }


def timeless(suite: Suite, dataset: str, root: Path) -> list[str]:
    """Optional methods that read times, if the store of a data set has none that were recorded.

    None if there is no such store, which planning refuses.
    """
    from benchmarks.configuration import reads_times

    options = suite.options | recipe_of(dataset)
    try:
        store = find_store(root, key_of(dataset), options.get("data.recipe"))
    except UserError:
        return []
    if store.manifest.time == "real" or options.get("data.allow_imputed_time"):
        return []
    there = [method for method in (*suite.floors, *suite.optional) if not lacks(dataset, method)]
    return [method for method in there if reads_times(str(model_of(dataset, method)["class_path"]))]


def rows_of(suite: Suite, dataset: str, without: Collection[str] = ()) -> list[SuiteRow]:
    """All rows of a suite on one of its data sets, each after its predecessors.

    A recipe in the name of the data set becomes an option of every row; a suite that is ``like`` this one but on other
    data does not inherit it.

    Args:
        suite: The suite.
        dataset: Its data set, as ``KEY`` or ``KEY/RECIPE``.
        without: Methods to leave out, such as those that are :func:`timeless`.

    Raises:
        UserError: If an experiment or a row is missing or needs itself, or a variant is not one of its method.
    """
    optional = {*suite.floors, *suite.optional}
    lacking = {method for method in optional if method in without or lacks(dataset, method)}
    floors, methods = ([m for m in names if m not in lacking] for names in (suite.floors, suite.methods))
    needs = with_needs(dataset, [*floors, *methods, *(variant["of"] for variant in suite.variants.values())])
    own = _changes(suite, dataset, needs)
    rows = {
        method: SuiteRow(method, label_of(method), method, own[method], dict(needed))
        for method, needed in needs.items()
    }
    for option, value in ((option, value) for option, values in suite.vary.items() for value in values):
        ending, data = f"-{option.rpartition('.')[2]}-{value}", option.startswith("data.")
        for method, needed in needs.items():
            if method in methods or option in OWN_TABLE or (data and method not in floors):
                label = label_of(method) + ("" if option in OWN_TABLE else _as_label(ending))
                others = {role: key + ending if data else key for role, key in needed.items()}
                rows[method + ending] = SuiteRow(method + ending, label, method, own[method] | {option: value}, others)
    for label, variant in suite.variants.items():
        if label in rows:
            raise UserError(f"The variant {label} is named like another row.", "Give it a name of its own.")
        _require_needed(label, variant, needs[variant["of"]])
        others = {role: variant.get("with", {}).get(role, key) for role, key in needs[variant["of"]].items()}
        options = own[variant["of"]] | variant.get("options", {})
        rows[label] = SuiteRow(label, label, variant["of"], options, others)
    return [rows[key] for key in _ordered(dataset, {key: list(row.needs.values()) for key, row in rows.items()})]


def with_llm(suite: Suite, name: str) -> Suite:
    """The suite with another language model in each row that has one.

    Args:
        suite: The suite.
        name: Name or folder of the language model.

    Raises:
        UserError: If no row has one.
    """
    rows = [(dataset, row.method) for dataset in suite.datasets for row in rows_of(suite, dataset)]
    methods = {method for dataset, method in rows if "llm" in model_of(dataset, method).get("init_args", {})}
    if not methods:
        raise UserError("No row of the suite has a language model.", "Leave --llm out.")
    changes = {method: suite.changes.get(method, {}) | {"model.llm": name} for method in sorted(methods)}
    return replace(suite, changes=suite.changes | changes)


def _require_needed(label: str, variant: Mapping[str, Any], needed: Collection[str]) -> None:
    for role in variant.get("with", {}):
        if role not in needed:
            cure = nearest(role, needed) if needed else "Leave `with` out."
            raise UserError(f"The variant {label} is made with {role!r}, which {variant['of']} does not need.", cure)


def with_needs(dataset: str, methods: Sequence[str]) -> dict[str, dict[str, str]]:
    """``methods`` and all their predecessors, with the method that provides each name that one needs.

    Raises:
        UserError: If an experiment is missing or malformed; if it is missing, the message says which method needs it.
    """
    needs: dict[str, dict[str, str]] = {}
    waiting = [(method, "") for method in methods]
    while waiting:
        method, heir = waiting.pop(0)
        if method not in needs:
            path = _experiment(dataset, method, heir)
            needs[method] = {role: _provider(dataset, role, method) for role in read_experiment(path).get("needs", [])}
            waiting = [(other, method) for other in needs[method].values()] + waiting
    return needs


def _provider(dataset: str, role: str, heir: str) -> str:
    """The method that provides what ``heir`` needs: the data set's own or, where none is shipped, that beside its file.

    >>> _provider("ml-100k", "sasrec", "synthetic/x"), _provider("mine", "sasrec", "synthetic/x")
    ('sasrec', 'synthetic/sasrec')
    """
    if not is_configuration(heir) or not lacks(dataset, role):
        return role
    beside = Path(heir).with_name(role + Path(heir).suffix)
    return str(beside) if any(path.is_file() for path in (beside, EXPERIMENTS / f"{beside}.yaml")) else role


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
    """The configuration of a method: a shipped experiment, perhaps of other data, or a file such as a sweep's best."""
    return method if is_configuration(method) else f"{key_of(dataset)}/{method}"


def is_configuration(method: str) -> bool:
    """Whether a method is named by a configuration of any data, such as ``ml-100k/sasrec`` or a file."""
    return method.endswith(".yaml") or "/" in method


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


def lacks(dataset: str, method: str) -> bool:
    """Whether a data set does not ship a method; one that is named by a configuration needs not be shipped."""
    return not is_configuration(method) and not _shipped(dataset, method).is_file()


def ships_methods(dataset: str) -> bool:
    """Whether there are experiments for a data set; there are none for data of one's own."""
    return (EXPERIMENTS / key_of(dataset)).is_dir()


def label_of(method: str) -> str:
    """Label of a method; a file may set its own."""
    if not is_configuration(method):
        return method
    name: str = read_experiment(find_experiment(method)).get("name") or Path(method).stem
    return name


def _as_label(ending: str) -> str:
    """What may stand in the name of a folder; paths and names of encoders also have other characters."""
    return re.sub(r"[^\w.+-]+", "-", ending).rstrip("-")


def _shipped(dataset: str, method: str) -> Path:
    return EXPERIMENTS / key_of(dataset) / f"{method}.yaml"
