"""Whether runs of this machine replay packed ones."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
from scipy import stats

from benchmarks.leaderboard.rows import primary_metric
from benchmarks.leaderboard.sources import Finished, same_execution

REPLAYED, MISSED = "replayed:", "not replayed:"
"""Prefixes of the marks of runs that others have also reported."""


def settle(runs: Sequence[Finished]) -> list[Finished]:
    """Runs of this machine, and those packed ones whose configuration and protocol id it has not run itself.

    Runs of this machine that others have also reported get a mark that says whether they agree, with both run ids.
    """
    packed: dict[str, list[Finished]] = defaultdict(list)
    own: dict[str, list[Finished]] = defaultdict(list)
    for run in runs:
        (own if run.files is None else packed)[run.result.config_id].append(run)
    here = {run.result.run_id for members in own.values() for run in members}
    settled = []
    for name, reported in packed.items():
        tested = {protocol_id for run in own[name] for protocol_id in _protocols(run)}
        left = [_without(run, tested) for run in reported if run.result.run_id not in here]
        settled += [run for run in left if run.result.protocols]
    for name, members in own.items():
        common = {protocol_id for run in packed[name] for protocol_id in _protocols(run)}
        mark = _verdict(packed[name], members)
        settled += [_marked(run, mark) if mark and common & _protocols(run).keys() else run for run in members]
    return settled


def _protocols(run: Finished) -> dict[str, str]:
    """Names of a run's protocols, by id."""
    return {entry["id"]: name for name, entry in run.result.protocols.items()}


def _without(run: Finished, protocol_ids: Collection[str]) -> Finished:
    kept = {name: entry for name, entry in run.result.protocols.items() if entry["id"] not in protocol_ids}
    return replace(run, result=replace(run.result, protocols=kept))


def _marked(run: Finished, mark: str) -> Finished:
    return replace(run, result=replace(run.result, marks=[*run.result.marks, mark]))


def _verdict(packed: Sequence[Finished], own: Sequence[Finished]) -> str | None:
    """The mark of a configuration that was run here and elsewhere.

    ``None`` if the two share no protocol id, or if the packed run is a copy of a run of this machine.
    """
    elsewhere = [run for run in packed if not any(same_execution(run.result, other.result) for other in own)]
    found = []
    for protocol_id in sorted({name for run in elsewhere for name in _protocols(run)}):
        there, here = (_tested(group, protocol_id) for group in (elsewhere, own))
        if here:
            found.append((there, here, _inside(there, here, protocol_id)))
    if not found:
        return None
    ids = [
        ", ".join(sorted({run.result.run_id for members in side for run in members}))
        for side in list(zip(*found, strict=True))[:2]
    ]
    inside = all(agrees for _, _, agrees in found)
    return f"{REPLAYED} {ids[0]} by {ids[1]}" if inside else f"{MISSED} {ids[1]} lies outside {ids[0]}"


def _tested(runs: Sequence[Finished], protocol_id: str) -> list[Finished]:
    """Runs that were tested under a protocol id, one per seed; the test of the training itself takes precedence."""
    tested = [run for run in runs if protocol_id in _protocols(run)]
    return list(
        {run.result.seed: run for run in sorted(tested, key=lambda run: run.result.checkpoint is None)}.values()
    )


def _inside(packed: Sequence[Finished], own: Sequence[Finished], protocol_id: str) -> bool:
    """Whether the mean here lies in the 95 % interval of the mean there: over seeds or users, whichever is wider."""
    protocol = _protocols(packed[0])[protocol_id]
    metric = primary_metric(protocol)
    there, here = (
        [run.result.metrics[f"test/{_protocols(run)[protocol_id]}/overall/{metric}"] for run in members]
        for members in (packed, own)
    )
    _, _, gains = packed[0].gains(protocol, metric)
    reach = 1.96 * float(gains.std(ddof=1)) / math.sqrt(len(gains))
    if len(there) > 1:
        spread = float(np.std(there, ddof=1)) * math.sqrt(1 / len(there) + 1 / len(here))
        reach = max(reach, float(stats.t.ppf(0.975, len(there) - 1)) * spread)
    return abs(float(np.mean(here)) - float(np.mean(there))) <= reach
