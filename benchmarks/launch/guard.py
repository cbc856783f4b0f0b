"""Commands that start processes themselves and end whole: no rank outlives its run, and no run its suite.

As a program, ``python -m benchmarks.launch.guard DESCRIPTOR COMMAND…`` carries out a command and ends its process group
as soon as nobody holds the other end of the pipe that it reads from.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path


class Guarded:
    """A command in a session of its own that ends with this process, also where that is killed.

    Args:
        command: The command.
        log: File that takes its output, at the end.
        environment: What else is in its environment.
    """

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> None:
        # Nobody writes to it: it ends when this process, which alone holds the other end, is gone.
        reading, self._writing = os.pipe()
        try:
            with log.open("ab") as stream:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "benchmarks.launch.guard", str(reading), *command],
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=stream,
                    env=os.environ | (environment or {}),
                    pass_fds=(reading,),
                    start_new_session=True,
                )
        except BaseException:
            os.close(self._writing)
            raise
        finally:
            os.close(reading)

    @property
    def pid(self) -> int:
        """The process that all others of the command are below."""
        return self._process.pid

    def poll(self) -> int | None:
        """Its exit code, or ``None`` while it runs; what it has left behind is ended."""
        return None if self._process.poll() is None else self.kill()

    def wait(self) -> int:
        """Its exit code, when it has ended; what it has left behind is ended."""
        self._process.wait()
        return self.kill()

    def kill(self) -> int:
        """Ends all of its processes, if any are left, and returns its exit code."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        if self._writing >= 0:
            os.close(self._writing)
            self._writing = -1
        return self._process.wait()


def main(descriptor: int, command: Sequence[str]) -> int:
    """Carries out a command as long as somebody holds the other end of a pipe; ends as the command ends."""

    def watch() -> None:
        os.read(descriptor, 1)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
    code = subprocess.call(command)
    if code < 0:
        os.kill(os.getpid(), -code)
    return code


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
