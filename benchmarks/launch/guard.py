"""Commands with child processes that end together: no rank outlives its run, and no run outlives its suite.

As a program, ``python -m benchmarks.launch.guard DESCRIPTOR COMMAND…`` runs a command and kills its process group as
soon as the other end of the pipe that it reads from is closed.
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
    """A command in its own session that ends with this process, even if this process is killed.

    Args:
        command: The command.
        log: File to which its output is appended.
        environment: Additional environment variables.
    """

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> None:
        # Nothing is ever written: the pipe closes when this process, the only holder of the other end, is gone.
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
        """Id of the process that is the parent of all others of the command."""
        return self._process.pid

    def poll(self) -> int | None:
        """Its exit code, or ``None`` while it runs; kills any process that it leaves behind."""
        return None if self._process.poll() is None else self.kill()

    def wait(self) -> int:
        """Waits for its exit code; kills any process that it leaves behind."""
        self._process.wait()
        return self.kill()

    def kill(self) -> int:
        """Kills those of its processes that are left, and returns its exit code."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        if self._writing >= 0:
            os.close(self._writing)
            self._writing = -1
        return self._process.wait()


def main(descriptor: int, command: Sequence[str]) -> int:
    """Runs a command while the other end of a pipe is open, and exits the way the command does."""

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
