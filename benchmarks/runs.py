"""Run folders: their names, their files, and the result of a finished run."""

from __future__ import annotations

import csv
import errno
import fcntl
import hashlib
import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TextIO, get_args, get_origin, get_type_hints

from common.errors import UserError
from common.files import replacing

RESULT_VERSION = 1
RESULT, RANKS, CONFIG, METRICS = "result.json", "ranks.parquet", "config.yaml", "metrics.csv"
LAST = "last.ckpt"
LOCK = ".lock"
PATIENCE = 1.0
"""Seconds for which a lock is tried: others hold it for an instant to see whether it is free."""
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
"""What a file system says that has no locks."""
LABEL = re.compile(r"[A-Za-z0-9][\w.+-]*")
"""What a method or a search may be called: it names a folder."""
CHECKPOINT = "checkpoint"
"""The role of a finished run in its evaluations."""
ORIGIN, UNDER = "trained_on", "trained_under"
"""Keys of a result's ``data`` for the data set and the scenario of the training, if the test used others."""

HIDDEN = "held_out_hidden"
"""In an information set: negatives avoided held-out items, which thereby left a trace."""
TIME_READERS = {"event_times", "query_time"}
"""The times that an information set may hold."""
INFORMATION = (
    "attributes", "event_times", "graph", HIDDEN, "history", "order", "query_time", "text", "user_id",
    "val_item",
)  # fmt: skip
"""Everything that can be in an information set (PROTOCOL P9)."""

MADE_AGAIN = "Delete it: the same run or suite makes it again."
WORDS = {str: "a text", int: "a number", float: "a number", bool: "true or false", dict: "a mapping", list: "a list"}
MACHINE = {
    "config", "runs", "force", "wandb", "tensorboard", "ckpt_path", "predecessors", "tuning",
    "data.root", "data.num_workers",
    "data.recipe", "data.store",
    "trainer.accelerator", "trainer.strategy", "trainer.logger", "trainer.enable_progress_bar",
    "trainer.enable_model_summary", "trainer.enable_checkpointing", "trainer.default_root_dir", "trainer.profiler",
    "trainer.log_every_n_steps", "trainer.barebones",
}  # fmt: skip
"""Settings that say where and how to run, not what. They are not part of a run's identity; the data fingerprint is."""


@dataclass(frozen=True)
class Result:
    """The result of a finished run: the content of ``result.json``.

    Attributes:
        run_id: Hash of configuration, data fingerprint and predecessors.
        config_id: The same without seeds and without the settings that only matter for testing; that of the training
            for an evaluation of a finished run.
        method: Label of the method, as the leaderboard prints it.
        dataset: Key of the data set.
        seed: Seed of weights, order and training negatives.
        protocols: For each protocol its ``id`` and the ``fields`` that the id hashes.
        information_set: What the method reads, of :data:`INFORMATION`.
        metrics: ``test/<protocol>/<slice>/<metric>``.
        cases: Number of test cases of ``test/<protocol>/<slice>``.
        data: Fingerprint, recipe, split and kind of time.
        closed_form: Whether nothing was trained by gradient (the floors).
        imputed_time: Whether the method read times that were not recorded, as the user allowed.
        training: Monitored metric and its best value, epochs, stopping reason, ``undertrained``; ``batches_a_step``
            if memory forced a step to be split into more batches than configured.
        parameters: Numbers of ``trained`` and ``frozen`` parameters.
        seconds: Wall clock of ``train``, ``to_best`` and ``test``.
        peak_memory: Peak bytes of ``host`` (the process) and ``device`` (allocated).
        environment: Code revision, versions and hardware.
        predecessors: Ids of the runs that this run builds on, by role; for an evaluation of a finished run, that run's
            and, as ``checkpoint``, its own.
        lineage: The ``config_id`` of each; a stand-in language model only has an id.
        checkpoint: The run folder whose weights were scored, for an evaluation of a finished run.
        language_model: Name of the language model inside the method; ``standin…`` for one that the suite trained.
        text_encoder: Name of the encoder behind the text vectors that the method reads.
        tuning: What it cost to choose the configuration: ``study``, ``trials`` and ``hours``, and the ``seed`` used.
        marks: Notes shown beside the method's name, such as a component that differs from the paper's.
        settings: What ``config_id`` hashes of the configuration, by dotted name.
        version: Version of this layout.
    """

    run_id: str
    config_id: str
    method: str
    dataset: str
    seed: int
    protocols: dict[str, dict[str, Any]]
    information_set: list[str]
    metrics: dict[str, float]
    cases: dict[str, int]
    data: dict[str, Any] = field(default_factory=dict)
    closed_form: bool = False
    imputed_time: bool = False
    training: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    peak_memory: dict[str, int] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    predecessors: dict[str, str] = field(default_factory=dict)
    lineage: dict[str, str] = field(default_factory=dict)
    checkpoint: str | None = None
    language_model: str | None = None
    text_encoder: str | None = None
    tuning: dict[str, Any] = field(default_factory=dict)
    marks: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    version: int = RESULT_VERSION

    @property
    def trained_id(self) -> str:
        """Id of the run whose weights were scored."""
        return Path(self.checkpoint).name if self.checkpoint else self.run_id

    def write(self, folder: Path) -> None:
        """Writes ``result.json`` atomically, as the last file of a run."""
        write_atomically(folder / RESULT, json.dumps(asdict(self), indent=2, sort_keys=True) + "\n")


TYPES = get_type_hints(Result)
NEEDED = {entry.name for entry in fields(Result) if entry.default is MISSING and entry.default_factory is MISSING}


def read_result(folder: Path) -> Result:
    """Reads a run folder's ``result.json``.

    Raises:
        UserError: If the folder holds no finished run of this version.
    """
    path = folder / RESULT
    if not path.is_file():
        if (folder / CONFIG).is_file():
            cure = "Continue it by the same `recbench run` with --ckpt_path last, or name a finished run."
            raise UserError(f"{folder} was not finished: it has no {RESULT}.", cure)
        cure = "Name a folder runs/<data set>/<method>/<run id>."
        raise UserError(f"{folder} is not a run folder: it has no {RESULT}.", cure)
    return parse_result(path.read_bytes(), path)


def parse_result(text: str | bytes, path: Path, cure: str = MADE_AGAIN) -> Result:
    """Parses a ``result.json``.

    Args:
        text: Content of the file.
        path: The file, for messages.
        cure: What to do if it cannot be read.

    Raises:
        UserError: If it is not a result of this version, or a field is not of its type.
    """
    try:
        values = json.loads(text)
        if not isinstance(values, dict):
            raise ValueError("it is not a mapping")
        if (version := values.get("version")) != RESULT_VERSION:
            if isinstance(version, int) and version > RESULT_VERSION:
                cure = "Update recbench, or name other runs."
            raise ValueError(f"version {version}, not {RESULT_VERSION}")
        if unknown := sorted(values.keys() - {entry.name for entry in fields(Result)}):
            raise ValueError(f"a result has no {' and no '.join(unknown)}")
        if lacking := sorted(NEEDED - values.keys()):
            raise ValueError(f"it has no {' and no '.join(lacking)}")
        for name, value in values.items():
            _require_type(name, value, TYPES[name])
        for name, entry in values["protocols"].items():
            if not isinstance(entry.get("id"), str) or not isinstance(entry.get("fields"), dict):
                raise ValueError(f"the protocol {name} lacks its id or fields")
        return Result(**values)
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} cannot be read: {error}.", cure) from error


def _require_type(name: str, value: object, kind: Any) -> None:  # noqa: ANN401 (any type)
    """Raises a :class:`ValueError` if the value of a field, or a member of it, is not of the annotated type."""
    whole = get_origin(kind)
    if whole not in (dict, list):
        if not isinstance(value, _accepted(kind)):
            raise ValueError(f"{name} is {value!r:.60}, expected {WORDS.get(kind, kind)}")
        return
    if not isinstance(value, whole):
        raise ValueError(f"{name} is {value!r:.60}, expected {WORDS[whole]}")
    member = get_args(kind)[-1]
    member = get_origin(member) or member
    accepted = _accepted(member)
    for one in value.values() if isinstance(value, dict) else value:
        if not isinstance(one, accepted):
            raise ValueError(f"{name} holds something that is not {WORDS[member]}")


def _accepted(kind: Any) -> Any:  # noqa: ANN401 (any type)
    """What :func:`isinstance` takes: JSON does not tell whole numbers from others, and ``Any`` is anything."""
    return (int, float) if kind in (int, float) else object if kind is Any else kind


def read_metrics(folder: Path) -> list[dict[str, str]]:
    """What a run has logged so far, row by row without empty cells; a line that is only half written is left out."""
    try:
        text = (folder / METRICS).read_text("utf-8", errors="replace")
    except FileNotFoundError:
        # A run that begins or resumes takes it away for a moment.
        return []
    rows = csv.DictReader(text[: text.rfind("\n") + 1].splitlines())
    return [{name: value for name, value in row.items() if value} for row in rows]


def find_runs(folders: Iterable[Path]) -> Iterator[Path]:
    """Folders of finished runs at or below ``folders``, sorted; trials of sweeps only if they are named themselves.

    Raises:
        UserError: If a folder does not exist.
    """
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"There is no folder {folder}.", "Name run folders, or a folder that contains some.")
        yield from sorted(place for place in _finished(folder) if not _is_trial(place.relative_to(folder)))


def _finished(folder: Path) -> Iterator[Path]:
    """Folders with a result at or below ``folder``, and below links to folders: runs may lie on several disks."""
    seen: set[str] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(place)) in seen:
            # A link leads to where the walk has been, perhaps above itself.
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        if RESULT in files:
            yield Path(place)


def _is_trial(path: Path) -> bool:
    parts = path.parts
    return "sweeps" in parts and "trials" in parts[parts.index("sweeps") :]


@contextmanager
def locked(path: Path, busy: UserError) -> Iterator[int]:
    """Holds a lock on a file and yields its descriptor; the lock of a killed process is released.

    Raises:
        UserError: ``busy``, if another process holds the lock.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + PATIENCE
    while (stream := _taken(path)) is None:
        if time.monotonic() > until:
            raise busy
        time.sleep(0.02)
    with stream:
        yield stream.fileno()


def _taken(path: Path) -> TextIO | None:
    """The file, locked; ``None`` if it is locked elsewhere, or whoever held it removed the file that was opened."""
    stream = path.open("a")
    with suppress(OSError), telling_of_locks(path):
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(stream.fileno()), path.stat()):
            return stream
    stream.close()
    return None


@contextmanager
def telling_of_locks(path: Path) -> Iterator[None]:
    """Says so if the file system of a file has no locks at all, which must not look like a lock of another process.

    Raises:
        UserError: If it has none.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        raise UserError(
            f"The file system of {path} has no locks ({error.strerror}), which keep two processes out of one run.",
            "Choose another folder with --runs, or mount it with locks: for Lustre, with `-o flock`.",
        ) from error


def is_locked(path: Path) -> bool:
    """Whether a process holds a lock on a file."""
    # Whoever holds it may remove it at any time.
    with suppress(FileNotFoundError), path.open() as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno not in NO_LOCKS
    return False


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keeps other processes, for example those of another suite, from writing the same run folder.

    Raises:
        UserError: If another process is working on it.
    """
    busy = UserError(f"Another process is working on the run {folder}.", "Wait for it: afterwards the run is done.")
    with locked(folder / LOCK, busy):
        try:
            yield
        finally:
            (folder / LOCK).unlink(missing_ok=True)


def identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a configuration that decides what a run computes."""

    def kept(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value in values.items():
            path = f"{prefix}{key}"
            if path.replace(".init_args", "") in MACHINE:
                continue
            result[key] = kept(value, f"{path}.") if isinstance(value, Mapping) else value
        return result

    return kept(config, "")


def flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a configuration by dotted name, without ``init_args``.

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


def hash_of(*parts: object) -> str:
    """First 12 hexadecimal digits of the SHA-256 of ``parts`` as canonical JSON."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def run_id(config: Mapping[str, Any], fingerprint: str, predecessors: Mapping[str, str]) -> str:
    """Id of a run: the same for the same configuration, data and predecessors, wherever it runs."""
    return hash_of(identity(config), fingerprint, predecessors)


def method_of(config: Mapping[str, Any]) -> str:
    """Label of the method of a configuration: its name or, if it has none, that of its model's class."""
    return str(config.get("name") or config["model"]["class_path"].rpartition(".")[2].lower())


def config_id(config: Mapping[str, Any], fingerprint: str, lineage: Mapping[str, str]) -> str:
    """The id shared by all runs of one configuration, whatever their seeds and test protocols.

    Args:
        config: The configuration.
        fingerprint: That of the data.
        lineage: The same id of each predecessor, and the id of a stand-in language model, which has no seeds.
    """
    return hash_of(compared(config), fingerprint, lineage)


def compared(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a configuration in which two rows of a leaderboard can differ: no seeds, no settings of testing."""
    values = {key: value for key, value in identity(config).items() if key != "seed_everything"}
    data = dict(values.get("data") or {})
    testing = ("seed", "test_protocols", "test_users", "eval_batch_size")
    data["init_args"] = {key: value for key, value in data.get("init_args", {}).items() if key not in testing}
    return values | {"data": data}


def write_atomically(path: Path, text: str) -> None:
    """Writes a file completely or not at all."""
    with replacing(path) as part, part.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
