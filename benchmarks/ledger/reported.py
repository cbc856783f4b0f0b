"""What a paper reports: figures with their tables, and orderings, read from ``benchmarks/reported/<paper>.yaml``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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
        recipe: For a data set, the recipe whose stores are compared with it.
    """

    place: Place
    method: str
    metric: str
    value: float
    tolerance: float
    note: str = ""
    not_applicable: str = ""
    recipe: str = ""


@dataclass(frozen=True)
class Claim:
    """An ordering: ``better`` is above ``worse`` on ``metric``; or the reason why one of them has no figure here."""

    place: Place
    better: str
    worse: str
    metric: str
    note: str = ""
    not_applicable: str = ""


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
        place = Place(kept["table"], "data sets", dataset, STATISTICS, source=kept.get("source", ""))
        note = kept.get("notes", {}).get(dataset, "")
        recipe = figures.get("recipe", values["requires"]["recipe"][0])
        for metric, value in figures.items():
            if metric != "recipe":
                # Data are either the paper's or not, so counts have no tolerance.
                yield ReportedFigure(place, "", metric, value, 0.0, note, recipe=recipe)


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
            )
            yield place, column, table


def _figures(values: Mapping[str, Any]) -> Iterator[ReportedFigure]:
    for place, column, table in _columns(values):
        usual = table.get("metric", values["metric"])
        tolerance = table.get("tolerance", values["tolerance"])
        for method, figures in column["values"].items():
            notes = [column.get(kind, {}).get(method, "") for kind in ("notes", "not_applicable")]
            for metric, value in (figures if isinstance(figures, dict) else {usual: figures}).items():
                yield ReportedFigure(place, method, metric, float(value), tolerance, *notes)


def _stated(values: Mapping[str, Any]) -> Iterator[Claim]:
    """The orderings of a column: its best method above every other one, and those listed under ``above``."""
    for place, column, table in _columns(values):
        best, absent = column.get("best"), column.get("not_applicable", {})
        stated = {} if best is None else {best: [other for other in column["values"] if other != best]}
        for better, others in (*stated.items(), *column.get("above", {}).items()):
            for worse in others:
                reason = absent.get(better) or absent.get(worse) or ""
                yield Claim(place, better, worse, table.get("metric", values["metric"]), "", reason)


def _claims(values: Mapping[str, Any]) -> Iterator[Claim]:
    for claim in values.get("claims", []):
        for dataset in claim["datasets"]:
            place = Place("text", claim["about"], dataset, values["protocol"])
            for worse in claim["than"]:
                yield Claim(place, claim["better"], worse, values["metric"], claim.get("note", ""))
