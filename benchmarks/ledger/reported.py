"""What a paper reports, read from ``benchmarks/reported/<paper>.yaml``: figures with table and cell, and orderings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.experiments import read_yaml
from common.errors import UserError, nearest

REPORTED = Path(__file__).parent.parent / "reported"
STATISTICS = "statistics"
"""Protocol of figures that describe a data set."""


@dataclass(frozen=True)
class Place:
    """Where in a paper something stands, and under which circumstances.

    Attributes:
        table: Number or name of the table.
        about: What sets this part of it apart.
        dataset: Key of the data set.
        protocol: Name of the protocol.
        scenario: What was changed before training, ``overall`` for nothing.
        part: Slice of the test cases.
        differs: Why no run here can face it, empty where one can.
    """

    table: str
    about: str
    dataset: str
    protocol: str
    scenario: str = "overall"
    part: str = "overall"
    differs: str = ""


@dataclass(frozen=True)
class Printed:
    """A figure: the ``metric`` of ``method``; the method of a data set's figure is empty."""

    place: Place
    method: str
    metric: str
    value: float
    tolerance: float
    note: str = ""


@dataclass(frozen=True)
class Claim:
    """An ordering: ``better`` is above ``worse`` on ``metric``."""

    place: Place
    better: str
    worse: str
    metric: str


@dataclass(frozen=True)
class Paper:
    """All that is reported by one paper.

    Attributes:
        name: Name of the method.
        source: Where the paper is.
        recipes: Recipes that make the paper's data.
        language_models: The paper's language models; any other is a stand-in.
        settings: Settings of a run, without ``init_args``, that must have one of these values where a run has them.
        cells: Figures.
        claims: Orderings.
    """

    name: str
    source: str
    recipes: tuple[str, ...]
    language_models: tuple[str, ...]
    settings: dict[str, list[str]] = field(default_factory=dict)
    cells: tuple[Printed, ...] = ()
    claims: tuple[Claim, ...] = ()

    @property
    def places(self) -> set[Place]:
        """Where its figures and orderings stand."""
        return {cell.place for cell in self.cells} | {claim.place for claim in self.claims}


def paper_names() -> list[str]:
    """Names of the papers whose figures are kept."""
    return sorted(path.stem for path in REPORTED.glob("*.yaml"))


def read_paper(path: Path) -> Paper:
    """Reads what a paper reports.

    Raises:
        UserError: If there is no such file, or a figure has no table, no data set or is no number.
    """
    if not path.is_file():
        raise UserError(f"No figures are kept of {path.stem!r}.", nearest(path.stem, paper_names()))
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise UserError(f"{path} reports nothing.", "Write what a paper prints like in the shipped files beside it.")
    try:
        return _paper(values, path)
    except KeyError as error:
        raise UserError(
            f"{path}: something reported has no {error.args[0]!r}.", "Name its table and its cell."
        ) from error


def _paper(values: dict[str, Any], path: Path) -> Paper:
    requires = values["requires"]
    cells = [*_statistics(values), *_figures(values, path)]
    return Paper(
        name=values["paper"],
        source=values["source"],
        recipes=tuple(requires["recipe"]),
        language_models=tuple(requires.get("language_model", ())),
        settings=requires.get("settings", {}),
        cells=tuple(cells),
        claims=(*_best(values, path), *_claims(values)),
    )


def _statistics(values: Mapping[str, Any]) -> Iterator[Printed]:
    kept = values["statistics"]
    for dataset, figures in kept["datasets"].items():
        place = Place(kept["table"], "data sets", dataset, STATISTICS)
        note = kept.get("notes", {}).get(dataset, "")
        for metric, value in figures.items():
            yield Printed(place, "", metric, value, values["tolerance"], note)


def _columns(values: Mapping[str, Any]) -> Iterator[tuple[Place, dict[str, Any], dict[str, Any]]]:
    """Every column with its place and its table."""
    for table in values["tables"]:
        for column in table["columns"]:
            place = Place(
                table["table"],
                table["about"],
                column["dataset"],
                table.get("protocol", values["protocol"]),
                table.get("scenario", "overall"),
                column.get("slice", "overall"),
                table.get("differs", ""),
            )
            yield place, column, table


def _figures(values: Mapping[str, Any], path: Path) -> Iterator[Printed]:
    for place, column, table in _columns(values):
        metric = table.get("metric", values["metric"])
        tolerance = table.get("tolerance", values["tolerance"])
        for method, figures in column["values"].items():
            note = column.get("notes", {}).get(method, "")
            for name, value in (figures if isinstance(figures, dict) else {metric: figures}).items():
                if not isinstance(value, int | float):
                    where = f"{place.table}, {place.dataset}, {method}"
                    raise UserError(f"{path}: {where}: {name} {value!r} is no number.", "Write what the paper prints.")
                yield Printed(place, method, name, float(value), tolerance, note)


def _best(values: Mapping[str, Any], path: Path) -> Iterator[Claim]:
    """The ordering that a column's bold figure states: its method is above every other."""
    for place, column, table in _columns(values):
        best = column.get("best")
        if best is not None and best not in column["values"]:
            where = f"{place.table}, {place.dataset}"
            raise UserError(f"{path}: {where}: {best!r} is best, and has no figure.", "Write what the paper prints.")
        for other in column["values"]:
            if best and other != best:
                yield Claim(place, best, other, table.get("metric", values["metric"]))


def _claims(values: Mapping[str, Any]) -> Iterator[Claim]:
    for claim in values.get("claims", []):
        for dataset in claim["datasets"]:
            place = Place("text", claim["about"], dataset, values["protocol"])
            for worse in claim["than"]:
                yield Claim(place, claim["better"], worse, values["metric"])
