"""Suite files, and a launcher that carries out their runs in this process."""

from pathlib import Path

import pytest
import yaml

from benchmarks.__main__ import main
from benchmarks.launch.task import Task


def suite_file(folder: Path, **changes: object) -> Path:
    values = {"about": "toy", "datasets": ["synthetic"], "methods": ["popularity", "sasrec"], "seeds": [1, 2]}
    path = folder / "toy.yaml"
    path.write_text(yaml.safe_dump(values | changes))
    return path


class Runs:
    """Stands in for a launcher: runs in this process when asked how it goes, and fails where told."""

    def __init__(self, failures: dict[str, int]) -> None:
        self.failures = failures
        self.commands: list[list[str]] = []
        self.begun: list[Task] = []

    def start(self, task: Task) -> None:
        self.commands.append(task.command)
        self.begun.append(task)

    def wait(self, seconds: float) -> list[tuple[Task, int]]:
        task = self.begun.pop(0)
        name = next((argument for argument in task.arguments if argument.startswith("--config=")), "")
        if self.failures.get(name, 0):
            self.failures[name] -= 1
            return [(task, 1)]
        here = ["--trainer.accelerator=cpu"] if task.arguments[0] == "run" else []
        return [(task, main([*task.arguments, *here]))]

    def close(self) -> None:
        assert self.begun == []


def patched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, failures: dict[str, int] | None = None) -> Runs:
    runs = Runs(failures or {})
    monkeypatch.setattr("benchmarks.suite.make_launcher", lambda *_: (runs, 1, 0))
    return runs
