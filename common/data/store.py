"""The processed store: the only module that knows its format (Parquet, safetensors, ``manifest.json``)."""

from __future__ import annotations

import errno
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
import torch
from jaxtyping import Int
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor

from common.data.graph import value_ids
from common.data.schema import Manifest
from common.data.splits import build_sequences, is_training
from common.data.templates import attribute_words
from common.errors import DataError, UserError, failure_number, nearest
from common.files import sha256_of
from common.types import Cases, Catalogue, Sequences, Split

STORE_VERSION = 1
"""Version of the format below; a store of another version is refused."""

AGAIN = "Delete the store's folder and prepare it again."

NOT_ATTRIBUTES = ("item", "raw_id", "title", "text", "description")
"""Columns of the items table that are not attributes; ``raw_id`` is an item's id before the source numbered it."""

# In a folder that machines share, a process id can be checked only on its own machine.
_OURS = f".tmp-{socket.gethostname()}-"
_SPLIT_KEYS = ("train_end", "val.user", "val.position", "test.user", "test.position")


@dataclass(frozen=True)
class StoreTables:
    """The tables that a store is written from.

    Attributes:
        interactions: ``user, item, timestamp, rating, row`` in the store's order; ``row`` is the source's.
        items: Row ``i`` is item ``i + 1``: ``item`` (its token), ``title``, ``text``, ``description``, attributes.
        users: Row ``u`` is user ``u + 1``: ``user`` (its token).
        relations: ``head, relation, tail`` with item ids.
        splits: Splits over ``interactions``, by name.
        candidates: Candidates of validation and test, without targets, by (split, protocol).
        truth: Arrays of known truth of a synthetic world, if any.
    """

    interactions: pl.DataFrame
    items: pl.DataFrame
    users: pl.DataFrame
    relations: pl.DataFrame
    splits: dict[str, Split]
    candidates: dict[tuple[str, str], dict[str, Tensor]]
    truth: dict[str, Tensor] | None = None


@dataclass(frozen=True)
class Store:
    """A processed data set on disk.

    Attributes:
        path: Its folder.
        manifest: What it contains and how it was made.
    """

    path: Path
    manifest: Manifest

    def split(self, name: str = "leave_one_out") -> Split:
        """The sequences with the division called ``name``.

        Raises:
            UserError: If the store holds no such split.
        """
        if name not in self.manifest.splits:
            raise UserError(
                f"Store {self.path} has no split {name!r} (its times are {self.manifest.time}).",
                nearest(name, self.manifest.splits),
            )
        parts = self._tensors(f"split-{name}")
        return Split(
            sequences=self._sequences(),
            train_end=parts["train_end"],
            val=Cases(user=parts["val.user"], position=parts["val.position"]),
            test=Cases(user=parts["test.user"], position=parts["test.position"]),
        )

    def protocols(self, split: str) -> list[str]:
        """The names of the stored candidate protocols of ``split``."""
        return sorted(
            path.stem.removeprefix(f"candidates-{split}-") for path in self.path.glob(f"candidates-{split}-*")
        )

    def candidates(self, split: str, protocol: str, phase: Literal["val", "test"]) -> Int[Tensor, "m c"]:
        """The stored candidates (int32, without the target) of each case of ``split[phase]``, in that order.

        Raises:
            UserError: If no such candidates are stored.
        """
        return self._tensors(self._candidates_path(split, protocol).stem, [phase])[phase]

    def candidates_hash(self, split: str, protocol: str) -> str:
        """The SHA-256 of the stored candidates."""
        return self.manifest.hashes[self._candidates_path(split, protocol).name]

    def items(self) -> pl.DataFrame:
        """The items table; row ``i`` is item ``i + 1``."""
        return self._table("items")

    def user_tokens(self) -> list[str]:
        """The users' tokens; element ``u`` is user ``u + 1``."""
        return self._table("users")["user"].to_list()

    def truth(self) -> dict[str, Tensor]:
        """The known truth of a synthetic world; empty for data from outside."""
        return self._tensors("truth") if (self.path / "truth.safetensors").exists() else {}

    @property
    def text_cache(self) -> Path:
        """Folder of the cache of text vectors, which all stores beside this one share."""
        return self.path.parents[1] / "text-vectors"

    def catalogue(self, events: Split | None = None) -> Catalogue:
        """Everything known about items, with the training events of a split or of a view of one."""
        parts, items = events or self.split(), self.items()
        attributes = [name for name in items.columns if name not in NOT_ATTRIBUTES]
        train = _training_events(parts)
        return Catalogue(
            num_users=self.manifest.num_users,
            num_items=self.manifest.num_items,
            num_interactions=self.manifest.num_interactions,
            time=self.manifest.time,
            train=train,
            train_count=torch.bincount(train["items"], minlength=self.manifest.num_items + 1),
            titles=["", *items["title"].to_list()],
            texts=["", *items["text"].to_list()],
            text_cache=self.text_cache,
            relations=self._relations(),
            attributes={name: torch.from_numpy(value_ids(items[name])) for name in attributes},
            words={name: ["", *values] for name, values in attribute_words(items, attributes).items()},
        )

    def _table(self, name: str, columns: list[str] | None = None) -> pl.DataFrame:
        with self._genuine(f"{name}.parquet") as path:
            return pl.read_parquet(path, columns=columns)

    def _tensors(self, name: str, keys: list[str] | None = None) -> dict[str, Tensor]:
        with self._genuine(f"{name}.safetensors") as path, safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in keys or file.keys()}

    @contextmanager
    def _genuine(self, name: str) -> Iterator[Path]:
        """A file to be read, which must be the one that was written: protocol ids stand for its content.

        Raises:
            DataError: If it is not, or cannot be read.
        """
        path = self.path / name
        try:
            about = path.stat()
            if _known_sha256(path, about.st_mtime_ns, about.st_size) != self.manifest.hashes[name]:
                raise DataError(f"{path} is not what the store's manifest says: it has changed.", AGAIN)
            yield path
        except (OSError, SafetensorError, pl.exceptions.PolarsError) as error:
            raise DataError(f"{path} cannot be read: {str(error).splitlines()[0]}", AGAIN) from error

    def _candidates_path(self, split: str, protocol: str) -> Path:
        path = self.path / f"candidates-{split}-{protocol}.safetensors"
        if not path.exists():
            stored = self.protocols(split)
            reason = self.manifest.warnings.get(f"no-candidates-{split}-{protocol}", "")
            raise UserError(
                f"Store {self.path} has no candidates {protocol!r} for split {split!r}. {reason}".rstrip(),
                nearest(protocol, [*stored, "full"]),
            )
        return path

    def _sequences(self) -> Sequences:
        table = self._table("interactions", ["user", "item", "timestamp"])
        user, item, time = (torch.from_numpy(table[name].cast(pl.Int64).to_numpy().copy()) for name in table.columns)
        return build_sequences(user, item, time, self.manifest.num_users)

    def _relations(self) -> dict[str, Tensor]:
        table = self._table("relations")
        return {
            str(name): torch.from_numpy(edges.select("head", "tail").cast(pl.Int64).to_numpy().copy())
            for (name,), edges in sorted(table.partition_by("relation", as_dict=True).items())
        }


def _training_events(split: Split) -> Sequences:
    sequences, end = split["sequences"], split["train_end"]
    offsets, kept = sequences["offsets"], is_training(split)
    counts = torch.zeros_like(offsets)
    torch.cumsum(end - offsets[:-1], 0, out=counts[1:])
    return Sequences(offsets=counts, items=sequences["items"][kept], times=sequences["times"][kept])


def read_store(path: Path) -> Store:
    """Opens the store in a folder.

    Raises:
        DataError: If its manifest is unreadable or of another version of the format.
    """
    cure = f"Delete {path} and run `recbench prepare {path.parent.name}` again."
    try:
        manifest = Manifest.from_json((path / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path / 'manifest.json'} is not a manifest of store version {STORE_VERSION}: {error}", cure
        ) from error
    if manifest.store_version != STORE_VERSION:
        raise DataError(f"{path} was written by store version {manifest.store_version}; this is {STORE_VERSION}.", cure)
    return Store(path, manifest)


def write_store(root: Path, manifest: Manifest, tables: StoreTables) -> Store:
    """Writes a store whole or not at all, and returns it with the hashes of its files in the manifest.

    Args:
        root: Folder of all stores.
        manifest: The manifest without hashes.
        tables: What to write.

    Raises:
        UserError: If the disk is full or the folder is not writable; nothing is left behind.
    """
    folder = Path(root) / manifest.dataset
    final, temporary = folder / manifest.store_id, folder / f".{manifest.store_id}{_OURS}{os.getpid()}"
    with _user_errors(root):
        _remove_leftovers(folder)
        temporary.mkdir(parents=True)
        try:
            _write_files(temporary, tables)
            hashes = {path.name: sha256_of(path) for path in sorted(temporary.iterdir())}
            manifest = replace(manifest, hashes=hashes)
            (temporary / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")
            _share(temporary)
            _put(temporary, final)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            if not any(folder.iterdir()):
                folder.rmdir()
    return Store(final, manifest)


def _put(written: Path, final: Path) -> None:
    """Moves a store to its place, unless another process was faster: its store has the same fingerprint."""
    try:
        written.rename(final)
    except OSError:
        if (final / "manifest.json").exists():
            return
        shutil.rmtree(final, ignore_errors=True)
        written.rename(final)


def _write_files(folder: Path, tables: StoreTables) -> None:
    frames = {"interactions": tables.interactions, "items": tables.items, "users": tables.users}
    for name, frame in {**frames, "relations": tables.relations}.items():
        frame.write_parquet(folder / f"{name}.parquet", compression="lz4")
    for name, split in tables.splits.items():
        values = (split["train_end"], *(split[phase][key] for phase in ("val", "test") for key in ("user", "position")))
        _save(dict(zip(_SPLIT_KEYS, values, strict=True)), folder / f"split-{name}.safetensors")
    for (name, protocol), candidates in tables.candidates.items():
        _save(candidates, folder / f"candidates-{name}-{protocol}.safetensors")
    if tables.truth:
        _save(tables.truth, folder / "truth.safetensors")


def _save(tensors: Mapping[str, Tensor], path: Path) -> None:
    save_file({name: np.ascontiguousarray(tensor.numpy()) for name, tensor in tensors.items()}, path)


def _share(folder: Path) -> None:
    """Gives every file the permissions of the manifest: safetensors makes files readable only to their owner."""
    mode = (folder / "manifest.json").stat().st_mode
    for path in folder.iterdir():
        path.chmod(mode)


@cache
def _known_sha256(path: Path, changed: int, size: int) -> str:
    """The SHA-256 of a file as it was ``changed``, computed once."""
    return sha256_of(path)


def _remove_leftovers(folder: Path) -> None:
    """Removes what killed preparations on this machine left, but nothing that a running process is writing."""
    for path in folder.glob(f".*{_OURS}*"):
        owner = path.name.rsplit("-", 1)[1]
        if owner.isdigit() and not _is_alive(int(owner)):
            shutil.rmtree(path, ignore_errors=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    # This process has made no folder yet, so one under its id was left by an earlier process with the same id.
    return process != os.getpid()


@contextmanager
def _user_errors(root: Path) -> Iterator[None]:
    """Turns a full disk or a missing permission into an error that says so."""
    try:
        yield
    except (OSError, SafetensorError, pl.exceptions.ComputeError) as error:
        text, number = str(error), failure_number(error)
        if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise UserError(
                f"No space is left for a file in {root}: {text}",
                "Free some, or choose another --root.",
            ) from error
        if number in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR):
            raise UserError(
                f"{root} is not writable: {text}", "Choose another --root or fix its permissions."
            ) from error
        raise
