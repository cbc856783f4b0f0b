"""When each run starts: as soon as its predecessors are done and a device is free; failed runs are retried once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import disk_usage
from typing import TYPE_CHECKING

from benchmarks.launch.journal import Journal
from benchmarks.launch.task import Launcher, Task
from benchmarks.runs import LAST, LOCK, is_locked
from common.errors import UserError

if TYPE_CHECKING:
    from benchmarks.launch.plan import SuiteRun

ATTEMPTS = 2
MISTAKE = 2
"""Exit code of a user error, which would occur again if the run were repeated."""
POLL = 0.5
ROOM = 1 << 20
"""With fewer free bytes, a disk counts as full: no run could write its result."""


@dataclass
class Attempt:
    """A run in progress.

    Attributes:
        entry: The run.
        number: 1 for the first attempt.
        started: When it was started.
        resumed: Whether it continues an earlier one.
    """

    entry: SuiteRun
    number: int
    started: float
    resumed: bool


class Schedule:
    """The runs of a suite and their progress.

    Args:
        entries: All runs, predecessors first.
        launcher: The launcher that carries them out.
        suite_folder: Folder of logs and journal.
        jobs: Number of devices to keep busy.
        threads: Threads per run; 0 for no limit.
        options: Further options of every ``recbench run``.
    """

    def __init__(
        self,
        entries: Sequence[SuiteRun],
        launcher: Launcher,
        suite_folder: Path,
        jobs: int,
        threads: int = 0,
        options: Sequence[str] = (),
    ) -> None:
        self.launcher, self.suite_folder, self.jobs = launcher, suite_folder, jobs
        self.threads, self.options = threads, tuple(options)
        self.journal = Journal(suite_folder)
        self.done = {entry.folder for entry in entries if entry.state == "done"}
        self.waiting = [(entry, 1) for entry in entries if entry.folder not in self.done]
        self.running: dict[str, Attempt] = {}
        """By run id, because rows of different tables share their labels."""
        self.failed: dict[Path, SuiteRun] = {}
        self.blocked: set[Path] = set()
        """Those of the failed ones that could not start."""
        self.events: list[str] = []

    def run(self, tick: Callable[[], None]) -> list[SuiteRun]:
        """Runs everything, and returns the runs that failed or could not start.

        Args:
            tick: Called after every change, and about twice per second.

        Raises:
            UserError: If the disk is full, because all remaining runs would fail as well.
        """
        try:
            while self.waiting or self.running:
                self._drop_blocked()
                self._start_ready()
                tick()
                if not self.running:
                    time.sleep(POLL)
                    continue
                for task, code in self.launcher.wait(POLL):
                    self._ended(self.running.pop(task.run_id), code)
            tick()
        finally:
            self.launcher.close()
        return list(self.failed.values())

    def _drop_blocked(self) -> None:
        """Gives up runs whose predecessors failed, directly or indirectly."""
        while True:
            blocked = [entry for entry, _ in self.waiting if not self.failed.keys().isdisjoint(entry.after)]
            if not blocked:
                return
            for entry in blocked:
                self.failed[entry.folder] = entry
                self.blocked.add(entry.folder)
                self._note("blocked", entry)
            self.waiting = [(entry, number) for entry, number in self.waiting if entry.folder not in self.failed]

    def _start_ready(self) -> None:
        busy = sum(self._devices(attempt.entry) for attempt in self.running.values())
        for entry, number in list(self.waiting):
            # A run that wants more devices than there are gets all of them.
            fits = busy + self._devices(entry) <= self.jobs or not busy
            # What another suite works on is waited for.
            if not fits or not self.done.issuperset(entry.after) or is_locked(entry.folder / LOCK):
                continue
            self.waiting.remove((entry, number))
            if entry.state == "done":
                self.done.add(entry.folder)
                continue
            busy += self._devices(entry)
            resumed = entry.state == "unfinished" and not (number > 1 and self._mistaken(entry) and is_damaged(entry))
            resume = ("--ckpt_path=last",) if resumed else ()
            own = (*self.options, *resume, "--trainer.enable_progress_bar=false") if entry.command == "run" else ()
            arguments = (entry.command, *entry.arguments, *own)
            log = self.suite_folder / entry.log_name
            threads = 0 if entry.command == "speed" else self.threads
            task = Task(entry.run_id, entry.label, arguments, log, threads, entry.devices)
            self.running[entry.run_id] = Attempt(entry, number, time.monotonic(), resumed)
            self._note("started", entry, attempt=number, resumed=resumed)
            self.launcher.start(task)

    def _devices(self, entry: SuiteRun) -> int:
        """Number of devices that a run occupies; a measurement of speed occupies all of them."""
        return self.jobs if entry.command == "speed" else entry.devices

    def _mistaken(self, entry: SuiteRun) -> bool:
        return self.journal.last().get(entry.run_id, {}).get("code") == MISTAKE

    def _ended(self, attempt: Attempt, code: int) -> None:
        entry, seconds = attempt.entry, round(time.monotonic() - attempt.started, 2)
        if code in (0, MISTAKE) and entry.state == "done":
            self.done.add(entry.folder)
            self._note("done", entry, seconds=seconds, code=code)
            return
        if disk_usage(self.suite_folder).free < ROOM:
            raise UserError(
                f"The disk of {self.suite_folder} is full, so {entry.label} failed.",
                "Free some space and run the suite again: what is done is skipped, what was begun is resumed.",
            )
        # A user error is final, unless its cause is the checkpoint, without which the run starts from scratch.
        # Another suite may have taken the run while this one was starting it: that is no attempt, and is waited for.
        taken = code == MISTAKE and is_locked(entry.folder / LOCK)
        again = taken or (attempt.number < ATTEMPTS and (code != MISTAKE or (attempt.resumed and is_damaged(entry))))
        self._note("retry" if again else "failed", entry, seconds=seconds, code=code)
        if again:
            self.waiting.insert(0, (entry, attempt.number + (not taken)))
        else:
            self.failed[entry.folder] = entry

    def _note(self, event: str, entry: SuiteRun, **details: object) -> None:
        self.journal.write(event, entry.label, entry.run_id, **details)
        if event != "started":
            seconds = f" after {details['seconds']:.0f} s" if "seconds" in details else ""
            code = f" ({details['code']})" if details.get("code") else ""
            self.events.append(f"{entry.label}: {event}{code}{seconds}")


def is_damaged(entry: SuiteRun) -> bool:
    """Whether the checkpoint of a run cannot be read, for a reason other than a lack of rights or of memory."""
    from lightning.pytorch.utilities.memory import is_oom_error

    from common.models.finished import load_checkpoint

    try:
        load_checkpoint(entry.folder / LAST, "")
    except OSError:
        return False
    except UserError as error:
        cause = error.__cause__
        return not isinstance(cause, MemoryError) and not (isinstance(cause, RuntimeError) and is_oom_error(cause))
    return False
