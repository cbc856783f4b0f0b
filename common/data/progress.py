"""Progress on standard error, so that standard output stays free for JSON."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from rich import progress
from rich.console import Console

console = Console(stderr=True)
"""Where bars, spinners and notes go."""

_WORTH_A_BAR = 1 << 26
"""Smallest file that gets a bar; those below 64 MiB are read in well under two seconds."""


@contextmanager
def reading(path: Path, what: str) -> Iterator[BinaryIO]:
    """Opens a file for binary reading, with a bar of the bytes read where the file is large.

    Args:
        path: File to open.
        what: Words before the file's name, such as ``"Hashing"``.
    """
    with progress.open(
        path,
        "rb",
        description=f"{what} {path.name}",
        console=console,
        transient=True,
        disable=path.stat().st_size < _WORTH_A_BAR,
    ) as stream:
        yield stream


@contextmanager
def working(what: str, size: int = _WORTH_A_BAR) -> Iterator[None]:
    """Shows a spinner during a step that cannot report its progress.

    Args:
        what: What is being done, such as ``"Reading ratings.csv"``.
        size: Number of bytes to process; nothing is shown below 64 MiB.
    """
    if size < _WORTH_A_BAR:
        yield
        return
    with console.status(what):
        yield
