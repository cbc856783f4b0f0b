"""Verdicts: whether our measurements confirm what a paper reports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal, NamedTuple

from benchmarks.leaderboard.rows import RANKED_SEEDS, SMALL_SLICE, Cell, Row, Table
from benchmarks.leaderboard.sources import Finished
from benchmarks.ledger.durations import RATIOS, Durations
from benchmarks.ledger.overrides import overrides
from benchmarks.ledger.reported import STATISTICS, Claim, Paper, Place, ReportedFigure

Verdict = Literal["reproduced", "not reproduced", "inconclusive", "not comparable", "not applicable", "missing"]
CAVEATS = ("undertrained", "selected on", "tuned on")
"""Prefixes of marks that rule out a verdict: the row is not at its best, or was made under other conditions."""
HEADLINE = {"scorer": "score", "prompt_order": "none"}
"""Protocol fields of a headline result: how its candidates are scored and ordered."""


@dataclass(frozen=True)
class LedgerEntry:
    """A reported figure or ordering, and ours.

    Attributes:
        reported: What the paper says.
        ours: Our figure; for an ordering, how far the better method is above the other.
        verdict: *Reproduced*: our 95 % interval lies inside the printed figure ± the tolerance, or the ordering is
            separated; *not reproduced*: the interval misses that band, or the opposite is separated; *inconclusive*:
            neither, or our row has a mark that rules out a verdict; *not comparable*: data, text encoder or language
            model are not the paper's; *not applicable*: there can be no such figure; *missing*: no run.
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
        if self.ours is None:
            return None
        return self.ours.mean - (self.reported.value if isinstance(self.reported, ReportedFigure) else 0.0)


class Prepared(NamedTuple):
    """A store, and its statistics by name."""

    dataset: str
    recipe: str
    name: str
    figures: Mapping[str, float]


class Facing(NamedTuple):
    """Rows of one table to compare with what is printed: one for a figure, two for an ordering."""

    table: Table
    rows: tuple[Row, ...]

    @property
    def seeds(self) -> int:
        """Number of seeds of the row that has the fewest."""
        return min(row.seeds for row in self.rows)

    @property
    def runs(self) -> tuple[str, ...]:
        """Ids of their runs."""
        return tuple(run.run_id for row in self.rows for run in row.runs)

    @property
    def caveats(self) -> list[str]:
        """Reasons why they get no verdict, whatever their figures."""
        fields = self.rows[0].runs[0].protocols[self.table.protocol]["fields"]
        other = [
            f"{name.replace('_', ' ')} {fields[name]}"
            for name, usual in HEADLINE.items()
            if fields.get(name, usual) != usual
        ]
        marks = [mark for row in self.rows for mark in row.marks if mark.startswith(CAVEATS)]
        few = [f"fewer than {SMALL_SLICE} cases"] if self.table.cases < SMALL_SLICE else []
        return list(dict.fromkeys([*marks, *other, *few]))

    @property
    def headline(self) -> bool:
        """Whether candidates were scored and checkpoints chosen as for a headline result."""
        fields = self.rows[0].runs[0].protocols[self.table.protocol]["fields"]
        chosen = not any(mark.startswith("selected on") for row in self.rows for mark in row.marks)
        return chosen and all(fields.get(name, usual) == usual for name, usual in HEADLINE.items())


class Ledger:
    """Our runs and stores, ready for comparison with what is reported.

    Args:
        found: Finished runs.
        tables: Their tables, with verdicts, for every slice that the papers report.
        stores: The prepared stores.
    """

    def __init__(self, found: Sequence[Finished], tables: Sequence[Table], stores: Sequence[Prepared]) -> None:
        self.found = {run.result.run_id: run for run in found}
        self.durations = Durations(self.found)
        self.tables, self.stores = tables, stores

    def entries(self, paper: Paper) -> list[LedgerEntry]:
        """Every figure and every ordering of a paper."""
        figures = (
            self.statistic(paper, cell) if cell.place.protocol == STATISTICS else [self.figure(paper, cell)]
            for cell in paper.cells
        )
        return [*(entry for own in figures for entry in own), *(self.ordering(paper, claim) for claim in paper.claims)]

    def statistic(self, paper: Paper, printed: ReportedFigure) -> list[LedgerEntry]:
        """A figure of a data set, compared with each store of the recipe that makes the paper's data.

        If there is none, it is compared with other stores, which get no verdict.
        """
        keys = (printed.place.dataset, *paper.copies.get(printed.place.dataset, ()))
        stores = [s for key in keys for s in self.stores if s.dataset == key and printed.metric in s.figures]
        own = [store for store in stores if (store.dataset, store.recipe) == (keys[0], printed.recipe)]
        at_home = [store for store in stores if store.dataset == keys[0]]
        values = {store.figures[printed.metric] for store in own}
        apart = "stores of this recipe disagree" if len(values) > 1 else ""
        entries = []
        for store in own or at_home or stores:
            value = store.figures[printed.metric]
            verdict: Verdict = "reproduced" if value == printed.value else "not reproduced"
            why = apart
            if not own:
                copy = store.dataset if store.dataset != keys[0] else f"recipe {store.recipe}"
                verdict, why = "not comparable", f"other data ({copy})"
            entries.append(LedgerEntry(printed, Cell.of([value]), verdict, why, (store.name,)))
        return entries or [LedgerEntry(printed, None, "missing")]

    def figure(self, paper: Paper, printed: ReportedFigure) -> LedgerEntry:
        """A figure of a method, compared with the row chosen for it, or with two if it is relative to a method."""
        relative = (printed.place.relative_to,) if printed.metric in RATIOS else ()
        found = self._facing(paper, printed, (printed.method, *relative))
        if isinstance(found, LedgerEntry):
            return found
        ours = self.cell_of(found.rows, printed.metric)
        assert ours is not None
        verdict, why = self._barred(paper, printed.place, found) or against_band(printed, ours, found.rows[0])
        return LedgerEntry(printed, ours, verdict, why, found.runs, found.table.cases)

    def ordering(self, paper: Paper, claim: Claim) -> LedgerEntry:
        """An ordering, compared with the two rows of one table chosen for it."""
        found = self._facing(paper, claim, (claim.better, claim.worse))
        if isinstance(found, LedgerEntry):
            return found
        table, (better, worse) = found
        high, low = (self.cell_of((row,), claim.metric) for row in found.rows)
        assert high is not None
        assert low is not None
        ours = Cell(high.mean - low.mean, None, found.seeds)
        verdict, why = self._barred(paper, claim.place, found) or separation(claim, table, better, worse)
        return LedgerEntry(claim, ours, verdict, why, found.runs, table.cases)

    def cell_of(self, rows: tuple[Row, ...], metric: str) -> Cell | None:
        """A metric of a row or, for a ratio, of a row relative to a second one."""
        if metric in RATIOS:
            row, other = rows
            return self.durations.ratio(row, other, metric)
        return (
            self.durations.cell(rows[0], metric) if metric in self.durations.measures else rows[0].metrics.get(metric)
        )

    def differences(self, paper: Paper, place: Place, table: Table, row: Row) -> list[str]:
        """The parts of a row that are not the paper's."""
        found = {"other cold users (truncated)": "truncated" in table.scenario}
        for run in row.runs:
            recipe, model, encoder = run.data.get("recipe"), run.language_model, run.text_encoder
            papers_own = paper.encoders_of(run.method)
            found[f"other data ({run.dataset})"] = run.dataset != place.dataset
            found[f"other data (recipe {recipe})"] = recipe not in paper.recipes and run.dataset == place.dataset
            found[f"other language model ({model})"] = model is not None and not named(model, paper.language_models)
            found[f"other text encoder ({encoder})"] = encoder is not None and not named(encoder, papers_own)
        return [text for text, holds in found.items() if holds]

    def _facing(self, paper: Paper, reported: ReportedFigure | Claim, methods: tuple[str, ...]) -> Facing | LedgerEntry:
        """The rows to compare with something reported, or an entry that says why there are none.

        If there are several candidates, those made like the paper's are preferred, then those with more seeds, with the
        protocol of the headline, with more cases, and with fewer settings changed from their experiment. No rule looks
        at their scores.
        """
        place, metric = reported.place, reported.metric
        if reported.not_applicable:
            return LedgerEntry(reported, None, "not applicable", reported.not_applicable)
        if set(methods) & set(paper.not_implemented):
            return LedgerEntry(reported, None, "not comparable", "not implemented")
        found: list[Facing] = []
        for dataset in (place.dataset, *paper.copies.get(place.dataset, ())):
            found = found or [one for one in self._rows(paper, place, dataset, methods) if self._has(one, metric)]
        if not found:
            return LedgerEntry(reported, None, "not comparable" if place.differs else "missing", place.differs)
        orders = [self._order(paper, place, one) for one in found]
        first = [one for one, order in zip(found, orders, strict=True) if order == min(orders)]
        if len(first) > 1:
            changed = [sum(overrides(self.found[name]) for name in one.runs[:1]) for one in first]
            first = [one for one, count in zip(first, changed, strict=True) if count == min(changed)]
        if len(first) > 1:
            runs = tuple(dict.fromkeys(name for one in first for name in one.runs))
            verdict, why = self._barred(paper, place, first[0]) or ("inconclusive", "")
            reasons = [*([why] if verdict == "not comparable" else []), f"{len(first)} configurations: name one"]
            return LedgerEntry(reported, None, verdict, "; ".join(reasons), runs)
        return first[0]

    def _order(self, paper: Paper, place: Place, one: Facing) -> tuple[bool, int, bool, int]:
        differs = any(self.differences(paper, place, one.table, row) for row in one.rows)
        return differs, -one.seeds, not one.headline, -one.table.cases

    def _barred(self, paper: Paper, place: Place, one: Facing) -> tuple[Verdict, str] | None:
        """Verdict and reasons for rows that may not be judged."""
        differ = [place.differs] if place.differs else []
        differ += [text for row in one.rows for text in self.differences(paper, place, one.table, row)]
        reasons = "; ".join(dict.fromkeys([*differ, *one.caveats]))
        return ("not comparable" if differ else "inconclusive", reasons) if reasons else None

    def _rows(self, paper: Paper, place: Place, dataset: str, methods: tuple[str, ...]) -> Iterable[Facing]:
        for table in self.tables:
            if (table.dataset, table.protocol, table.slice) != (dataset, place.protocol, place.slice):
                continue
            if table.scenario.partition(" (")[0] != place.scenario:
                continue
            by_method: dict[str, list[Row]] = {}
            for row in table.rows:
                by_method.setdefault(row.runs[0].method, []).append(row)
            names = _aliased(methods, paper.aliases.get(place.table, {}), by_method)
            chosen: list[tuple[Row, ...]] = [()]
            for name in names:
                chosen = [(*rows, row) for rows in chosen for row in by_method.get(name, ())]
            yield from (Facing(table, rows) for rows in chosen)

    def _has(self, one: Facing, metric: str) -> bool:
        of = [one.rows] if metric in RATIOS else [(row,) for row in one.rows]
        return all(self.cell_of(rows, metric) is not None for rows in of)


def separation(claim: Claim, table: Table, better: Row, worse: Row) -> tuple[Verdict, str]:
    """Verdict on an ordering by the paired test of its table, and the reason."""
    if claim.metric != table.primary:
        return "inconclusive", f"verdicts are only on {table.primary}"
    few = [row.needed for row in (better, worse) if not row.eligible]
    if few:
        return "inconclusive", f"fewer than {max(few)} seeds"
    lead, _, _, separated = table.pairs[table.rows.index(better), table.rows.index(worse)]
    if not separated:
        return "inconclusive", "not separated"
    return "reproduced" if lead > 0 else "not reproduced", "separated"


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


def named(name: str, patterns: Iterable[str]) -> bool:
    """Whether a model matches a pattern, by its name on the hub or as a local folder with the same base name.

    >>> named("/models/opt-6.7b", ["facebook/opt-6.7b"]), named("file:/x/feat.GPT", ["file:*feat.GPT*"])
    (True, True)
    """
    base = name.rstrip("/").rpartition("/")[2]
    return any(fnmatchcase(name, pattern) or base == pattern.rpartition("/")[2] for pattern in patterns)


def _aliased(methods: tuple[str, ...], aliases: Mapping[str, str], rows: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of rows if a suite has turned a component off in the method itself; then all of them change."""
    if not set(aliases.values()) <= rows.keys() or not set(methods) <= aliases.keys():
        return methods
    return tuple(aliases[method] for method in methods)
