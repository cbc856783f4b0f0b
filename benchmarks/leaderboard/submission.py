"""``recbench submit``: a run packed for somebody else's leaderboard, and what is believed of such a file.

A file proves that its figures follow from its ranks, not that its ranks were made by its configuration: its row is
*self-reported* until a run of the same configuration elsewhere lands inside its interval, then *replayed*.
"""

from __future__ import annotations

import hashlib
import json
import math
import zipfile
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import polars as pl
from scipy import stats

from benchmarks.cli import write
from benchmarks.leaderboard.rows import PRIMARY
from benchmarks.leaderboard.sources import TOLERANCE, Finished
from benchmarks.results import slice_metrics
from benchmarks.runs import CONFIG, METRICS, RANKS, RESULT, Result, hash_of, parse_result, read_result
from common.errors import UserError

MANIFEST = "manifest.json"
SUFFIX = ".recbench.zip"
VERSION = 1
REPORTED = "self-reported"
_CURE = "Ask its author to pack the run again with `recbench submit`."


def submit(run: Path, *, out: Path | None = None) -> None:
    """Packs a finished run (result, ranks, configuration, curve; no weights) into one file for another leaderboard.

    Args:
        run: Run folder.
        out: File to write; ``<data set>-<method>-<run id>.recbench.zip`` here when omitted.
    """
    result = read_result(run)
    path = out or Path(f"{result.dataset}-{result.method}-{result.run_id}{SUFFIX}")
    files = {name: (run / name).read_bytes() for name in (RESULT, RANKS, CONFIG, METRICS) if (run / name).is_file()}
    manifest = {"version": VERSION, "run_id": result.run_id, "files": {n: _hash(data) for n, data in files.items()}}
    content = BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(MANIFEST, json.dumps(manifest, indent=2))
        for name, data in files.items():
            archive.writestr(name, data)
    # What another machine would refuse is refused here, before it is sent.
    verify(Finished(result, path, files))
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content.getvalue())
    part.replace(path)
    write(str(path))


def unpack(path: Path) -> Finished:
    """The run in a file of :func:`submit`.

    Raises:
        UserError: If it is no such file, was changed, or its figures do not follow from its ranks.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
        manifest = json.loads(files.pop(MANIFEST))
        hashes, version = dict(manifest["files"]), manifest["version"]
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError, OSError) as error:
        raise UserError(f"{path} is no file of `recbench submit`: {error}.", _CURE) from error
    if version != VERSION:
        raise UserError(f"{path} has version {version} of the layout, this recbench reads {VERSION}.", _CURE)
    changed = sorted(n for n in hashes.keys() | files.keys() if n not in files or _hash(files[n]) != hashes.get(n))
    if changed or not {RESULT, RANKS} <= set(files):
        raise UserError(f"{path} was changed after it was packed: {', '.join(changed) or 'files are missing'}.", _CURE)
    result = parse_result(files[RESULT].decode(), path)
    run = Finished(replace(result, marks=[*result.marks, REPORTED]), path, files)
    verify(run)
    return run


def verify(run: Finished) -> None:
    """Checks that protocol ids and overall figures follow from what the run stores.

    Raises:
        UserError: If one does not.
    """
    for protocol, entry in run.result.protocols.items():
        if hash_of(entry["fields"]) != entry["id"]:
            raise UserError(f"{run.place}: the id of protocol {protocol!r} is not that of its fields.", _CURE)
    table = pl.concat([run.cases(protocol) for protocol in run.result.protocols])
    found, cases = slice_metrics(table, {})
    for key, count in cases.items():
        if run.result.cases.get(key) != count:
            raise UserError(f"{run.place}: {key} has {count} cases, not {run.result.cases.get(key)}.", _CURE)
    for key, value in found.items():
        stated = run.result.metrics.get(key, math.nan)
        if not abs(stated - value) <= TOLERANCE:
            raise UserError(f"{run.place}: its ranks give {key} {value:.6f}, its result states {stated:.6f}.", _CURE)


def settle(runs: Sequence[Finished]) -> list[Finished]:
    """Runs of this machine, and packed ones as far as this machine has none of their configuration and protocol id.

    Runs here that others have reported, too, carry a mark that says whether they agree, with both run ids.
    """
    packed: dict[str, list[Finished]] = defaultdict(list)
    own: dict[str, list[Finished]] = defaultdict(list)
    for run in runs:
        (own if run.files is None else packed)[run.result.config_id].append(run)
    settled = []
    for name, reported in packed.items():
        tested = {protocol_id for run in own[name] for protocol_id in _protocols(run)}
        settled += [left for left in (_without(run, tested) for run in reported) if left.result.protocols]
    for name, members in own.items():
        common = {protocol_id for run in packed[name] for protocol_id in _protocols(run)}
        mark = _verdict(packed[name], members)
        settled += [_marked(run, mark) if mark and common & _protocols(run).keys() else run for run in members]
    return settled


def _protocols(run: Finished) -> dict[str, str]:
    """Names of a run's protocols by their ids."""
    return {entry["id"]: name for name, entry in run.result.protocols.items()}


def _without(run: Finished, protocol_ids: Collection[str]) -> Finished:
    kept = {name: entry for name, entry in run.result.protocols.items() if entry["id"] not in protocol_ids}
    return replace(run, result=replace(run.result, protocols=kept))


def _marked(run: Finished, mark: str) -> Finished:
    return replace(run, result=replace(run.result, marks=[*run.result.marks, mark]))


def _verdict(packed: Sequence[Finished], own: Sequence[Finished]) -> str | None:
    """The mark of a configuration that ran here and elsewhere.

    ``None`` where nothing ran under the same protocol id, and where the file holds the very run from here.
    """
    elsewhere = [run for run in packed if not any(_same_execution(run.result, other.result) for other in own)]
    found = []
    for protocol_id in sorted({name for run in elsewhere for name in _protocols(run)}):
        there, here = (_tested(part, protocol_id) for part in (elsewhere, own))
        if here:
            found.append((there, here, _inside(there, here, protocol_id)))
    if not found:
        return None
    ids = [
        ", ".join(sorted({run.result.run_id for members in part for run in members}))
        for part in list(zip(*found, strict=True))[:2]
    ]
    inside = all(agrees for _, _, agrees in found)
    return f"replayed: {ids[0]} by {ids[1]}" if inside else f"not replayed: {ids[1]} lies outside {ids[0]}"


def _same_execution(one: Result, other: Result) -> bool:
    """Whether two results are of one training, as copies are and evaluations of it: no two take the same time."""
    times = [
        {name: value for name, value in result.seconds.items() if name != "test" or result.closed_form}
        for result in (one, other)
    ]
    return times[0] == times[1]


def _tested(runs: Sequence[Finished], protocol_id: str) -> list[Finished]:
    """Runs that were tested under a protocol id, one a seed: the training's own test before its evaluations."""
    tested = [run for run in runs if protocol_id in _protocols(run)]
    return list(
        {run.result.seed: run for run in sorted(tested, key=lambda run: run.result.checkpoint is None)}.values()
    )


def _inside(packed: Sequence[Finished], own: Sequence[Finished], protocol_id: str) -> bool:
    """Whether the mean here lies in the wider 95 % interval, over seeds or users, of the mean there."""
    protocol = _protocols(packed[0])[protocol_id]
    metric = PRIMARY.get(protocol, "ndcg@10")
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


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
