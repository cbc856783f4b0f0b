"""What the reports of suites say about single runs, as figures: texts about users, and relations."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.experiments import find_suite
from benchmarks.launch.reports import folder_name
from benchmarks.launch.suites import read_suite
from benchmarks.leaderboard.rows import Cell, Row
from benchmarks.leaderboard.sources import Finished
from benchmarks.runs import Result
from common.errors import UserError

if TYPE_CHECKING:
    from benchmarks.ledger.reported import Claim

LATENT, VIRTUAL = "latent", "virtual"
"""What names of latent relations begin with, and the name of the relation that stands for none."""


class ReportFigure(NamedTuple):
    """A figure of a report: the command that makes the report, its file, and how to read the figure."""

    command: str
    file: str
    read: Callable[[dict[str, Any]], float | None]


def latent_cosine(analysis: Mapping[str, Any]) -> float | None:
    """The largest absolute cosine between a latent relation and a predefined one; ``None`` without either."""
    names, cosines = analysis["relations"], analysis["cosines"]
    latent = [number for number, name in enumerate(names) if name.startswith(LATENT)]
    predefined = [number for number, name in enumerate(names) if number not in latent and name != VIRTUAL]
    return max((abs(cosines[one][other]) for one in latent for other in predefined), default=None)


def two_hop_lead(analysis: Mapping[str, Any]) -> float | None:
    """How much oftener two predefined relations join the pairs of latent ones than random pairs with as many links."""
    rows = [row for row in analysis.get("two_hops", []) if row["relation"].startswith(LATENT)]
    leads = [(row["pairs"], row["share"] - row["degree_matched"]) for row in rows if row["joined_by"] == "any"]
    pairs = sum(count for count, _ in leads)
    return sum(count * lead for count, lead in leads) / pairs if pairs else None


FIGURES = {
    "genres@3": ReportFigure("generate", "genres.json", lambda report: float(report["precision"]["@3"])),
    "latent_cosine": ReportFigure("analyse", "analysis.json", latent_cosine),
    "two_hop_lead": ReportFigure("analyse", "analysis.json", two_hop_lead),
}
"""Figures of reports by the name of their metric."""


@cache
def made_by(suites: tuple[str, ...], command: str) -> list[dict[str, Any]]:
    """The reports of one command among those of suites."""
    reports = [report for name in suites for report in read_suite(find_suite(name)).reports]
    return [report for report in reports if report["command"] == command]


class Reports:
    """Reports about runs, which lie in the folders of suites beside them.

    Args:
        found: Finished runs by id.
    """

    def __init__(self, found: Mapping[str, Finished]) -> None:
        self.found = found

    def cell(self, rows: Sequence[Row], claim: Claim) -> Cell | None:
        """A row's figure over its seeds or, of two rows, the lead of the first over the seeds that both have.

        The one report about a floor holds for every seed.
        """
        figures = [{run.seed: value for run, value in self._values(row, claim)} for row in rows]
        known = set().union(*figures)
        own, *others = [
            dict.fromkeys(known, *figure.values()) if row.floor and len(figure) == 1 else figure
            for row, figure in zip(rows, figures, strict=True)
        ]
        seeds = sorted(set(own).intersection(*others))
        return Cell.of([own[seed] - sum(other[seed] for other in others) for seed in seeds]) if seeds else None

    def runs(self, rows: Sequence[Row], claim: Claim) -> tuple[str, ...]:
        """Ids of the runs of rows that have a report."""
        return tuple(run.run_id for row in rows for run, _ in self._values(row, claim))

    def _values(self, row: Row, claim: Claim) -> Iterator[tuple[Result, float]]:
        for run in row.runs:
            values = [self._value(path, claim.metric) for path in self._paths(run, claim)]
            if values and values[0] is not None:
                yield run, values[0]

    def _paths(self, run: Result, claim: Claim) -> Iterator[Path]:
        """Files of the reports about a run that the claim's suites make, in whichever suite's folder they are."""
        figure, found = FIGURES[claim.metric], self.found[run.run_id]
        if found.files is not None:
            return
        # The folder of runs holds <data set>/<method>/<run id> and suites/<name>; a copy of a run may lie in none.
        for home in found.path.resolve().parents[2:3]:
            for report in made_by(claim.suites, figure.command):
                folder = folder_name(report, f"{run.method}-{run.seed}", run.run_id)
                yield from sorted(home.glob(f"suites/*/{folder}/{figure.file}"))

    def _value(self, path: Path, metric: str) -> float | None:
        figure = FIGURES[metric]
        try:
            return figure.read(json.loads(path.read_text("utf-8")))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            what = f"{path} is not a report of `recbench {figure.command}`: {error!r}"
            raise UserError(f"{what}.", "Remove its folder, and run its suite again.") from None
