"""Verdicts: whether what was measured bears out what a paper reports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.experiments import parse_yaml
from benchmarks.leaderboard.rows import Cell, Row, Table
from benchmarks.leaderboard.sources import Finished
from benchmarks.ledger.reported import STATISTICS, Claim, Paper, Place, Printed
from benchmarks.runs import CONFIG
from benchmarks.statistics.verdicts import COMPARED_SEEDS

Verdict = Literal["reproduced", "not reproduced", "inconclusive", "not comparable", "missing"]


@dataclass(frozen=True)
class Entry:
    """A reported figure or ordering beside ours.

    Attributes:
        reported: What the paper says.
        ours: Our figure; of an ordering, how far the better method is above the other.
        verdict: *Reproduced*: our 95 % interval lies inside the printed figure ± the tolerance, or the ordering is
            separated; *not reproduced*: the interval misses that band, or the opposite is separated; *inconclusive*:
            neither; *not comparable*: data, text encoder or language model are not the paper's; *missing*: no run.
        why: Reason of a verdict that is not plain from the figures.
        runs: Ids of our runs.
    """

    reported: Printed | Claim
    ours: Cell | None
    verdict: Verdict
    why: str = ""
    runs: tuple[str, ...] = ()


class Ledger:
    """Our runs, ready to be set beside what is reported.

    Args:
        found: Finished runs.
        tables: Tables of them, with verdicts, of every slice that is asked for.
        manifests: Statistics of the stores at hand, by data set and recipe: ``users``, ``items``, …
    """

    def __init__(
        self,
        found: Sequence[Finished],
        tables: Sequence[Table],
        manifests: Mapping[tuple[str, str], Mapping[str, int]],
    ) -> None:
        self.settings = {run.result.run_id: settings_of(run) for run in found}
        self.tables, self.manifests = tables, manifests

    def entries(self, paper: Paper) -> list[Entry]:
        """Every figure and every ordering of a paper."""
        return [
            *(self.statistic(paper, cell) if cell.place.protocol == STATISTICS else self.figure(paper, cell)
              for cell in paper.cells),
            *(self.ordering(paper, claim) for claim in paper.claims),
        ]  # fmt: skip

    def statistic(self, paper: Paper, printed: Printed) -> Entry:
        """A figure of a data set against the store of the paper's recipe."""
        stores = [self.manifests.get((printed.place.dataset, recipe), {}) for recipe in paper.recipes]
        values = [store[printed.metric] for store in stores if printed.metric in store]
        if not values:
            return Entry(printed, None, "missing")
        nearest = min(values, key=lambda value: abs(value - printed.value))
        near = abs(nearest - printed.value) <= printed.tolerance * printed.value
        return Entry(printed, Cell.of([nearest]), "reproduced" if near else "not reproduced")

    def figure(self, paper: Paper, printed: Printed) -> Entry:
        """A figure of a method against the row with the most seeds."""
        rows = [(table, row) for table, row in self._rows(printed.place, printed.method) if _has(row, printed.metric)]
        if not rows:
            return Entry(printed, None, "missing")
        table, row = max(rows, key=lambda pair: pair[1].seeds)
        ours, runs = cell_of(row, printed.metric), tuple(run.run_id for run in row.runs)
        why = [printed.place.differs, *self.differences(paper, table, row)]
        if any(why):
            return Entry(printed, ours, "not comparable", "; ".join(filter(None, why)), runs)
        return Entry(printed, ours, *against_band(printed, ours), runs)

    def ordering(self, paper: Paper, claim: Claim) -> Entry:
        """An ordering against the table that holds both methods with the most seeds."""
        pairs = [
            (table, better, worse)
            for table, better in self._rows(claim.place, claim.better)
            for other, worse in self._rows(claim.place, claim.worse)
            if other is table and _has(better, claim.metric) and _has(worse, claim.metric)
        ]
        if not pairs:
            return Entry(claim, None, "missing")
        table, better, worse = max(pairs, key=lambda found: min(found[1].seeds, found[2].seeds))
        runs = tuple(run.run_id for run in (*better.runs, *worse.runs))
        lead = cell_of(better, claim.metric).mean - cell_of(worse, claim.metric).mean
        ours = Cell(lead, None, min(better.seeds, worse.seeds))
        why = [claim.place.differs, *(text for row in (better, worse) for text in self.differences(paper, table, row))]
        if any(why):
            return Entry(claim, ours, "not comparable", "; ".join(dict.fromkeys(filter(None, why))), runs)
        pair = table.pairs.get((table.rows.index(better), table.rows.index(worse)))
        if pair is None or claim.metric != table.primary:
            return Entry(claim, ours, "inconclusive", "verdicts are on the primary metric of all cases", runs)
        if not pair[3]:
            few = not (better.eligible and worse.eligible)
            return Entry(claim, ours, "inconclusive", "too few seeds" if few else "not separated", runs)
        return Entry(claim, ours, "reproduced" if lead > 0 else "not reproduced", "separated", runs)

    def differences(self, paper: Paper, table: Table, row: Row) -> list[str]:
        """What a row was made with that is not the paper's."""
        first = row.runs[0]
        found = ["other cold users (truncated)"] if "truncated" in table.scenario else []
        if first.data.get("recipe") not in paper.recipes:
            found.append(f"other data (recipe {first.data.get('recipe')})")
        if first.language_model and first.language_model not in paper.language_models:
            found.append(f"other language model ({first.language_model})")
        settings = self.settings.get(first.run_id, {})
        for name, allowed in paper.settings.items():
            if settings.get(name) is not None and settings[name] not in allowed:
                found.append(f"other {name.rpartition('.')[2].replace('_', ' ')} ({settings[name]})")
        return found

    def _rows(self, place: Place, method: str) -> Iterable[tuple[Table, Row]]:
        for table in self.tables:
            if (table.dataset, table.protocol, table.part) != (place.dataset, place.protocol, place.part):
                continue
            for row in table.rows:
                if row.runs[0].method == method and table.scenario.partition(" (")[0] == place.scenario:
                    yield table, row


def against_band(printed: Printed, ours: Cell) -> tuple[Verdict, str]:
    """Verdict and reason of our interval against the printed figure ± its tolerance."""
    if ours.reach is None or ours.n < COMPARED_SEEDS:
        return "inconclusive", f"fewer than {COMPARED_SEEDS} seeds"
    low, high = printed.value * (1 - printed.tolerance), printed.value * (1 + printed.tolerance)
    start, end = ours.mean - ours.reach, ours.mean + ours.reach
    if low <= start and end <= high:
        return "reproduced", ""
    return ("not reproduced", "") if end < low or start > high else ("inconclusive", "the interval leaves the band")


def cell_of(row: Row, metric: str) -> Cell:
    """A row's cell; ``train_minutes`` is of its costs."""
    if metric == "train_minutes":
        return Cell.of([run.seconds["train"] / 60 for run in row.runs if "train" in run.seconds])
    return row.metrics[metric]


def settings_of(run: Finished) -> dict[str, Any]:
    """A run's settings by dotted name, without ``init_args``."""
    return flat(parse_yaml(run.text(CONFIG)) or {})


def flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration's values by dotted name, without ``init_args``.

    >>> flat({"model": {"class_path": "SASRec", "init_args": {"width": 8}}})
    {'model.class_path': 'SASRec', 'model.width': 8}
    """

    def walk(values: Mapping[str, Any], prefix: str) -> Iterable[tuple[str, Any]]:
        for key, value in values.items():
            name = prefix if key == "init_args" else f"{prefix}.{key}".lstrip(".")
            if isinstance(value, Mapping):
                yield from walk(value, name)
            else:
                yield name, value

    return dict(walk(config, ""))


def _has(row: Row, metric: str) -> bool:
    return any("train" in run.seconds for run in row.runs) if metric == "train_minutes" else metric in row.metrics
