"""What happened to each run of a suite: one line per event, kept across restarts."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.runs import is_locked, locked
from common.errors import UserError

NAME, LOCK = "journal.jsonl", "lock"


class Journal:
    """A suite's journal.

    Args:
        folder: Folder of the suite.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME

    def write(self, event: str, run: str, run_id: str, **details: object) -> None:
        """Adds an event. A full disk does not end the suite: the event then only goes to standard error.

        Args:
            event: What happened.
            run: Label of the run.
            run_id: Name of its folder.
            details: Further fields of the event.
        """
        values = {"time": round(time.time(), 3), "event": event, "run": run, "run_id": run_id, **details}
        line = json.dumps(values) + "\n"
        try:
            # A single appending write: a kill leaves complete lines, except perhaps for the last one.
            handle = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                size = os.fstat(handle).st_size
                torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
                os.write(handle, (b"\n" if torn else b"") + line.encode())
                os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as error:
            sys.stderr.write(f"{self.path} cannot be written ({error.strerror}): {line}")

    def read(self) -> list[dict[str, Any]]:
        """All complete events; a line that a kill has truncated is skipped."""
        if not self.path.is_file():
            return []
        events = []
        for line in self.path.read_text(errors="replace").splitlines():
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and {"event", "run", "time"} <= set(event):
                events.append(event)
        return events

    def last(self) -> dict[str, dict[str, Any]]:
        """The last event of each run, by run id: unlike labels, ids are unique."""
        return {event["run_id"]: event for event in self.read() if "run_id" in event}


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Keeps a second process from running the same suite; the lock of a killed process is released.

    Raises:
        UserError: If another process runs it.
    """
    busy = UserError(f"Another process runs the suite in {folder}.", "Wait for it, or watch it with --status.")
    with locked(folder / LOCK, busy) as lock:
        # The start is stored as the file's time, which needs no room on a full disk.
        os.utime(lock)
        yield


def held_since(folder: Path) -> float | None:
    """When the process that runs a suite started, in Unix time; ``None`` if none runs it."""
    # Rounded like the times of events: otherwise an event of the same millisecond could seem older.
    return round((folder / LOCK).stat().st_mtime, 3) if is_locked(folder / LOCK) else None
