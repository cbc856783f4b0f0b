"""``recbench submit``: packs a run for another leaderboard, and checks such files.

A file proves that its overall metrics follow from its ranks, and its ids from its configuration, data and
predecessors. It does not prove that this configuration produced the ranks: its row is *self-reported* until a run of
the same configuration elsewhere falls inside its interval, then *replayed*. What a file cannot prove is taken on trust:
which cases belong to a slice (only the store knows their users and items), metrics that are not stored for each case,
the configurations of predecessors, the information set, costs, the course of training, and whether the method is a
floor.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import polars as pl
import yaml

from benchmarks.cli import write
from benchmarks.experiments import parse_yaml
from benchmarks.leaderboard.figures import TOLERANCE
from benchmarks.leaderboard.replays import MISSED, REPLAYED
from benchmarks.leaderboard.sources import Finished
from benchmarks.results import ALL_CASES, slice_metrics
from benchmarks.runs import (
    CHECKPOINT,
    CONFIG,
    LABEL,
    METRICS,
    RANKS,
    RESULT,
    compared,
    config_id,
    flat,
    hash_of,
    method_of,
    parse_result,
    read_result,
    run_id,
)
from benchmarks.standins import STANDIN
from common.errors import UserError
from common.files import replacing

MANIFEST = "manifest.json"
SUFFIX = ".recbench.zip"
VERSION = 1
REPORTED = "self-reported"
RESERVED = (REPORTED, REPLAYED, MISSED, "stand-in")
"""Prefixes of marks that only this machine sets; those in files are ignored."""
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, KeyError, ValueError, TypeError, OSError)
"""What reading an archive raises that is damaged, encrypted, or none of ours."""
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_OWN_CURE = "Run it again with --force."
_CURE = "Ask its author to pack the run again with `recbench submit`."


def submit(run: Path, *, out: Path | None = None) -> None:
    """Packs a finished run (result, ranks, configuration, curve; no weights) into one file for another leaderboard.

    Args:
        run: Run folder.
        out: File to write; ``<data set>-<method>-<run id>.recbench.zip`` in the current folder when omitted.
    """
    result = read_result(run)
    path = out or Path(f"{result.dataset}-{result.method}-{result.run_id}{SUFFIX}")
    if path.is_dir():
        raise UserError(f"{path} is a folder.", "Name a file.")
    files = {name: (run / name).read_bytes() for name in (RESULT, RANKS, CONFIG, METRICS) if (run / name).is_file()}
    manifest = {"version": VERSION, "run_id": result.run_id, "files": {n: _hash(data) for n, data in files.items()}}
    content = BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(MANIFEST, json.dumps(manifest, indent=2))
        for name, data in files.items():
            archive.writestr(name, data)
    # What another machine would refuse is refused here, before it is submitted.
    verify(Finished(result, run, files), _OWN_CURE)
    with replacing(path) as part:
        part.write_bytes(content.getvalue())
    write(str(path))


def unpack(path: Path) -> Finished:
    """The run in a file of :func:`submit`.

    Raises:
        UserError: If it is not such a file, was changed, or its metrics do not follow from its ranks.
    """
    if path.name in (RESULT, RANKS, CONFIG, METRICS):
        raise UserError(f"{path} is a file of a run folder.", f"Name the folder: {path.parent}.")
    try:
        with zipfile.ZipFile(path) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
        manifest = json.loads(files.pop(MANIFEST))
        hashes, version = dict(manifest["files"]), manifest["version"]
    except _DAMAGE as error:
        raise UserError(f"{path} is not a file of `recbench submit`: {error}.", _CURE) from error
    if version != VERSION:
        raise UserError(f"{path} has layout version {version}, but this recbench reads version {VERSION}.", _CURE)
    changed = sorted(n for n in hashes.keys() | files.keys() if n not in files or _hash(files[n]) != hashes.get(n))
    if changed or not {RESULT, RANKS, CONFIG} <= set(files):
        raise UserError(f"{path} was changed after it was packed: {', '.join(changed) or 'files are missing'}.", _CURE)
    result = parse_result(files[RESULT], path, _CURE)
    marks = [mark for mark in result.marks if not mark.startswith(RESERVED)]
    run = Finished(replace(result, marks=[*marks, REPORTED]), path, files)
    verify(run)
    return run


def verify(run: Finished, cure: str = _CURE) -> None:
    """Checks that the ids and overall metrics of a run follow from its files.

    Args:
        run: The run.
        cure: What to do if they do not.

    Raises:
        UserError: If one does not, or a file cannot be read.
    """
    try:
        _verify_texts(run, cure)
        _verify_protocols(run, cure)
        _verify_ids(run, cure)
        _verify_figures(run, cure)
    except UserError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError, pl.exceptions.PolarsError, yaml.YAMLError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:120]
        raise UserError(f"{run.path} has content that no run would write: {reason}.", cure) from error


def _verify_texts(run: Finished, cure: str) -> None:
    """Checks that no text of a result can pass for more than its own place in a table."""
    if not LABEL.fullmatch(run.result.method):
        raise UserError(f"{run.path}: {run.result.method!r:.80} is no name of a method.", cure)
    # Settings are not shown, and a prompt among them may have lines.
    for text in _texts(replace(run.result, settings={}).__dict__):
        if CONTROL.search(text):
            raise UserError(f"{run.path}: its result has control characters in {text!r:.80}.", cure)


def _texts(values: object) -> Iterator[str]:
    """All texts in nested mappings and lists, and the names of what they hold."""
    if isinstance(values, str):
        yield values
    elif isinstance(values, Mapping | list):
        for member in (*values, *(values.values() if isinstance(values, Mapping) else ())):
            yield from _texts(member)


def _verify_figures(run: Finished, cure: str) -> None:
    try:
        table = pl.concat([run.cases(protocol) for protocol in run.result.protocols])
    except UserError as error:
        raise UserError(error.what, cure) from error
    found, cases = slice_metrics(table, {})
    for key, count in cases.items():
        if run.result.cases.get(key) != count:
            raise UserError(f"{run.path}: {key} has {count} cases, not {run.result.cases.get(key)}.", cure)
    for key, value in found.items():
        stated = run.result.metrics.get(key, math.nan)
        if not abs(stated - value) <= TOLERANCE:
            raise UserError(f"{run.path}: its ranks give {key} {value:.6f}, but its result says {stated:.6f}.", cure)
    try:
        for protocol in run.result.protocols:
            run.require_figures(protocol)
    except UserError as error:
        raise UserError(error.what, cure) from error


def _verify_protocols(run: Finished, cure: str) -> None:
    result = run.result
    if not result.protocols:
        raise UserError(f"{run.path} was tested under no protocol.", cure)
    for protocol, entry in result.protocols.items():
        fields = entry["fields"]
        if hash_of(fields) != entry["id"]:
            raise UserError(f"{run.path}: the id of protocol {protocol!r} does not match its fields.", cure)
        cases = result.cases.get(f"test/{protocol}/{ALL_CASES}")
        known = {"protocol": protocol, "data": result.data.get("fingerprint"), "cases": cases}
        _compare(run, {f"{name} of {protocol}": (fields.get(name), value) for name, value in known.items()}, cure)


def _verify_ids(run: Finished, cure: str) -> None:
    """Checks that the names and ids of a run follow from its configuration, data and predecessors."""
    result, text = run.result, run.text(CONFIG)
    if not text:
        raise UserError(f"{run.path} has no {CONFIG}, from which its ids are computed.", cure)
    config = parse_yaml(text)
    if not isinstance(config, Mapping):
        raise UserError(f"{run.path}: its {CONFIG} is no mapping of settings.", cure)
    model, fingerprint = config["model"], str(result.data.get("fingerprint"))
    predecessors, tested = result.predecessors, {CHECKPOINT: result.predecessors.get(CHECKPOINT)}
    if result.checkpoint:
        # An evaluation is named after the run that it scores; that run's predecessors are in its configuration.
        predecessors = {role: Path(folder).name for role, folder in (config.get("predecessors") or {}).items()}
    made_here = STANDIN in (model.get("init_args") or {}).values()
    if made_here and STANDIN not in predecessors:
        raise UserError(
            f"{run.path} does not say which stand-in language model it used, so its ids prove nothing.",
            "Pack the training run, not its evaluation.",
        )
    name = run_id(config, fingerprint, predecessors)
    lineage = result.lineage | {role: its_id for role, its_id in predecessors.items() if role == STANDIN}
    made_from = lineage.get(CHECKPOINT) if result.checkpoint else config_id(config, fingerprint, lineage)
    known = {
        "run id": (result.run_id, hash_of(name, tested) if result.checkpoint else name),
        "configuration id": (result.config_id, made_from),
        "seed": (result.seed, config["seed_everything"]),
        "data set": (result.dataset, config["data"]["init_args"]["dataset"]),
        "method": (result.method, method_of(config)),
        "settings": (result.settings, result.settings and flat(compared(config))),
    }
    if made_here:
        known["use of a stand-in language model"] = (str(result.language_model).startswith(STANDIN), True)
    _compare(run, known, cure)


def _compare(run: Finished, known: Mapping[str, tuple[object, object]], cure: str) -> None:
    """Raises a :class:`UserError` for the first of ``known`` whose stated and computed values differ."""
    for name, (stated, value) in known.items():
        if stated != value:
            raise UserError(
                f"{run.path}: its {name} is {stated}, but its content gives {value}: it was changed, or made by "
                "another version of recbench.",
                cure,
            )


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
