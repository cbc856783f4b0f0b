"""A tiny prepared world and a finished run, shared by the tests of the command line."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from allmrec.standin.settings import SMALL, Level
from benchmarks.__main__ import main
from benchmarks.standins import find_standin
from common.data.stores import find_store

Complaint = Callable[..., str]


@pytest.fixture
def complaint(capsys: pytest.CaptureFixture[str]) -> Complaint:
    """Runs a command that must end with exit code 2 and returns its message."""

    def run(*arguments: str) -> str:
        capsys.readouterr()
        assert main(list(arguments)) == 2
        message = capsys.readouterr().err
        assert "Traceback" not in message
        assert message.count("recbench: ") == 1
        return message

    return run


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stores")
    size = ["--users", "60", "--items", "128", "--interactions", "560"]
    assert main(["prepare", "synthetic", *size, "--root", str(folder)]) == 0
    return folder


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


def without_times(root: Path, copy: Path) -> Path:
    """A copy of all stores whose times count as imputed."""
    shutil.copytree(root, copy)
    for manifest in copy.rglob("manifest.json"):
        manifest.write_text(manifest.read_text().replace('"time": "real"', '"time": "imputed"'))
    return copy


def options(root: Path, runs: Path, *more: str) -> list[str]:
    places = [f"--data.root={root}", f"--runs={runs}", "--trainer.enable_progress_bar=false"]
    return [*places, "--trainer.accelerator=cpu", *more]


@pytest.fixture(scope="session")
def finished(root: Path, runs: Path) -> Path:
    """The folder of a finished run of two epochs."""
    arguments = options(root, runs, "--name=trained", "--trainer.max_epochs=2", "--model.width=8")
    assert main(["run", "--config", "synthetic/sasrec", *arguments]) == 0
    return next((runs / "synthetic" / "trained").iterdir())


@pytest.fixture(scope="session")
def floor(root: Path, runs: Path) -> Path:
    """The folder of a finished closed-form run."""
    assert main(["run", "--config", "synthetic/popularity", *options(root, runs, "--name=floor")]) == 0
    return next((runs / "synthetic" / "floor").iterdir())


@pytest.fixture(scope="module")
def tiny_standin() -> Iterator[None]:
    """Stand-in language models are the smallest there can be."""
    with pytest.MonkeyPatch.context() as patch:
        tiny = replace(SMALL, vocabulary=400, steps=1, batch_size=2, levels=(Level(2, 0, 0.0),), title_tokens=8)
        patch.setattr("benchmarks.standins.SMALL", tiny)
        yield


@pytest.fixture(scope="module")
def standin(root: Path, tiny_standin: None) -> Path:
    """The folder of the world's stand-in language model."""
    size = ["--users", "60", "--items", "128", "--interactions", "560"]
    assert main(["prepare", "synthetic", *size, "--root", str(root), "--standin-llm"]) == 0
    return find_standin(find_store(root, "synthetic"))
