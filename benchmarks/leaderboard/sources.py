"""Finished runs and where their ranks are."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TypeVar

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from benchmarks.leaderboard.rows import primary_metric
from benchmarks.results import OVERALL, SLICE
from benchmarks.runs import RANKS, RESULT, Result, find_runs, hash_of, read_result
from common.errors import UserError
from common.metrics.functional import hit_rate, mrr, ndcg
from common.metrics.ranking import COLUMNS

NEEDED = ("protocol", "case_id", "user", "higher", "equal")
TOLERANCE = 1e-9
Ranks = TypeVar("Ranks")
"""What is read of a run's ranks."""


@dataclass(frozen=True)
class Finished:
    """A finished run.

    Attributes:
        result: What it says of itself.
        path: Its folder, or the file that it was packed in.
        files: Content of its files, for a run that was packed.
    """

    result: Result
    path: Path
    files: Mapping[str, bytes] | None = None

    @property
    def protocol_ids(self) -> set[str]:
        """Ids of the protocols that it was tested under."""
        return {entry["id"] for entry in self.result.protocols.values()}

    @property
    def sound(self) -> bool:
        """Whether its ranks can be read and give its figures."""
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
        again = f"Test it again with `recbench evaluate {self.path}`, whose result then stands in its place"
        return f"{again}, or name the other runs."

    def text(self, name: str) -> str:
        """A text file of its folder, empty where there is none."""
        if self.files is not None:
            return self.files.get(name, b"").decode()
        path = self.path / name
        return path.read_text() if path.is_file() else ""

    def cases(self, protocol: str, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """Its cases under one protocol, by case id.

        Args:
            protocol: The protocol.
            columns: Columns to read; all when omitted.

        Raises:
            UserError: If they are not there or cannot be read.
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

    def digest(self) -> str:
        """A hash of what it found: all its cases, in whatever order they are stored, and its figures.

        Raises:
            UserError: If its cases cannot be read.
        """
        # Slices follow from data and protocol; runs of earlier versions do not hold them.
        columns = sorted(("protocol", *COLUMNS))
        rows = [self.cases(protocol, columns).select(columns).write_csv() for protocol in sorted(self.result.protocols)]
        return hash_of(self.result.metrics, rows)

    def knows(self, slice: str) -> bool:
        """Whether its ranks tell which cases belong to a slice.

        Raises:
            UserError: If they cannot be read.
        """
        return slice == OVERALL or f"{SLICE}{slice}" in self._ranks(pl.read_parquet_schema)

    def gains(
        self, protocol: str, metric: str, slice: str = OVERALL
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Case ids, users, and what each case of a slice gains under ``metric``.

        Raises:
            UserError: If their mean is not the figure that the result states.
        """
        table = self.cases(protocol, NEEDED if slice == OVERALL else (*NEEDED, f"{SLICE}{slice}"))
        if slice != OVERALL:
            table = table.filter(pl.col(f"{SLICE}{slice}"))
        higher, equal = (torch.from_numpy(table[name].cast(pl.Int64).to_numpy().copy()) for name in ("higher", "equal"))
        gain = case_gains(metric, higher, equal).numpy()
        stated = self.result.metrics.get(f"test/{protocol}/{slice}/{metric}")
        if stated is not None and (not len(gain) or abs(gain.mean() - stated) > TOLERANCE):
            found = f"{gain.mean():.6f}" if len(gain) else "no case"
            raise UserError(
                f"{self.path}: its ranks give {metric} {found} under {protocol}, its result states {stated:.6f}.",
                self._cure,
            )
        case, user = (table[name].cast(pl.Int64).to_numpy() for name in ("case_id", "user"))
        return case, user, gain


def case_gains(metric: str, higher: torch.Tensor, equal: torch.Tensor) -> torch.Tensor:
    """What each case gains under a metric named like ``hr@10``, ``ndcg@10`` or ``mrr``."""
    name, _, cutoff = metric.partition("@")
    if name == "mrr":
        return mrr(higher, equal)
    return {"hr": hit_rate, "ndcg": ndcg}[name](higher, equal, int(cutoff))


def own_runs(places: Iterable[Path]) -> list[Finished]:
    """All finished runs at or below ``places``, each once.

    Where a run's ranks are damaged, a sound evaluation of it under the same protocols stands in its place, there or
    beside it, and a line says so.

    Raises:
        UserError: If a place does not exist, or two runs have the same id and differ in what they found.
    """
    folders = dict.fromkeys(folder for place in places for folder in find_runs([place]))
    runs = [Finished(read_result(folder), folder) for folder in folders]
    return distinct(_mended(runs, [*runs, *_beside(folders)]))


def _beside(folders: Collection[Path]) -> Iterator[Finished]:
    """Runs in the folders beside ``folders``, as far as they can be read: nobody has asked for them."""
    for parent in dict.fromkeys(folder.parent for folder in folders):
        for path in sorted(parent.glob(f"*/{RESULT}")):
            if path.parent not in folders:
                with suppress(UserError):
                    yield Finished(read_result(path.parent), path.parent)


def _mended(runs: Sequence[Finished], known: Sequence[Finished]) -> list[Finished]:
    """Runs, and evaluations instead of those that are damaged, out of all that are ``known``."""
    evaluations: dict[str, list[Finished]] = defaultdict(list)
    for other in known:
        evaluations[other.result.predecessors.get("checkpoint", "")].append(other)
    mended: dict[Path, Finished] = {}
    for run in runs:
        able = [other for other in evaluations[run.result.run_id] if run.protocol_ids <= other.protocol_ids]
        # Ranks are read only where it makes a difference: a leaderboard of many runs reads them later, once.
        instead = None if not able or run.sound else next((other for other in able if other.sound), None)
        if instead is not None:
            sys.stderr.write(f"recbench: {run.path} is damaged; its evaluation {instead.path} stands in its place.\n")
        mended.setdefault((instead or run).path, instead or run)
    return list(mended.values())


def distinct(runs: Iterable[Finished]) -> list[Finished]:
    """Runs without their copies.

    Another machine that runs the same configuration and seed gives a run of the same id, too, whose figures may differ
    in the last digits: a packed run and one of this machine both stay, to be judged as report and replay. Two packed
    ones do not: neither is trusted more than the other.

    Raises:
        UserError: If two have the same id and differ in ranks or figures, and are not a report and a replay.
    """
    kept: dict[str, list[Finished]] = defaultdict(list)
    for run in runs:
        others = kept[run.result.run_id]
        if not any(_same(other, run) for other in others):
            others.append(run)
    return [run for members in kept.values() for run in members]


def _same(one: Finished, other: Finished) -> bool:
    """Whether one run of an id is a copy of another."""
    if one.result.metrics == other.result.metrics and one.digest() == other.digest():
        # Where both stay, the report has to remain one for the verdict.
        return (one.files is None) == (other.files is None)
    if same_execution(one.result, other.result) or (one.files is None) == (other.files is None):
        raise UserError(
            f"{one.path} and {other.path} have the same run id and different results.",
            "Same configuration, data and seed should give the same: name only the one you trust.",
        )
    return False


def same_execution(one: Result, other: Result) -> bool:
    """Whether two results are of one training, as copies are and evaluations of it: no two take the same time."""
    times = [
        {name: value for name, value in result.seconds.items() if name != "test" or result.closed_form}
        for result in (one, other)
    ]
    return times[0] == times[1]
