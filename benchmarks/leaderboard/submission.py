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
from collections.abc import Sequence
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
from benchmarks.runs import CONFIG, METRICS, RANKS, RESULT, hash_of, parse_result, read_result
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
    """Runs of this machine, and packed ones where this machine has none of their configuration.

    Runs here that others have reported, too, carry a mark that says whether they agree, with both run ids.
    """
    packed: dict[str, list[Finished]] = defaultdict(list)
    own: dict[str, list[Finished]] = defaultdict(list)
    for run in runs:
        (own if run.files is None else packed)[run.result.config_id].append(run)
    settled = [run for name, members in packed.items() if name not in own for run in members]
    for name, members in own.items():
        mark = _verdict(packed[name], members) if name in packed else None
        settled += [replace(r, result=replace(r.result, marks=[*r.result.marks, mark])) if mark else r for r in members]
    return settled


def _verdict(packed: Sequence[Finished], own: Sequence[Finished]) -> str | None:
    """The mark of a configuration that ran here and elsewhere; ``None`` where the file holds the very run from here."""
    # Two executions never take the same time, so that equal seconds tell a copy from a replay.
    elsewhere = [run for run in packed if not any(run.result.seconds == other.result.seconds for other in own)]
    if not elsewhere:
        return None
    inside = all(
        _inside(elsewhere, own, protocol)
        for protocol in elsewhere[0].result.protocols
        if protocol in own[0].result.protocols
    )
    ids = [", ".join(sorted({run.result.run_id for run in members})) for members in (elsewhere, own)]
    return f"replayed: {ids[0]} by {ids[1]}" if inside else f"not replayed: {ids[1]} lies outside {ids[0]}"


def _inside(packed: Sequence[Finished], own: Sequence[Finished], protocol: str) -> bool:
    """Whether the mean here lies in the wider 95 % interval, over seeds or users, of the mean there."""
    metric = PRIMARY.get(protocol, "ndcg@10")
    key = f"test/{protocol}/overall/{metric}"
    there, here = ([run.result.metrics[key] for run in members] for members in (packed, own))
    _, _, gains = packed[0].gains(protocol, metric)
    reach = 1.96 * float(gains.std(ddof=1)) / math.sqrt(len(gains))
    if len(there) > 1:
        spread = float(np.std(there, ddof=1)) * math.sqrt(1 / len(there) + 1 / len(here))
        reach = max(reach, float(stats.t.ppf(0.975, len(there) - 1)) * spread)
    return abs(float(np.mean(here)) - float(np.mean(there))) <= reach


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
