"""Suite files: what they may say, and what is refused."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.experiments import experiment_names, find_suite, read_yaml, suite_names
from benchmarks.runs import flat
from common.errors import UserError, nearest

REPORTS = {"analyse": "index.html", "generate": "index.md", "speed": "speed.json"}
"""Commands that a suite can run as reports, and the file that each writes last."""
LISTS: dict[str, type] = {
    "datasets": str,
    "methods": str,
    "floors": str,
    "optional": str,
    "across": str,
    "seeds": int,
    "seeds_llm": int,
    "reports": dict,
}
"""Keys of a suite that hold lists, and the type of their entries."""
MAPPINGS: dict[str, type] = {"options": object, "changes": dict, "vary": list, "variants": dict}
"""Keys of a suite that hold mappings, and the type of their values."""
SET_BY_SUITE = {
    "seed_everything": "Write `seeds: [NUMBER]`.",
    "data.seed": "Write `seeds: [NUMBER]`.",
    "data.dataset": "Write `datasets: [KEY]`.",
    "data.store": "Write `datasets: [KEY/RECIPE]`.",
    "data.root": "Give --root to `recbench suite`.",
    "runs": "Give --runs to `recbench suite`.",
    "suite": "It is the name of the file.",
    "wandb": "Give --wandb to `recbench suite`.",
    "needs": "Write `needs: [METHOD]` in the file of the method.",
    "name": "Write `variants: {NAME: {of: METHOD}}`.",
    "predecessors": "Write `variants: {NAME: {of: METHOD, with: {METHOD: ROW}}}`.",
}
"""Options that a suite sets itself, and what to write instead."""
SET_FOR_REPORTS = {
    "dataset": "Write `datasets: [KEY]`.",
    "root": "Give --root to `recbench suite`.",
    "out": "Leave it out: each report has a folder of its own.",
}
"""Options of reports that a suite sets itself, and what to write instead."""
WORDS = {str: "a name", int: "a whole number", dict: "a mapping", list: "a list"}


@dataclass(frozen=True)
class Suite:
    """The content of a suite file.

    Attributes:
        about: Its purpose, in one line.
        datasets: Keys of the data sets, or ``KEY/RECIPE`` for the store of one recipe.
        methods: Names of experiments. A data set must ship all of them except those that are ``optional``.
        floors: Further methods that stand in every table; each is ``optional``, and on data of one's own named like
            the ``methods``.
        seeds: Seeds of each method; a closed-form method uses only the first.
        options: Options of every run.
        optional: Methods left out where a data set does not ship them, or where they read times that its store lacks.
        changes: Options of single methods and their variants, by method, for example the paper's training settings.
        vary: Options and further values: each method also runs with each value, one change at a time. A change of data
            also applies to the method's predecessors; one of recipe, scenario or split also to floors.
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
    floors: list[str] = field(default_factory=list)
    optional: list[str] = field(default_factory=list)
    changes: dict[str, dict[str, Any]] = field(default_factory=dict)
    vary: dict[str, list[Any]] = field(default_factory=dict)
    variants: dict[str, dict[str, Any]] = field(default_factory=dict)
    across: list[str] = field(default_factory=list)
    seeds_llm: list[int] = field(default_factory=list)
    reports: list[dict[str, Any]] = field(default_factory=list)


def read_suite(path: Path) -> Suite:
    """Reads a suite file; with ``like``, it inherits from another suite, in the same folder or shipped.

    ``options``, and those in ``changes``, are inherited one by one, and null leaves an inherited one out; anything else
    is replaced as a whole. Seeds of its own are those of all methods, unless it says which are meant for language
    models.

    Raises:
        UserError: If it is not a suite file, the other suite does not exist, or one inherits from itself.
    """
    return Suite(**_values(path, ()))


def _values(path: Path, heirs: tuple[Path, ...]) -> dict[str, Any]:
    """The checked content of a suite file; ``heirs``, which are resolved paths, inherit from it."""
    if path.resolve() in heirs:
        raise UserError(f"{path}: the suite is like itself.", "Change `like`.")
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise UserError(f"{path} is not a suite file.", "A suite has about, datasets and methods.")
    like = values.pop("like", None)
    _check_types(path, values)
    if like is not None:
        beside = path.parent / (like if str(like).endswith(".yaml") else f"{like}.yaml")
        # A file may have the name of the shipped suite that it is like.
        namesake = beside == path and like in suite_names()
        found = beside if beside.is_file() and not namesake else find_suite(str(like))
        inherited = _values(found, (*heirs, path.resolve()))
        usual, own = inherited["changes"], values.get("changes", {})
        changes = {method: _merged(usual.get(method, {}), own.get(method, {})) for method in usual | own}
        options = _merged(inherited["options"], values.get("options", {}))
        if "seeds" in values:
            del inherited["seeds_llm"]
        values = inherited | values | {"options": options, "changes": changes}
    for key in ("about", "datasets", "methods"):
        if not values.get(key):
            raise UserError(f"{path}: the suite has no {key}.", "A suite has about, datasets and methods.")
    values = asdict(Suite(**values))
    if not values["seeds"]:
        raise UserError(f"{path}: seeds is empty.", "Name one at least.")
    _check_names(path, values)
    if not set(values["seeds_llm"]) <= set(values["seeds"]):
        what = f"seeds_llm {values['seeds_llm']} are not all among the seeds {values['seeds']}"
        raise UserError(f"{path}: {what}.", "Add them.")
    return values


def _merged(usual: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Inherited options and a suite's own; one that is null there is left out if it is inherited, else set to null."""
    left_out = [name for name in usual if name in own and own[name] is None]
    return {name: value for name, value in {**usual, **own}.items() if name not in left_out}


def _check_names(path: Path, values: Mapping[str, Any]) -> None:
    """Checks the names of the methods that may be left out, and of the variants, once everything is inherited."""
    shipped = {name.partition("/")[2] for name in experiment_names()}
    for key in ("floors", "optional"):
        for name in values[key]:
            if name not in shipped and name not in experiment_names():
                cure = "Name it among methods alone." if name.endswith(".yaml") else _near(name, shipped)
                raise UserError(f"{path}: {key} holds {name!r}, a method that no data set ships.", cure)
    for label, variant in values["variants"].items():
        if label in (variant["of"], *values["methods"], *values["floors"]):
            cure = "Give it a name of its own; variants run without being named among methods."
            raise UserError(f"{path}: the variant {label} is named like a method.", cure)


def _check_types(path: Path, values: Mapping[str, Any]) -> None:
    for key in values:
        if key not in Suite.__dataclass_fields__:
            raise UserError(f"{path}: a suite has no {key!r}.", nearest(key, Suite.__dataclass_fields__))
    for key, kind in LISTS.items():
        entries = values.get(key, [])
        if entries is None:
            raise UserError(f"{path}: {key} has no value, expected a list.", f"Write `{key}: []`, or leave it out.")
        if not isinstance(entries, list):
            raise UserError(f"{path}: {key} is {entries!r}, expected a list.", f"Write {key}: [{entries}].")
        for entry in entries:
            if not isinstance(entry, kind):
                cure = "Write {command: …}." if key == "reports" else f"Write {WORDS[kind]} there."
                raise UserError(f"{path}: {key} holds {entry!r}, expected {WORDS[kind]}.", cure)
    for key, kind in MAPPINGS.items():
        entries = values.get(key, {})
        if entries is None:
            raise UserError(
                f"{path}: {key} has no value, expected a mapping.", f"Write `{key}: {{}}`, or leave it out."
            )
        if not isinstance(entries, dict):
            raise UserError(f"{path}: {key} is {entries!r}, expected a mapping.", f"Write {key}: {{NAME: VALUE}}.")
        for name, entry in entries.items():
            if not isinstance(entry, kind):
                cure = f"Write {WORDS[kind]} there."
                raise UserError(f"{path}: {key}, {name} is {entry!r}, expected {WORDS[kind]}.", cure)
    for option, entries in values.get("vary", {}).items():
        if not entries:
            raise UserError(f"{path}: vary, {option} has no values.", "Name one at least, or leave it out.")
    for label, variant in values.get("variants", {}).items():
        parts = (variant.get(part, {}) for part in ("options", "with"))
        if (
            not isinstance(variant.get("of"), str)
            or not set(variant) <= {"of", "options", "with"}
            or not all(map(_is_mapping, parts))
        ):
            cure = "A variant has of (a method), options and with (mappings)."
            raise UserError(f"{path}: the variant {label} is malformed.", cure)
    for report in values.get("reports", []):
        _check_report(path, report)
    _check_options(path, values)


def _check_options(path: Path, values: Mapping[str, Any]) -> None:
    """Refuses to change what the suite itself sets for every run."""
    places = [("options", values.get("options", {}))]
    places += [("vary", {option: value}) for option, given in values.get("vary", {}).items() for value in given]
    places += [(f"changes, {method}", options) for method, options in values.get("changes", {}).items()]
    places += [(f"variants, {label}, options", v.get("options", {})) for label, v in values.get("variants", {}).items()]
    for place, options in places:
        for option in (*options, *flat(options)):
            name = str(option).replace("init_args.", "")
            cure = SET_BY_SUITE.get("predecessors" if name.startswith("predecessors.") else name)
            if cure:
                raise UserError(f"{path}: {place}, {option} is what the suite itself sets.", cure)


def _check_report(path: Path, report: Mapping[str, Any]) -> None:
    command = report.get("command")
    if not isinstance(command, str) or command not in REPORTS:
        cure = f"Write {{command: …}}. {nearest(str(command), REPORTS)}"
        raise UserError(f"{path}: {command!r} is not a command for reports.", cure)
    needed = "name" if command == "speed" else "methods"
    known = {"command", needed} <= set(report) <= {"command", needed, "options"}
    methods = report.get("methods", [])
    if known and not (isinstance(methods, list) and all(isinstance(method, str) for method in methods)):
        cure = f"Write `methods: [{methods}]`." if isinstance(methods, str) else "Write `methods: [METHOD]`."
        raise UserError(f"{path}: methods of the report {command} is {methods!r}, expected a list of names.", cure)
    if not known or not _is_mapping(report.get("options", {})) or not isinstance(report.get("name", ""), str):
        cure = f"A report with command {command} has {needed} and options (a mapping)."
        raise UserError(f"{path}: the report {report} is malformed.", cure)
    for option in report.get("options", {}):
        if option in SET_FOR_REPORTS:
            what = f"{path}: the report {command}, {option} is what the suite itself sets."
            raise UserError(what, SET_FOR_REPORTS[option])


def _near(name: str, shipped: Collection[str]) -> str:
    # All names of all data sets would be a list of a hundred.
    cure = nearest(name, shipped)
    return cure if len(cure) < 400 else "`recbench list methods` shows them."


def _is_mapping(value: object) -> bool:
    return isinstance(value, Mapping)
