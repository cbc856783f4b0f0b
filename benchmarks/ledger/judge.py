"""Verdicts: whether our measurements confirm what a paper reports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from benchmarks.leaderboard.judge import paired_on
from benchmarks.leaderboard.rows import RANKED_SEEDS, Cell, Row, Table
from benchmarks.leaderboard.sources import Finished
from benchmarks.ledger.conditions import Conditions, Data, Facing, answers_of, methods_of
from benchmarks.ledger.durations import RATIOS, Durations
from benchmarks.ledger.overrides import overrides
from benchmarks.ledger.reported import STATISTICS, Claim, Paper, Place, ReportedFigure
from benchmarks.ledger.reports import FIGURES, Reports

Verdict = Literal[
    "reproduced",
    "not reproduced",
    "inconclusive",
    "shown, not judged",
    "not comparable",
    "not applicable",
    "missing",
]


@dataclass(frozen=True)
class LedgerEntry:
    """A reported figure or ordering, and ours.

    Attributes:
        reported: What the paper says.
        ours: Our figure; for an ordering, how far the better method is above the other.
        verdict: *Reproduced*: our 95 % interval lies inside the printed figure ± the tolerance, or the ordering is
            separated; *not reproduced*: the interval misses that band, or the opposite is separated; *inconclusive*:
            neither, or our row has a mark that rules out a verdict; *shown, not judged*: no figure decides the claim;
            *not comparable*: data, text encoder, language model, scoring or settings are not the paper's, or times were
            taken on other hardware; *not applicable*: there can be no such figure; *missing*: no run, or no report
            about one.
        why: Reason for the verdict, unless the figures explain it.
        runs: Ids of our runs, or of the store.
        cases: Number of our test cases.
    """

    reported: ReportedFigure | Claim
    ours: Cell | None
    verdict: Verdict
    why: str = ""
    runs: tuple[str, ...] = ()
    cases: int | None = None

    @property
    def difference(self) -> float | None:
        """Ours minus the printed figure; for an ordering, the lead."""
        if self.ours is None or (isinstance(self.reported, Claim) and not self.reported.worse):
            return None
        return self.ours.mean - (self.reported.value if isinstance(self.reported, ReportedFigure) else 0.0)


class Prepared(NamedTuple):
    """A store, and its statistics by name."""

    data: Data
    name: str
    figures: Mapping[str, float]


class Ledger:
    """Our runs and stores, ready for comparison with what is reported.

    Args:
        found: Finished runs.
        tables: Their tables, with verdicts, for every slice that the papers report.
        stores: The prepared stores.
    """

    def __init__(self, found: Sequence[Finished], tables: Sequence[Table], stores: Sequence[Prepared]) -> None:
        self.found = {run.result.run_id: run for run in found}
        self.conditions, self.durations = Conditions(self.found), Durations(self.found)
        self.reports = Reports(self.found)
        self.tables, self.stores = tables, stores
        self._answered: dict[tuple[str, str, str], Table] = {}

    def entries(self, paper: Paper) -> list[LedgerEntry]:
        """Every figure and every claim of a paper."""
        figures = (
            self.statistic(paper, cell) if cell.place.protocol == STATISTICS else [self.figure(paper, cell)]
            for cell in paper.cells
        )
        return [*(entry for own in figures for entry in own), *(self.ordering(paper, claim) for claim in paper.claims)]

    def statistic(self, paper: Paper, printed: ReportedFigure) -> list[LedgerEntry]:
        """A figure of a data set, compared with each store of a recipe that makes the paper's data.

        If there is none, it is compared with other stores, which get no verdict.
        """
        place, metric = printed.place, printed.metric
        keys = (place.dataset, *paper.copies.get(place.dataset, ()))
        stores = [s for key in keys for s in self.stores if s.data.dataset == key and metric in s.figures]
        own = [store for store in stores if not store.data.differences(place.dataset, place.recipes)]
        at_home = [store for store in stores if store.data.dataset == place.dataset]
        entries = []
        for store in own or at_home or stores:
            value = store.figures[metric]
            if own:
                verdict: Verdict = "reproduced" if value == printed.value else "not reproduced"
                alike = {other.figures[metric] for other in own if other.data == store.data}
                reasons = [f"recipe {store.data.recipe}", *(["its stores disagree"] if len(alike) > 1 else [])]
            else:
                verdict, reasons = "not comparable", store.data.differences(place.dataset, place.recipes)
            entries.append(LedgerEntry(printed, Cell.of([value]), verdict, "; ".join(reasons), (store.name,)))
        return entries or [LedgerEntry(printed, None, "missing")]

    def figure(self, paper: Paper, printed: ReportedFigure) -> LedgerEntry:
        """A figure of a method, compared with the row chosen for it, or with two if it is relative to a method.

        Where the paper reads what a language model writes, it is compared with the row's written answers.
        """
        relative = (printed.place.relative_to,) if printed.metric in RATIOS else ()
        found = self._facing(paper, printed, (printed.method, *relative))
        if isinstance(found, LedgerEntry):
            return found
        answers = answers_of(printed, found.rows[0])
        read = answers in found.rows[0].metrics
        ours = self.cell_of(found.rows, answers if read else printed.metric)
        assert ours is not None
        verdict, why = self._barred(paper, printed, found) or against_band(printed, ours, found.rows[0])
        reasons = [why, f"ours: {answers}" if read else ""]
        return LedgerEntry(printed, ours, verdict, _joined(reasons), found.runs, found.table.cases)

    def ordering(self, paper: Paper, claim: Claim) -> LedgerEntry:
        """An ordering, compared with the two rows of one table chosen for it; or a statement about one row.

        Where the paper reads what language models write, so does the comparison if every such answer is stored. An
        ordering by time, or by a figure of reports, is judged by the lead over seeds.
        """
        found = self._facing(paper, claim, claim.methods)
        if isinstance(found, LedgerEntry):
            return found
        if claim.metric in FIGURES or claim.metric in self.durations.measures or not claim.worse:
            return self._over_seeds(paper, claim, found)
        table, (better, worse) = found
        metrics = [answers_of(claim, row) or claim.metric for row in found.rows]
        written = any(answers_of(claim, row) for row in found.rows)
        answered = self._by_answers(table, claim) if written else table
        if read := written and (table.rows.index(better), table.rows.index(worse)) in answered.pairs:
            table = answered
        else:
            metrics = [claim.metric] * 2
        high, low = (self.cell_of((row,), name) for row, name in zip(found.rows, metrics, strict=True))
        assert high is not None
        assert low is not None
        ours = Cell(high.mean - low.mean, None, found.seeds)
        verdict, why = self._barred(paper, claim, found) or separation(claim, table, better, worse)
        reasons = [why, "by written answers" if read else "by likelihood of titles" if written else ""]
        return LedgerEntry(claim, ours, verdict, _joined(reasons), found.runs, table.cases)

    def _over_seeds(self, paper: Paper, claim: Claim, found: Facing) -> LedgerEntry:
        """A claim, compared with times of the rows chosen for it or reports about them: by the lead over seeds."""
        ours, reported = self._claimed(found.rows, claim), claim.metric in FIGURES
        assert ours is not None
        verdict, why = self._barred(paper, claim, found) or over_seeds(ours, max(row.needed for row in found.rows))
        runs = self.reports.runs(found.rows, claim) if reported else found.runs
        return LedgerEntry(claim, ours, verdict, why, runs, None if reported else found.table.cases)

    def _claimed(self, rows: tuple[Row, ...], claim: Claim) -> Cell | None:
        """The figure that a claim is about: of reports or of times the lead of the first row, else that of the row."""
        if claim.metric in FIGURES:
            return self.reports.cell(rows, claim)
        if claim.worse:
            return self.durations.lead(rows[0], rows[1], claim.metric)
        return self.cell_of(rows, claim.metric)

    def _stored(self, table: Table, row: Row, metric: str) -> bool:
        """Whether a metric is known for each case of a row's runs."""
        if metric not in row.metrics:
            return False
        return "/" not in metric or all(self.found[run.run_id].stores(table.protocol, metric) for run in row.runs)

    def _by_answers(self, table: Table, claim: Claim) -> Table:
        """A table with verdicts on what a paper reads: written answers of language models, ranks of other rows."""
        key = table.protocol_id, table.slice, claim.answers
        if key not in self._answered:
            metrics = [answers_of(claim, row) or claim.metric for row in table.rows]
            known = {
                number: metrics[number]
                for number, row in enumerate(table.rows)
                if self._stored(table, row, metrics[number])
            }
            pairs = paired_on(table, known, self.found.values()).pairs if known else {}
            self._answered[key] = replace(table, pairs=pairs)
        return self._answered[key]

    def cell_of(self, rows: tuple[Row, ...], metric: str) -> Cell | None:
        """A metric of a row or, for a ratio, of a row relative to a second one."""
        if metric in RATIOS:
            row, other = rows
            return self.durations.ratio(row, other, metric)
        return (
            self.durations.cell(rows[0], metric) if metric in self.durations.measures else rows[0].metrics.get(metric)
        )

    def _facing(self, paper: Paper, reported: ReportedFigure | Claim, methods: tuple[str, ...]) -> Facing | LedgerEntry:
        """The rows to compare with something reported, or an entry that says why there are none.

        If there are several candidates, those made like the paper's are preferred, then those with more seeds, with the
        protocol of the headline, with more cases, and with fewer settings changed from their experiment. No rule looks
        at their scores.
        """
        place = reported.place
        if reported.not_applicable:
            return LedgerEntry(reported, None, "not applicable", reported.not_applicable)
        if set(methods) & set(paper.not_implemented):
            return LedgerEntry(reported, None, "not comparable", "not implemented")
        found: list[Facing] = []
        for dataset in (place.dataset, *paper.copies.get(place.dataset, ())):
            found = found or [one for one in self._rows(paper, place, dataset, methods) if self._has(one, reported)]
        if not found:
            unjudged = reported.unjudged if isinstance(reported, Claim) else ""
            verdict: Verdict = "not comparable" if place.differs else "missing"
            return LedgerEntry(reported, None, verdict, _joined([place.differs, unjudged]))
        orders = [self._order(paper, reported, one) for one in found]
        first = [one for one, order in zip(found, orders, strict=True) if order == min(orders)]
        if len(first) > 1:
            changed = [sum(overrides(self.found[name]) for name in one.runs[:1]) for one in first]
            first = [one for one, count in zip(first, changed, strict=True) if count == min(changed)]
        if len(first) > 1:
            runs = tuple(dict.fromkeys(name for one in first for name in one.runs))
            barred, why = self._barred(paper, reported, first[0]) or ("inconclusive", "")
            reasons = [why if barred != "inconclusive" else "", f"{len(first)} configurations: name one"]
            return LedgerEntry(reported, None, barred, _joined(reasons), runs)
        return first[0]

    def _order(self, paper: Paper, reported: ReportedFigure | Claim, one: Facing) -> tuple[bool, bool, int, bool, int]:
        differs = bool(self._differences(paper, reported, one))
        # Rows under other names stand for those under the paper's only where these are not made like the paper's.
        own = all(row.runs[0].method == name for row, name in zip(one.rows, methods_of(reported), strict=False))
        return differs, own == differs, -one.seeds, not one.headline, -one.table.cases

    def _barred(self, paper: Paper, reported: ReportedFigure | Claim, one: Facing) -> tuple[Verdict, str] | None:
        """Verdict and reasons for rows that may not be judged, or for a claim that no figure decides."""
        differ = _joined([reported.place.differs, *self._differences(paper, reported, one)])
        reasons = _joined([differ, *self.conditions.caveats(paper, one)])
        if isinstance(reported, Claim) and reported.unjudged:
            return "shown, not judged", _joined([reported.unjudged, reasons])
        return ("not comparable" if differ else "inconclusive", reasons) if reasons else None

    def _differences(self, paper: Paper, reported: ReportedFigure | Claim, one: Facing) -> list[str]:
        """The parts of rows that are not the paper's, and the hardware on which their times may not be compared."""
        others = self.durations.differences(reported.metric, one.rows, reported.place.gpus)
        return [*self.conditions.differences(paper, reported, one), *dict.fromkeys(others)]

    def _rows(self, paper: Paper, place: Place, dataset: str, methods: tuple[str, ...]) -> Iterable[Facing]:
        for table in self.tables:
            if (table.dataset, table.protocol, table.slice) != (dataset, place.protocol, place.slice):
                continue
            if table.scenario.partition(" (")[0] != place.scenario:
                continue
            by_method: dict[str, list[Row]] = {}
            for row in table.rows:
                by_method.setdefault(row.runs[0].method, []).append(row)
            for names in dict.fromkeys((methods, _aliased(methods, paper.aliases.get(place.table, {}), by_method))):
                chosen: list[tuple[Row, ...]] = [()]
                for name in names:
                    chosen = [(*rows, row) for rows in chosen for row in by_method.get(name, ())]
                yield from (Facing(table, rows) for rows in chosen)

    def _has(self, one: Facing, reported: ReportedFigure | Claim) -> bool:
        metric = reported.metric
        if isinstance(reported, Claim) and (metric in FIGURES or metric in self.durations.measures):
            return self._claimed(one.rows, reported) is not None
        of = [one.rows] if metric in RATIOS else [(row,) for row in one.rows]
        return all(self.cell_of(rows, metric) is not None for rows in of)


def separation(claim: Claim, table: Table, better: Row, worse: Row) -> tuple[Verdict, str]:
    """Verdict on an ordering by the paired test of its table, and the reason."""
    if claim.metric != table.primary:
        return "inconclusive", f"verdicts are only on {table.primary}"
    if better.stand_in or worse.stand_in:
        return "inconclusive", "no rank on a stand-in"
    few = [row.needed for row in (better, worse) if not row.eligible]
    if few:
        return "inconclusive", f"fewer than {max(few)} seeds"
    lead, _, _, separated = table.pairs[table.rows.index(better), table.rows.index(worse)]
    if not separated:
        return "inconclusive", "not separated"
    return "reproduced" if lead > 0 else "not reproduced", "separated"


def over_seeds(lead: Cell, needed: int) -> tuple[Verdict, str]:
    """Verdict on an ordering by the 95 % interval of its lead over seeds, and the reason."""
    if lead.reach is None or lead.n < needed:
        return "inconclusive", f"fewer than {needed} seeds"
    if abs(lead.mean) <= lead.reach:
        return "inconclusive", "not separated over seeds"
    return "reproduced" if lead.mean > 0 else "not reproduced", "separated over seeds"


def against_band(printed: ReportedFigure, ours: Cell, row: Row | None = None) -> tuple[Verdict, str]:
    """Verdict on our interval by the printed figure ± its tolerance, and the reason.

    Args:
        printed: The printed figure.
        ours: Our figure.
        row: Our row, which says how many seeds it needs.
    """
    needed = RANKED_SEEDS if row is None else row.needed
    # Another seed would not change a floor.
    reach = 0.0 if row is not None and row.floor else ours.reach
    if reach is None or ours.n < needed:
        return "inconclusive", f"fewer than {needed} seeds"
    low, high = printed.value * (1 - printed.tolerance), printed.value * (1 + printed.tolerance)
    start, end = ours.mean - reach, ours.mean + reach
    if low <= start and end <= high:
        return "reproduced", ""
    if end < low or start > high:
        return "not reproduced", ""
    return "inconclusive", "the interval is only partly inside the band"


def _joined(reasons: Iterable[str]) -> str:
    return "; ".join(filter(None, reasons))


def _aliased(methods: tuple[str, ...], aliases: Mapping[str, str], rows: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of rows where a suite has turned a component off in the method itself; then all of them change."""
    if not set(aliases.values()) <= rows.keys() or not set(methods) <= aliases.keys():
        return methods
    return tuple(aliases[method] for method in methods)
