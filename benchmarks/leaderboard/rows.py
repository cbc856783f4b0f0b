"""From results to tables, by pure functions that read no files and run no models."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from scipy import stats

from benchmarks.leaderboard.labels import labels_of
from benchmarks.leaderboard.variants import difference, variant_of
from benchmarks.results import ALL_CASES
from benchmarks.runs import CHECKPOINT, Result
from benchmarks.standins import STANDIN
from common.data.views import OVERALL
from common.errors import UserError

PRIMARY = {"full": "ndcg@10", "full-unmasked": "ndcg@10", "sampled-99": "ndcg@5", "sampled-19": "hr@1"}
"""The primary metric of each protocol."""
SHOWN = ("hr@1", "hr@5", "hr@10", "ndcg@5", "ndcg@10", "mrr")
RANKED_SEEDS, RANKED_SEEDS_LLM = 5, 3
"""Seeds that a row needs for a rank, and that a row with a language model needs. A closed-form row needs one run."""
SENTENCE_ENCODERS = ("minilm",)
"""What a method may read prompts with that is no language model: a row with it needs the seeds of others."""
SMALL_SLICE = 100
"""Slices with fewer cases are marked."""
STAND_IN = "stand-in LLM"
"""Mark of a row whose language model is a stand-in."""
MANY_TIES = 0.01


def primary_metric(protocol: str) -> str:
    """The metric that the tables of a protocol are sorted by."""
    return PRIMARY.get(protocol, "ndcg@10")


@dataclass(frozen=True)
class Cell:
    """A metric over seeds: mean, sample standard deviation (``None`` for one seed) and number of seeds."""

    mean: float
    std: float | None
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Cell:
        """The cell of a metric, given its value for each seed."""
        return cls(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))

    @property
    def reach(self) -> float | None:
        """Half-width of the 95 % interval of the mean over seeds, uncorrected; ``None`` for one seed."""
        if self.std is None:
            return None
        return float(stats.t.ppf(0.975, self.n - 1)) * self.std / math.sqrt(self.n)

    def __str__(self) -> str:
        spread = "" if self.std is None else f" ± {self.std:.4f}"
        return f"{self.mean:.4f}{spread}"


@dataclass(frozen=True)
class Standing:
    """The verdicts on a row (:mod:`benchmarks.statistics.verdicts`).

    Attributes:
        ranks: First and last rank that it may have; ``None`` for a row that earns none.
        group: Letters of its tie groups; rows that share a letter are not separated.
        lead: Its primary metric minus that of the best row, with the 95 % interval; ``None`` for the best row.
        spread: Half-width of its own 95 % interval over users.
    """

    ranks: tuple[int, int] | None
    group: str
    lead: tuple[float, float, float] | None
    spread: float


@dataclass(frozen=True)
class Row:
    """A method in a table.

    Attributes:
        method: Its label, with what tells it apart if several share a label.
        rank: Rank among the eligible rows, ``None`` for the others, and for all while only floors are eligible.
        metrics: Cell of each metric.
        share: Share of the gap on the primary metric between the best floor that reads no more and a perfect score
            which the row closes; ``None`` if there is no such floor or gap, or the row is a floor itself.
        information_set: What it reads.
        floor: Whether it is a floor.
        marks: ``undertrained``, ``ties``, ``imputed time``, ``halved batches``, ``post-hoc graph``, ``tuned on …``,
            ``seeds share a predecessor``, ``seeds of <n> code revisions`` or ``versions of torch``, ``stand-in LLM``,
            ``selected on …``, ``one of several runs of a seed`` (trainings on other predecessors, or with other
            figures), ``below floor <name>``, and the method's own.
        costs: Means over runs: ``train_seconds``, ``users_per_second``, ``memory`` and ``device_memory`` (peak
            bytes), ``trained`` and ``frozen`` (parameters), ``trials`` and ``hours`` of tuning; unknown costs are
            absent.
        runs: The runs that were averaged.
        slices: The primary metric in each slice.
        standing: The verdicts, if there are any.
    """

    method: str
    rank: int | None
    metrics: dict[str, Cell]
    share: float | None
    information_set: tuple[str, ...]
    floor: bool
    marks: tuple[str, ...]
    costs: dict[str, float]
    runs: tuple[Result, ...]
    slices: dict[str, Cell]
    standing: Standing | None = None

    @property
    def name(self) -> str:
        """The method as tables and plots show it; a stand-in language model is always mentioned."""
        return f"{self.method} ({STAND_IN})" if self.stand_in else self.method

    @property
    def stand_in(self) -> bool:
        """Whether its language model is a stand-in, so that nothing about language models follows from it."""
        return STAND_IN in self.marks

    @property
    def seeds(self) -> int:
        """Number of runs that were averaged."""
        return len(self.runs)

    @property
    def needed(self) -> int:
        """Number of seeds that a rank needs, or a verdict on what a paper prints."""
        inside = self.runs[0].language_model not in (None, *SENTENCE_ENCODERS)
        return 1 if self.floor else RANKED_SEEDS_LLM if inside else RANKED_SEEDS

    @property
    def eligible(self) -> bool:
        """Whether it earns a rank: not on a stand-in, and with enough seeds besides one that it was tuned with."""
        if self.stand_in:
            return False
        return self.floor or _independent([run for run in self.runs if not _tuned_on(run)]) >= self.needed


@dataclass(frozen=True)
class Table:
    """Comparable rows: one data set, one protocol id, one slice of the test cases.

    Attributes:
        dataset: Key of the data set.
        protocol: Name of the protocol.
        protocol_id: Its id.
        slice: Slice of the test cases.
        cases: Number of its cases.
        slices: Number of cases of each slice.
        primary: The metric that it is sorted by.
        rows: Its rows, best first.
        note: What distinguishes it from other tables of the same data set and protocol, with the values of all.
        variant: The same in few words and with its own values only, for headings; empty if there is no other table.
        leakage: Share of the test cases, those outside the slice among them, for which training data contain later
            events, if times were recorded.
        pairs: For each ordered pair of rows, the first minus the second, its 95 % interval, and whether the two are
            separated.
    """

    dataset: str
    protocol: str
    protocol_id: str
    slice: str
    cases: int
    slices: dict[str, int]
    primary: str
    rows: tuple[Row, ...]
    note: str = ""
    variant: str = ""
    leakage: float | None = None
    pairs: dict[tuple[int, int], tuple[float, float, float, bool]] = field(default_factory=dict)

    @property
    def scenario(self) -> str:
        """The scenario of training and test, which is the same for all rows."""
        return str(self.rows[0].runs[0].protocols[self.protocol]["fields"].get("scenario", OVERALL))


def knows(result: Result, protocol: str, slice: str) -> bool:
    """Whether a result tells of a slice under a protocol: one that is older than the slice does not."""
    return protocol in result.protocols and (slice == ALL_CASES or f"test/{protocol}/{slice}" in result.cases)


def build_table(results: Sequence[Result], protocol: str, slice: str = "overall") -> Table:
    """The table of ``results`` under one protocol, without those that do not know the slice.

    Args:
        results: Finished runs of one data set, of which one at least knows the slice.
        protocol: Name of the protocol.
        slice: Slice of the test cases.

    Raises:
        UserError: If the results come from several data sets, or their protocol ids differ; names the field.
    """
    results = [result for result in results if knows(result, protocol, slice)]
    _refuse_mixture(results, protocol)
    key = f"test/{protocol}/{slice}"
    groups: dict[str, dict[int, Result]] = defaultdict(dict)
    crowded: set[str] = set()
    for result in sorted(results, key=lambda r: (r.checkpoint is not None, r.run_id)):
        held = groups[result.config_id].setdefault(result.seed, result)
        # A test of a finished run repeats it, and so does its training for the sake of other protocols.
        if held.trained_id != result.trained_id and not _repeats(held, result, key):
            crowded.add(result.config_id)
    labels = labels_of({name: next(iter(runs.values())) for name, runs in groups.items()})
    primary = primary_metric(protocol)
    rows = [_row(labels[name], list(runs.values()), key, protocol, name in crowded) for name, runs in groups.items()]
    rows = sorted(rows, key=lambda row: (-_value(row, primary), row.method))
    floors = [row for row in rows if row.floor]
    first = results[0]
    return Table(
        dataset=first.dataset,
        protocol=protocol,
        protocol_id=first.protocols[protocol]["id"],
        slice=slice,
        cases=first.cases.get(key, 0),
        slices={
            name.removeprefix(f"test/{protocol}/"): count
            for result in results
            for name, count in result.cases.items()
            if name.startswith(f"test/{protocol}/") and not name.endswith(f"/{ALL_CASES}")
        },
        primary=primary,
        rows=tuple(_ranked([_against_floors(row, floors, primary) for row in rows])),
        leakage=next((run.data["leakage"] for run in results if run.data.get("leakage") is not None), None),
    )


def build_tables(results: Sequence[Result], slice: str = "overall") -> list[Table]:
    """Tables of all ``results``, one per data set and protocol id.

    If a data set has a protocol under several ids, the note of each table names the fields that differ.
    """
    groups: dict[tuple[str, str, str], list[Result]] = defaultdict(list)
    for result in results:
        for protocol, entry in result.protocols.items():
            if knows(result, protocol, slice):
                groups[result.dataset, protocol, entry["id"]].append(result)
    tables = []
    for (dataset, protocol, _), members in sorted(groups.items()):
        alike = [m[0] for (d, p, _), m in groups.items() if (d, p) == (dataset, protocol)]
        notes = {difference(members[0], other, protocol) for other in alike if other is not members[0]}
        table = build_table(members, protocol, slice)
        if not table.rows or not any(row.metrics for row in table.rows):
            continue
        tables.append(replace(table, note="; ".join(sorted(notes)), variant=variant_of(members[0], alike, protocol)))
    return tables


def _refuse_mixture(results: Sequence[Result], protocol: str) -> None:
    for result in results[1:]:
        first = results[0]
        if result.dataset != first.dataset:
            raise UserError(
                f"Rows of {first.dataset} and {result.dataset} do not belong in one table.", "Give --dataset."
            )
        if result.protocols[protocol]["id"] != first.protocols[protocol]["id"]:
            raise UserError(
                f"{first.method} and {result.method} were not tested under the same {protocol!r}: "
                f"{difference(first, result, protocol)}.",
                "Leave --protocol out to get separate tables, or name only runs that agree.",
            )


def _repeats(one: Result, other: Result, key: str) -> bool:
    """Whether two trainings of one configuration and seed built on the same runs, and came to the same figures."""
    bases = [{role: name for role, name in run.predecessors.items() if role != CHECKPOINT} for run in (one, other)]
    pairs = [(one.metrics[name], other.metrics.get(name)) for name in one.metrics if name.startswith(f"{key}/")]
    same = all(math.isclose(a, b, abs_tol=1e-6) for a, b in pairs if b is not None)
    return bases[0] == bases[1] and same


def _row(label: str, runs: list[Result], key: str, protocol: str, crowded: bool) -> Row:
    tuned = any(_tuned_on(run) for run in runs)
    # A seed that was tuned on is no evidence, unless there is nothing else to show.
    runs = [run for run in runs if not _tuned_on(run)] or runs
    first = runs[0]
    marks = [*_marks(runs, key, protocol, tuned), *(["one of several runs of a seed"] if crowded else [])]
    prefix, primary = f"test/{protocol}/", primary_metric(protocol)
    names = [name.removeprefix(f"{key}/") for name in first.metrics if name.startswith(f"{key}/")]
    # Seeds that are older than a slice do not know it.
    told = dict.fromkeys(name for run in runs for name in run.metrics if name.startswith(prefix))
    slices = dict.fromkeys(name.split("/")[2] for name in told)
    keys = {slice: f"{prefix}{slice}/{primary}" for slice in slices if slice != ALL_CASES}
    return Row(
        method=label,
        rank=None,
        metrics={name: cell_of(runs, f"{key}/{name}") for name in names},
        share=None,
        information_set=tuple(first.information_set),
        floor=first.closed_form,
        marks=tuple(marks),
        costs=_costs(runs),
        runs=tuple(sorted(runs, key=lambda run: run.seed)),
        slices={slice: cell_of(runs, name) for slice, name in keys.items() if name in told},
    )


def cell_of(runs: Sequence[Result], key: str) -> Cell:
    """The cell of a metric over the runs that have it."""
    return Cell.of([run.metrics[key] for run in runs if key in run.metrics])


def users_per_second(run: Result) -> float | None:
    """Test cases per second, over all protocols of the test; ``None`` if its seconds are unknown."""
    cases = sum(count for key, count in run.cases.items() if key.endswith("/overall"))
    return cases / run.seconds["test"] if run.seconds.get("test") else None


def _costs(runs: Sequence[Result]) -> dict[str, float]:
    """Means of the costs of the runs."""
    found: dict[str, list[float | None]] = {
        "train_seconds": [None if run.closed_form else run.seconds.get("train") for run in runs],
        "users_per_second": [users_per_second(run) for run in runs],
        "memory": [run.peak_memory.get("host") for run in runs],
        "device_memory": [run.peak_memory.get("device") for run in runs],
        "trained": [run.parameters.get("trained") for run in runs],
        "frozen": [run.parameters.get("frozen") for run in runs],
        "trials": [run.tuning.get("trials") for run in runs],
        "hours": [run.tuning.get("hours") for run in runs],
    }
    known = {name: [float(v) for v in values if v is not None] for name, values in found.items()}
    return {name: statistics.fmean(values) for name, values in known.items() if values}


def _marks(runs: list[Result], key: str, protocol: str, tuned: bool) -> tuple[str, ...]:
    first = runs[0]
    selection = str(first.protocols[protocol]["fields"].get("selection", protocol)).split(" ")[0]
    ties = statistics.fmean(run.metrics.get(f"{key}/tie_share", 0.0) for run in runs)
    late = sum(bool(run.training.get("undertrained")) for run in runs)
    revisions = {run.environment.get("code", {}).get("sha") for run in runs}
    torches = {run.environment.get("versions", {}).get("torch") for run in runs}
    marks = {
        f"undertrained ({late} of {len(runs)})": late > 0,
        f"ties {ties:.1%}": ties > MANY_TIES,
        "imputed time": any(run.imputed_time for run in runs),
        "halved batches": any("batches_a_step" in run.training for run in runs),
        "post-hoc graph": any("graph" in run.information_set and run.data.get("post_hoc_graph") for run in runs),
        "tuned on one of its seeds": tuned,
        "seeds share a predecessor": _independent(runs) < len(runs),
        f"seeds of {len(revisions)} code revisions": len(revisions) > 1,
        f"seeds of {len(torches)} versions of torch": len(torches) > 1,
        STAND_IN: (first.language_model or "").startswith("standin"),
        f"selected on {selection}": selection != protocol and not first.closed_form,
    }
    return tuple(dict.fromkeys([*first.marks, *(name for name, applies in marks.items() if applies)]))


def _independent(runs: Sequence[Result]) -> int:
    """How many runs share no predecessor: seeds on the same filter hide how much another one would change."""
    roles = {role for run in runs for role in run.predecessors} - {STANDIN}
    made_from = {role: [run.predecessors[role] for run in runs if role in run.predecessors] for role in roles}
    return len(runs) - max((len(ids) - len(set(ids)) for ids in made_from.values()), default=0)


def _tuned_on(run: Result) -> bool:
    """Whether the configuration of a run was tuned with the run's own seed."""
    return run.tuning.get("seed") == run.seed


def _against_floors(row: Row, floors: Iterable[Row], primary: str) -> Row:
    known = set(row.information_set)
    fair = [floor for floor in floors if set(floor.information_set) <= known and primary in floor.metrics]
    if row.floor or not fair or primary not in row.metrics:
        return row
    best = max(fair, key=lambda floor: _value(floor, primary))
    lead, gap = _value(row, primary) - _value(best, primary), 1 - _value(best, primary)
    # A perfect floor leaves no gap to close, but may be missed.
    share = lead / gap if gap > 0 else None
    below = (f"below floor {best.method}",) if lead < 0 else ()
    return replace(row, share=share, marks=row.marks + below)


def _ranked(rows: list[Row]) -> list[Row]:
    """Ranks the eligible rows; none while floors, which need one run, would be the only ones."""
    trained = [row for row in rows if not row.floor]
    if trained and not any(row.eligible for row in trained):
        return rows
    ranks = iter(range(1, len(rows) + 1))
    return [replace(row, rank=next(ranks)) if row.eligible else row for row in rows]


def _value(row: Row, metric: str) -> float:
    return row.metrics[metric].mean if metric in row.metrics else -math.inf
