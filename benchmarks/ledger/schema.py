"""The form of ``benchmarks/reported/<paper>.yaml``; a deviation is reported in one message with file and place."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from fnmatch import filter as matching
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.experiments import experiment_names, find_suite, read_yaml, suite_names
from benchmarks.leaderboard.rows import PRIMARY
from benchmarks.ledger.durations import RATIOS
from benchmarks.ledger.reports import FIGURES
from common.data.recipes import DATASETS
from common.data.scenarios import HISTORY_BUCKETS
from common.errors import UserError, nearest

Check = Callable[[Any, str], None]
"""Checks a value, given its place in the file."""

SHARE = re.compile(r"(hr|ndcg)@[1-9]\d*|mrr")
"""Metrics between 0 and 1."""
COUNTS = ("users", "items", "interactions", "triplets")
SPLIT_COUNTS = ("train_events", "val_cases", "test_cases")
SIZES = (*COUNTS, *SPLIT_COUNTS, "average_length", "density")
MEASURES = (*SIZES, "train_minutes", "inference_seconds", *RATIOS)
"""Metrics that are not shares of test cases."""
UNMEASURED = re.compile(r"parameters|(loss|pairs)(_\w+)?")
"""Figures with which no run or store can be compared."""
ANSWERS = ("generated/hr@1", "generated/legacy_hr@1")
"""Metrics of what a language model writes."""
OPTION = re.compile(r"(\w+\.)?(model|data|trainer)(\.\w+)+")
SCENARIO = re.compile(r"overall|cold-users|few-shot-[1-9]\d*|from-(.+)")
POPULARITY = tuple(f"{part}_item{how}" for part in ("cold", "warm", "middle") for how in ("", "_by_interactions"))
SLICES = {
    *("overall", "unseen_target", "tied_in_time", "repeat_target", "cold_user", "head_user", "tail_user"),
    *(f"popularity_decile_{number}" for number in range(1, 11)),
    "history_0",
    *(f"history_{low}+" if high is None else f"history_{low}-{high}" for low, high in HISTORY_BUCKETS),
    *("trained_user", "other_user", *POPULARITY),
}
"""Slices of the test cases that exist for some data set or scenario."""


def read_reported(path: Path) -> dict[str, Any]:
    """The content of a file, checked for its form.

    Raises:
        UserError: If it is not valid YAML or has another form; names the place and what was expected there.
    """
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise UserError(f"{path} reports nothing.", "Follow the form of the shipped files in benchmarks/reported.")
    try:
        _paper(values)
    except _MisplacedError as error:
        raise UserError(f"{path}: {error}.", error.cure) from None
    return values


class _MisplacedError(Exception):
    """A value is not what is expected at its place."""

    def __init__(self, where: str, expected: str, found: object, cure: str = "") -> None:
        super().__init__(f"{where}: expected {expected}, found {found!r}")
        self.cure = cure or "Follow the form of the shipped files in benchmarks/reported."


def text(value: Any, where: str) -> None:  # noqa: ANN401 (any YAML value)
    """Refuses anything but a text."""
    if not isinstance(value, str) or not value:
        raise _MisplacedError(where, "a text", value)


def number(value: Any, where: str) -> None:  # noqa: ANN401
    """Refuses anything but a number; booleans do not count as numbers."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < float("inf"):
        raise _MisplacedError(where, "a number", value)


def tolerance(value: Any, where: str) -> None:  # noqa: ANN401
    """Refuses anything but a share below 1."""
    number(value, where)
    if value >= 1:
        raise _MisplacedError(where, "a share below 1", value, "5 % is 0.05.")


def one_of(known: Collection[str], kind: str) -> Check:
    """Refuses anything but one of the known names of a kind."""

    def check(value: Any, where: str) -> None:  # noqa: ANN401
        if not isinstance(value, str) or value not in known:
            raise _MisplacedError(where, f"a {kind}", value, nearest(str(value), known))

    return check


def list_of(check: Check) -> Check:
    """Refuses anything but a list whose entries pass a check."""

    def checked(value: Any, where: str) -> None:  # noqa: ANN401
        if not isinstance(value, list) or not value:
            raise _MisplacedError(where, "a list", value)
        for place, entry in enumerate(value, 1):
            check(entry, f"{where}, {place}")

    return checked


def mapping_of(key: Check, check: Check) -> Check:
    """Refuses anything but a mapping whose keys and values pass their checks."""

    def checked(value: Any, where: str) -> None:  # noqa: ANN401
        if not isinstance(value, dict) or not value:
            raise _MisplacedError(where, "a mapping", value)
        for name, entry in value.items():
            key(name, where)
            check(entry, f"{where}, {name}")

    return checked


def fields(required: Mapping[str, Check], optional: Mapping[str, Check]) -> Check:
    """Refuses anything but a mapping with all required and no unknown fields, whose values pass their checks."""

    def checked(value: Any, where: str) -> None:  # noqa: ANN401
        if not isinstance(value, dict):
            raise _MisplacedError(where, f"a mapping with {', '.join(required)}", value)
        for name in required:
            if name not in value:
                raise _MisplacedError(where, f"a field {name!r}", sorted(value))
        known = {**required, **optional}
        for name, entry in value.items():
            if name not in known:
                raise _MisplacedError(where, "a known field", name, nearest(str(name), known))
            known[name](entry, f"{where}, {name}")

    return checked


def pattern_of(known: Collection[str], kind: str) -> Check:
    """Refuses anything but a name, or a pattern of names, of a kind."""

    def check(value: Any, where: str) -> None:  # noqa: ANN401
        if not isinstance(value, str) or not matching(known, value):
            raise _MisplacedError(where, f"a {kind} or a pattern of some", value, nearest(str(value), known))

    return check


def setting_place(methods: Collection[str]) -> Check:
    """Refuses anything but a pattern of methods, alone or behind a data set and a slash."""

    def check(value: Any, where: str) -> None:  # noqa: ANN401
        dataset, slash, method = str(value).rpartition("/")
        if slash:
            one_of(DATASETS, "data set")(dataset, where)
        pattern_of(methods, "method")(method, where)

    return check


def option(value: Any, where: str) -> None:  # noqa: ANN401
    """Refuses anything but a dotted option of a run, or of a run that it builds on behind the role of that run."""
    if not isinstance(value, str) or not OPTION.fullmatch(value):
        raise _MisplacedError(where, "an option such as data.negatives", value)


def setting(value: Any, where: str) -> None:  # noqa: ANN401
    """Refuses anything but a plain value."""
    if not isinstance(value, str | int | float | None):
        raise _MisplacedError(where, "a plain value", value)


def metric(value: Any, where: str) -> None:  # noqa: ANN401
    """Refuses anything but a metric."""
    known = isinstance(value, str) and (SHARE.fullmatch(value) or UNMEASURED.fullmatch(value) or value in MEASURES)
    if not known:
        raise _MisplacedError(where, "a metric", value, nearest(str(value), ["hr@1", "ndcg@10", "mrr", *MEASURES]))


def scenario(value: Any, where: str) -> None:  # noqa: ANN401
    """Refuses anything but a scenario."""
    match = SCENARIO.fullmatch(value) if isinstance(value, str) else None
    if match is None or (match[1] and match[1] not in DATASETS):
        raise _MisplacedError(
            where, "a scenario", value, nearest(str(value), ["overall", "cold-users", "few-shot-256"])
        )


def figure(name: str) -> Check:
    """Refuses anything but a valid value of a metric."""

    def check(value: Any, where: str) -> None:  # noqa: ANN401
        number(value, where)
        if SHARE.fullmatch(name) and value > 1:
            raise _MisplacedError(where, f"a share for {name}", value)

    return check


@cache
def labels() -> frozenset[str]:
    """Methods that can be run: names of shipped experiments and of variants in shipped suites."""
    variants = {label for name in suite_names() for label in read_yaml(find_suite(name)).get("variants", {})}
    return frozenset(name.partition("/")[2] for name in experiment_names()) | variants


def _paper(values: dict[str, Any]) -> None:
    """Checks a whole file, beginning with the fields on which others depend."""
    data_set, recipe = one_of(DATASETS, "data set"), one_of(_recipes(), "recipe")
    sizes = fields({}, dict.fromkeys(SIZES, number))
    statistics = fields(
        {"table": text, "datasets": mapping_of(data_set, sizes)},
        {"notes": mapping_of(data_set, text), "source": text, "recipe": mapping_of(data_set, list_of(recipe))},
    )
    absent = values.get("not_implemented", [])
    known = labels() | set(absent if isinstance(absent, list) else [])
    methods = one_of(known, "method")
    requires = fields(
        {"recipe": list_of(recipe)},
        {
            "language_model": list_of(text),
            "text_encoder": list_of(text),
            "own_text_encoder": mapping_of(methods, list_of(text)),
            "file_recipe": mapping_of(data_set, list_of(recipe)),
            "epochs": mapping_of(pattern_of(known, "method"), number),
            "settings": mapping_of(setting_place(known), mapping_of(option, setting)),
        },
    )
    own = values.get("metric")
    metric(own, "metric")
    fields(
        {
            "paper": text,
            "source": text,
            "tolerance": tolerance,
            "requires": requires,
            "protocol": one_of(PRIMARY, "protocol"),
            "metric": metric,
            "statistics": statistics,
            "tables": list_of(lambda value, where: _table(value, where, methods, own)),
        },
        {
            "note": text,
            "answers": one_of(ANSWERS, "metric of answers"),
            "not_implemented": list_of(text),
            "copies": mapping_of(data_set, list_of(data_set)),
            "claims": list_of(_claim(methods)),
        },
    )(values, "the file")
    _once(values)


def _once(values: dict[str, Any]) -> None:
    """Refuses a figure that stands in two places."""
    places: dict[tuple[str, ...], str] = {}
    for number, table in enumerate(values["tables"], 1):
        conditions = table.get("protocol", values["protocol"]), table.get("scenario", "overall")
        for position, column in enumerate(table["columns"], 1):
            where = f"tables, {number}, columns, {position}"
            data = column["dataset"], column.get("slice", "overall")
            for method, entry in column["values"].items():
                for name in _metrics(entry, table.get("metric", values["metric"])):
                    key = table["table"], table["about"], *conditions, *data, method, name
                    if (other := places.setdefault(key, where)) != where:
                        place = f"{table['table']}, {data[0]}, values, {method}"
                        cure = "Remove one, or let `about` tell their tables apart."
                        raise _MisplacedError(place, f"{name} once", [other, where], cure)


def _metrics(entry: Any, usual: Any) -> list[Any]:  # noqa: ANN401
    """The metrics of a cell."""
    return list(entry) if isinstance(entry, dict) else [usual]


def _recipes() -> set[str]:
    return {recipe.name for entry in DATASETS.values() for recipe in entry.recipes}


def _claim(method: Check) -> Check:
    """Checks a claim in words: orderings (``above``), or a statement about methods (``of``) that no figure decides."""
    shown = mapping_of(one_of(DATASETS, "data set"), list_of(one_of(suite_names(), "suite")))
    required: dict[str, Check] = {"section": text, "claim": text, "suites": shown}
    judged: dict[str, Check] = required | {"above": mapping_of(method, list_of(method))}
    optional: dict[str, Check] = {
        "recipe": list_of(one_of(_recipes(), "recipe")),
        "metric": one_of(FIGURES, "figure of a report"),
        "note": text,
    }

    def check(value: Any, where: str) -> None:  # noqa: ANN401
        if isinstance(value, dict) and "of" in value:
            fields(required | {"of": list_of(method), "unjudged": text}, optional)(value, where)
        else:
            fields(judged, optional | {"unjudged": text})(value, where)

    return check


def _table(value: Any, where: str, method: Check, own: Any) -> None:  # noqa: ANN401
    # Without a name, a table is known by its place.
    name = (value.get("table") if isinstance(value, dict) else None) or where
    usual = value.get("metric", own) if isinstance(value, dict) else own
    metric(usual, f"{name}, metric")
    fields(
        {"table": text, "about": text, "columns": list_of(lambda v, w: _column(v, w, method, usual))},
        {
            "metric": metric,
            "protocol": one_of(PRIMARY, "protocol"),
            "scenario": scenario,
            "tolerance": tolerance,
            "differs": text,
            "not_applicable": text,
            "answers": one_of({*ANSWERS, own}, "metric of answers"),
            "recipe": list_of(one_of(_recipes(), "recipe")),
            "source": text,
            "aliases": mapping_of(method, method),
            "relative_to": method,
            "gpus": list_of(text),
        },
    )(value, str(name))
    _relative(value, str(name), usual)


def _relative(table: dict[str, Any], where: str, usual: Any) -> None:  # noqa: ANN401
    """Refuses ratios without the method to which they are relative, orderings by ratio, and what can face nothing."""
    figures = [entry for column in table["columns"] for entry in column["values"].values()]
    metrics = {name for entry in figures for name in _metrics(entry, usual)}
    if metrics & set(RATIOS) and "relative_to" not in table:
        raise _MisplacedError(where, "a field 'relative_to' for ratios", sorted(table))
    if any(map(UNMEASURED.fullmatch, metrics)) and not {"differs", "not_applicable"} & set(table):
        raise _MisplacedError(where, "a field 'differs' or 'not_applicable' for what no run measures", sorted(table))
    if usual in RATIOS and any({"best", "above"} & set(column) for column in table["columns"]):
        raise _MisplacedError(where, "no orderings by ratio", usual, f"Order by {RATIOS[usual]} in a table of its own.")


def _column(value: Any, where: str, method: Check, usual: Any) -> None:  # noqa: ANN401
    if isinstance(value, dict) and value.get("dataset"):
        where = f"{where.partition(', columns')[0]}, {value['dataset']}"

    def cell(entry: Any, place: str) -> None:  # noqa: ANN401
        if isinstance(entry, dict):
            mapping_of(metric, lambda *_: None)(entry, place)
            for name, printed in entry.items():
                figure(name)(printed, f"{place}, {name}")
        else:
            figure(usual)(entry, place)

    fields(
        {"dataset": one_of(DATASETS, "data set"), "values": mapping_of(method, cell)},
        {
            "slice": one_of(SLICES, "slice"),
            "best": method,
            "above": mapping_of(method, list_of(method)),
            "notes": mapping_of(method, text),
            "not_applicable": mapping_of(method, text),
        },
    )(value, where)
    named = {"best": [value["best"]] if "best" in value else []}
    named |= {field: value.get(field, []) for field in ("above", "notes", "not_applicable")}
    for field, names in named.items():
        for name in names:
            one_of(value["values"], "method with a figure")(name, f"{where}, {field}")
