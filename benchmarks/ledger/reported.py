"""What a paper reports: figures with their tables, and orderings, read from ``benchmarks/reported/<paper>.yaml``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from benchmarks.ledger.schema import read_reported
from common.errors import UserError, nearest

REPORTED = Path(__file__).parent.parent / "reported"
STATISTICS = "statistics"
"""Stands for a protocol in figures that describe a data set."""


@dataclass(frozen=True)
class Place:
    """Where something is reported, and under which conditions.

    Attributes:
        table: Number or name of the table.
        about: What this part of the table is about.
        dataset: Key of the data set.
        protocol: Name of the protocol.
        scenario: Scenario of training and test, ``overall`` for the usual one.
        slice: Slice of the test cases.
        differs: Why no run here can be compared with it; empty if one can.
        source: Where it is printed, if not in the paper.
        relative_to: Method to which ratios are relative.
        gpus: GPUs on which minutes and seconds were taken, as patterns, as far as they are known.
        recipes: Recipes that make the data behind it.
    """

    table: str
    about: str
    dataset: str
    protocol: str
    scenario: str = "overall"
    slice: str = "overall"
    differs: str = ""
    source: str = ""
    relative_to: str = ""
    gpus: tuple[str, ...] = ()
    recipes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReportedFigure:
    """A figure: the ``metric`` of a ``method`` or, if the method is empty, of a data set.

    Attributes:
        place: Where it is reported.
        method: Name of the method's experiment.
        metric: Name of the metric.
        value: The printed value.
        tolerance: Share of the value by which ours may differ.
        note: What is odd about it.
        not_applicable: Why the method has no such figure here.
        answers: Metric of a row with a language model that is compared with it, if not ``metric`` as for all others.
    """

    place: Place
    method: str
    metric: str
    value: float
    tolerance: float
    note: str = ""
    not_applicable: str = ""
    answers: str = ""


@dataclass(frozen=True)
class Claim:
    """An ordering: ``better`` is above ``worse`` on ``metric``; or, without ``worse``, a statement about one method.

    Attributes:
        place: Where it is claimed, in our words if the paper prints no figures.
        better: Name of the method's experiment.
        worse: The method below it, if there is one.
        metric: Name of the metric, or of a figure of reports.
        note: What is odd about it.
        not_applicable: Why one of the methods has no figure here.
        answers: Metric of a row with a language model from which the paper reads it, if not ``metric``.
        suites: The suites that show it, of a claim in words.
        unjudged: Why no figure decides it.
    """

    place: Place
    better: str
    worse: str
    metric: str
    note: str = ""
    not_applicable: str = ""
    answers: str = ""
    suites: tuple[str, ...] = ()
    unjudged: str = ""

    @property
    def methods(self) -> tuple[str, ...]:
        """The method that it is about, or both."""
        return (self.better, self.worse) if self.worse else (self.better,)


@dataclass(frozen=True)
class Paper:
    """Everything that one paper reports.

    Attributes:
        name: Name of the method.
        source: URL of the paper.
        recipes: Recipes that make the paper's data.
        language_models: The paper's language models; any other is a stand-in.
        text_encoders: The encoders of the paper's text vectors, as patterns.
        own_text_encoders: The same by method, for methods that read texts with another encoder.
        file_recipes: Recipes by data set that number items as the paper's files of vectors do; all others by default.
        epochs: Epochs of training by method, as patterns that variants match, too; as far as they are printed.
        settings: Settings by method or `DATASET/METHOD`, as patterns: values by option of `recbench run`, without
            ``init_args``, or by the role of a run that it builds on and an option of that run. Later patterns replace
            options of earlier ones, and ``None`` leaves an option open.
        copies: Data sets that may replace another of which there is no run.
        aliases: By table, the rows to use for its methods if they exist, because suites may turn a component off.
        not_implemented: Methods that are not implemented here.
        note: A remark about the whole paper.
        cells: Figures.
        claims: Orderings.
    """

    name: str
    source: str
    recipes: tuple[str, ...]
    language_models: tuple[str, ...] = ()
    text_encoders: tuple[str, ...] = ()
    own_text_encoders: dict[str, list[str]] = field(default_factory=dict)
    file_recipes: dict[str, list[str]] = field(default_factory=dict)
    epochs: dict[str, int] = field(default_factory=dict)
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    copies: dict[str, list[str]] = field(default_factory=dict)
    aliases: dict[str, dict[str, str]] = field(default_factory=dict)
    not_implemented: tuple[str, ...] = ()
    note: str = ""
    cells: tuple[ReportedFigure, ...] = ()
    claims: tuple[Claim, ...] = ()

    @property
    def places(self) -> set[Place]:
        """Where its figures and orderings are reported."""
        return {cell.place for cell in self.cells} | {claim.place for claim in self.claims}

    def encoders_of(self, method: str) -> Sequence[str]:
        """The encoders of the text vectors that a method of the paper reads, as patterns."""
        return self.own_text_encoders.get(method, self.text_encoders)

    def epochs_of(self, method: str) -> int | None:
        """The epochs of training that are printed for a method or for what it varies, if any are."""
        return max((epochs for name, epochs in self.epochs.items() if fnmatchcase(method, name)), default=None)

    def settings_of(self, method: str, dataset: str) -> dict[str, Any]:
        """The settings with which the paper has a method on a data set, by option."""
        merged: dict[str, Any] = {}
        for name, settings in self.settings.items():
            place = f"{dataset}/{method}" if "/" in name else method
            merged |= settings if fnmatchcase(place, name) else {}
        return {option: value for option, value in merged.items() if value is not None}


def paper_names() -> list[str]:
    """Names of the papers whose figures are recorded."""
    return sorted(path.stem for path in REPORTED.glob("*.yaml"))


def read_paper(path: Path) -> Paper:
    """Reads what a paper reports.

    Raises:
        UserError: If the file does not exist, or is not in the form of the shipped ones.
    """
    if not path.is_file():
        raise UserError(f"No figures of {path.stem!r} are recorded.", nearest(path.stem, paper_names()))
    values = read_reported(path)
    requires = values["requires"]
    return Paper(
        name=values["paper"],
        source=values["source"],
        recipes=tuple(requires["recipe"]),
        language_models=tuple(requires.get("language_model", ())),
        text_encoders=tuple(requires.get("text_encoder", ())),
        own_text_encoders=requires.get("own_text_encoder", {}),
        file_recipes=requires.get("file_recipe", {}),
        epochs=requires.get("epochs", {}),
        settings=requires.get("settings", {}),
        copies=values.get("copies", {}),
        aliases={table["table"]: table["aliases"] for table in values["tables"] if "aliases" in table},
        not_implemented=tuple(values.get("not_implemented", ())),
        note=values.get("note", ""),
        cells=(*_statistics(values), *_figures(values)),
        claims=(*_stated(values), *_claims(values)),
    )


def _statistics(values: Mapping[str, Any]) -> Iterator[ReportedFigure]:
    kept = values["statistics"]
    for dataset, figures in kept["datasets"].items():
        source, note = kept.get("source", ""), kept.get("notes", {}).get(dataset, "")
        # Counts also follow from recipes whose texts or order are not the paper's.
        recipes = tuple(kept.get("recipe", {}).get(dataset, _recipes(values, {})))
        place = Place(kept["table"], "data sets", dataset, STATISTICS, source=source, recipes=recipes)
        for metric, value in figures.items():
            # Data are either the paper's or not, so counts have no tolerance.
            yield ReportedFigure(place, "", metric, value, 0.0, note)


def _recipes(values: Mapping[str, Any], table: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(table.get("recipe", values["requires"]["recipe"]))


def _answers(values: Mapping[str, Any], table: Mapping[str, Any], metric: str) -> str:
    """The metric of written answers that faces the paper's own metric."""
    answers: str = table.get("answers", values.get("answers", ""))
    return answers if metric == values["metric"] != answers else ""


def _columns(values: Mapping[str, Any]) -> Iterator[tuple[Place, dict[str, Any], dict[str, Any]]]:
    """Every column with its place and its table."""
    for table in values["tables"]:
        for column in table["columns"]:
            place = Place(
                table=table["table"],
                about=table["about"],
                dataset=column["dataset"],
                protocol=table.get("protocol", values["protocol"]),
                scenario=table.get("scenario", "overall"),
                slice=column.get("slice", "overall"),
                differs=table.get("differs", ""),
                source=table.get("source", ""),
                relative_to=table.get("relative_to", ""),
                gpus=tuple(table.get("gpus", ())),
                recipes=_recipes(values, table),
            )
            yield place, column, table


def _figures(values: Mapping[str, Any]) -> Iterator[ReportedFigure]:
    for place, column, table in _columns(values):
        usual = table.get("metric", values["metric"])
        tolerance = table.get("tolerance", values["tolerance"])
        for method, figures in column["values"].items():
            note, absent = column.get("notes", {}).get(method, ""), _absent(table, column, method)
            for metric, value in (figures if isinstance(figures, dict) else {usual: figures}).items():
                answers = _answers(values, table, metric)
                yield ReportedFigure(place, method, metric, float(value), tolerance, note, absent, answers)


def _absent(table: Mapping[str, Any], column: Mapping[str, Any], method: str) -> str:
    """Why a method has no figure here, if it can have none."""
    reason: str = column.get("not_applicable", {}).get(method, table.get("not_applicable", ""))
    return reason


def _stated(values: Mapping[str, Any]) -> Iterator[Claim]:
    """The orderings of a column: its best method above every other one, and those listed under ``above``."""
    for place, column, table in _columns(values):
        best, metric = column.get("best"), table.get("metric", values["metric"])
        stated = {} if best is None else {best: [other for other in column["values"] if other != best]}
        for better, others in (*stated.items(), *column.get("above", {}).items()):
            for worse in others:
                reason = _absent(table, column, better) or _absent(table, column, worse)
                yield Claim(place, better, worse, metric, "", reason, _answers(values, table, metric))


def _claims(values: Mapping[str, Any]) -> Iterator[Claim]:
    for claim in values.get("claims", []):
        metric, unjudged = claim.get("metric", values["metric"]), claim.get("unjudged", "")
        pairs = [(better, worse) for better, others in claim.get("above", {}).items() for worse in others]
        for dataset, suites in claim["suites"].items():
            recipes = _recipes(values, claim)
            place = Place(claim["section"], claim["claim"], dataset, values["protocol"], recipes=recipes)
            for better, worse in (*pairs, *((method, "") for method in claim.get("of", []))):
                answers, note = _answers(values, {}, metric), claim.get("note", "")
                yield Claim(place, better, worse, metric, note, "", answers, tuple(suites), unjudged)
