"""Verdicts on the rows of a table, from the ranks of their runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.leaderboard.rows import Row, Standing, Table
from benchmarks.leaderboard.sources import Finished
from benchmarks.statistics.bootstrap import RESAMPLES
from benchmarks.statistics.verdicts import Evidence, Verdicts, compare, rank_intervals, tie_groups
from common.errors import UserError


def judged(table: Table, runs: Iterable[Finished], resamples: int = RESAMPLES) -> Table:
    """The table with verdicts on all pairs of its ranked rows, on its primary metric.

    Rows without a rank only get intervals.

    Args:
        table: Rows, best first.
        runs: All its runs, with their ranks.
        resamples: Resamples of the bootstrap.

    Raises:
        UserError: If ranks cannot be read, contradict their result, or belong to other cases than the first row's.
    """
    metrics = {number: table.primary for number, row in enumerate(table.rows) if table.primary in row.metrics}
    if not metrics:
        return table
    verdicts = _compared(table, metrics, runs, resamples)
    judged_rows = list(table.rows)
    rows = [table.rows[number] for number in metrics]
    for number, standing in zip(metrics, _standings(rows, verdicts), strict=True):
        judged_rows[number] = replace(table.rows[number], standing=standing)
    return replace(table, rows=tuple(judged_rows), pairs=_pairs(verdicts, list(metrics)))


def paired_on(table: Table, metrics: Mapping[int, str], runs: Iterable[Finished], resamples: int = RESAMPLES) -> Table:
    """The table with verdicts on pairs of rows that are each measured by a metric of their own.

    Args:
        table: Rows, best first.
        metrics: The metric of each row that takes part, by its place.
        runs: All its runs, with their ranks.
        resamples: Resamples of the bootstrap.

    Raises:
        UserError: As for :func:`judged`.
    """
    return replace(table, pairs=_pairs(_compared(table, metrics, runs, resamples), list(metrics)))


def _compared(table: Table, metrics: Mapping[int, str], runs: Iterable[Finished], resamples: int) -> Verdicts:
    sources = {run.result.run_id: run for run in runs}
    rows = [table.rows[number] for number in metrics]
    cases: NDArray[np.int64] | None = None
    evidence = []
    for row, metric in zip(rows, metrics.values(), strict=True):
        totals = []
        for result in row.runs:
            case, user, gain = sources[result.run_id].gains(table.protocol, metric, table.slice)
            if cases is None:
                cases, users = case, user
            elif not np.array_equal(cases, case):
                raise UserError(
                    f"{sources[result.run_id].path} contains ranks of other cases than {rows[0].method}.",
                    "Test it again on the stored split with `recbench evaluate`.",
                )
            totals.append(gain)
        seeds = [run.metrics[f"test/{table.protocol}/{table.slice}/{metric}"] for run in row.runs]
        evidence.append(Evidence(tuple(seeds), np.mean(totals, axis=0), row.floor))
    return compare(evidence, users, [row.rank is not None for row in rows], resamples)


def _standings(rows: list[Row], verdicts: Verdicts) -> list[Standing]:
    ranked = [number for number, row in enumerate(rows) if row.rank is not None]
    separated = verdicts.separated[np.ix_(ranked, ranked)]
    means = [float(verdicts.difference[number, 0]) for number in ranked]
    intervals = dict(zip(ranked, rank_intervals(separated, means), strict=True))
    groups = dict(zip(ranked, tie_groups(separated), strict=True))
    ends = (verdicts.difference, verdicts.low, verdicts.high)
    return [
        Standing(
            ranks=intervals.get(number),
            group=groups.get(number, ""),
            lead=None
            if number == 0
            else (float(ends[0][number, 0]), float(ends[1][number, 0]), float(ends[2][number, 0])),
            spread=float(verdicts.spread[number]),
        )
        for number in range(len(rows))
    ]


def _pairs(verdicts: Verdicts, places: list[int]) -> dict[tuple[int, int], tuple[float, float, float, bool]]:
    k = len(verdicts.difference)
    columns = [values.tolist() for values in (verdicts.difference, verdicts.low, verdicts.high, verdicts.separated)]
    d, low, high, separated = columns
    return {
        (places[i], places[j]): (d[i][j], low[i][j], high[i][j], separated[i][j])
        for i in range(k)
        for j in range(k)
        if i != j
    }
