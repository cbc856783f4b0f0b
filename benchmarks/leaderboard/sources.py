"""Finished runs and their ranks."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks.leaderboard.figures import TOLERANCE, contradiction, gains_of_ranks
from benchmarks.leaderboard.rows import primary_metric
from benchmarks.results import ALL_CASES, SLICE, VALUE, stored_values
from benchmarks.runs import CHECKPOINT, RANKS, RESULT, Result, find_runs, hash_of, read_result
from common.errors import UserError
from common.metrics.cases import COLUMNS

NEEDED = ("protocol", "case_id", "user")
"""Columns of the ranks that every comparison needs."""
Ranks = TypeVar("Ranks")
"""What is read from a run's ranks."""


@dataclass(frozen=True)
class Finished:
    """A finished run.

    Attributes:
        result: Its result.
        path: Its folder, or the file in which it was packed.
        files: Content of its files, for a packed run.
    """

    result: Result
    path: Path
    files: Mapping[str, bytes] | None = None

    @property
    def protocol_ids(self) -> set[str]:
        """Ids of the protocols under which it was tested."""
        return {entry["id"] for entry in self.result.protocols.values()}

    @property
    def sound(self) -> bool:
        """Whether its ranks can be read and yield its metrics."""
        try:
            for protocol in self.result.protocols:
                self.gains(protocol, primary_metric(protocol))
        except UserError:
            return False
        return True

    @property
    def _cure(self) -> str:
        if self.files is not None:
            return "Leave the file out, and ask its author to pack the run again."
        again = f"Test it again with `recbench evaluate {self.path}`, whose result then replaces it"
        return f"{again}, or name only the other runs."

    def text(self, name: str) -> str:
        """The text of a file in its folder, empty if there is none; bytes that are no text are replaced."""
        if self.files is not None:
            return self.files.get(name, b"").decode(errors="replace")
        path = self.path / name
        return path.read_text("utf-8", errors="replace") if path.is_file() else ""

    def cases(self, protocol: str, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """Its cases under one protocol, sorted by case id.

        Args:
            protocol: The protocol.
            columns: Columns to read; all when omitted.

        Raises:
            UserError: If its ranks are missing or cannot be read.
        """
        table = self._ranks(lambda source: pl.read_parquet(source, columns=None if columns is None else list(columns)))
        return table.filter(pl.col("protocol") == protocol).sort("case_id")

    def _ranks(self, read: Callable[[Path | BytesIO], Ranks]) -> Ranks:
        path = self.path / RANKS
        try:
            return read(path if self.files is None else BytesIO(self.files.get(RANKS, b"")))
        except (OSError, pl.exceptions.PolarsError) as error:
            there = path.is_file() if self.files is None else RANKS in self.files
            state = "is corrupted" if there else "is missing"
            reason = " ".join(str(error).split())[:120]
            raise UserError(f"{path} {state}: {reason}", self._cure) from error

    def require_figures(self, protocol: str) -> None:
        """Checks the figures of its result under one protocol against its ranks, once.

        Raises:
            UserError: If its ranks cannot be read, or one differs.
        """
        if protocol not in self._contradictions:
            names = [name for name in self._ranks(pl.read_parquet_schema) if name.startswith((SLICE, VALUE))]
            table = self.cases(protocol, [*NEEDED, "higher", "equal", *names])
            self._contradictions[protocol] = contradiction(self.result, protocol, table)
        if clause := self._contradictions[protocol]:
            raise UserError(f"{self.path}: {clause}.", self._cure)

    @cached_property
    def _contradictions(self) -> dict[str, str | None]:
        """What is known about each protocol whose figures were checked."""
        return {}

    def stores(self, protocol: str, metric: str) -> bool:
        """Whether a metric that does not follow from ranks is stored for each case of a protocol.

        Raises:
            UserError: If its ranks cannot be read.
        """
        column = f"{VALUE}{metric}"
        if column not in self._ranks(pl.read_parquet_schema):
            return False
        return metric in stored_values(self.cases(protocol, ("protocol", "case_id", column)))

    def digest(self) -> str:
        """A hash of its cases, whatever the order in which they are stored, and of its metrics.

        Raises:
            UserError: If its ranks cannot be read.
        """
        # Without slices, which follow from data and protocol.
        columns = sorted(("protocol", *COLUMNS))
        rows = [self.cases(protocol, columns).select(columns).write_csv() for protocol in sorted(self.result.protocols)]
        return hash_of(self.result.metrics, rows)

    def gains(
        self, protocol: str, metric: str, slice: str = ALL_CASES
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Case ids, users, and the value of ``metric`` for each case of a slice.

        Raises:
            UserError: If the mean, or any other figure under this protocol, differs from the value in the result.
        """
        stored = "/" in metric
        own = [f"{VALUE}{metric}"] if stored else ["higher", "equal"]
        table = self.cases(protocol, [*NEEDED, *own, *([] if slice == ALL_CASES else [f"{SLICE}{slice}"])])
        if slice != ALL_CASES:
            table = table.filter(pl.col(f"{SLICE}{slice}"))
        columns = [table[name] for name in own]
        gain = columns[0].cast(pl.Float64).to_numpy() if stored else gains_of_ranks(metric, *columns)
        stated = self.result.metrics.get(f"test/{protocol}/{slice}/{metric}")
        if stated is not None and (not len(gain) or not abs(gain.mean() - stated) <= TOLERANCE):
            found = f"{gain.mean():.6f}" if len(gain) else "no case"
            raise UserError(
                f"{self.path}: its ranks give {metric} {found} under {protocol}, but its result says {stated:.6f}.",
                self._cure,
            )
        self.require_figures(protocol)
        case, user = (table[name].cast(pl.Int64).to_numpy() for name in ("case_id", "user"))
        return case, user, gain


def own_runs(folders: Iterable[Path]) -> list[Finished]:
    """All finished runs at or below ``folders``, each once.

    A run with damaged ranks is replaced by a sound evaluation of it under the same protocols, if there is one among
    them or next to it; a line says so.

    Raises:
        UserError: If a folder does not exist, or two runs have the same id but different results.
    """
    found = dict.fromkeys(find_runs(folders))
    runs = [Finished(read_result(folder), folder) for folder in found]
    return distinct(_repaired(runs, [*runs, *_beside(found)]))


def _beside(folders: Collection[Path]) -> Iterator[Finished]:
    """Readable runs next to ``folders``; unreadable ones are skipped, because the user did not name them."""
    for parent in dict.fromkeys(folder.parent for folder in folders):
        for path in sorted(parent.glob(f"*/{RESULT}")):
            if path.parent not in folders:
                with suppress(UserError):
                    yield Finished(read_result(path.parent), path.parent)


def _repaired(runs: Sequence[Finished], known: Sequence[Finished]) -> list[Finished]:
    """The runs, with damaged ones replaced by evaluations among all ``known`` runs."""
    evaluations: dict[str, list[Finished]] = defaultdict(list)
    for other in known:
        evaluations[other.result.predecessors.get(CHECKPOINT, "")].append(other)
    repaired: dict[Path, Finished] = {}
    for run in runs:
        able = [other for other in evaluations[run.result.run_id] if run.protocol_ids <= other.protocol_ids]
        # Ranks are only read if it makes a difference: a leaderboard of many runs reads them once, later.
        instead = None if not able or run.sound else next((other for other in able if other.sound), None)
        if instead is not None:
            sys.stderr.write(f"recbench: {run.path} is damaged; its evaluation {instead.path} replaces it.\n")
        repaired.setdefault((instead or run).path, instead or run)
    return list(repaired.values())


def distinct(runs: Iterable[Finished]) -> list[Finished]:
    """Runs without their copies.

    The same configuration and seed give the same run id on another machine, but metrics may differ in the last digits.
    A packed run and one of this machine are therefore both kept, to be judged as report and replay. Two packed ones are
    not: neither can be trusted more than the other.

    Raises:
        UserError: If two have the same id but different ranks or metrics, and are not a report and a replay.
    """
    kept: dict[str, list[Finished]] = defaultdict(list)
    for run in runs:
        others = kept[run.result.run_id]
        if not any(_same(other, run) for other in others):
            others.append(run)
    return [run for members in kept.values() for run in members]


def _same(one: Finished, other: Finished) -> bool:
    """Whether one run is a copy of another with the same id."""
    if one.result.metrics == other.result.metrics and one.digest() == other.digest():
        # A report and a replay are both kept, even if they agree to the last digit: the verdict needs both.
        return (one.files is None) == (other.files is None)
    if same_execution(one.result, other.result) or (one.files is None) == (other.files is None):
        raise UserError(
            f"{one.path} and {other.path} have the same run id but different results.",
            "The same configuration, data and seed should give the same result: name only the run you trust.",
        )
    return False


def same_execution(one: Result, other: Result) -> bool:
    """Whether two results come from one training, as copies and evaluations do: no two trainings take equally long.

    Where nothing was trained, no two tests do.
    """
    times = [
        {name: value for name, value in result.seconds.items() if name != "test" or not result.seconds.get("train")}
        for result in (one, other)
    ]
    return times[0] == times[1]
