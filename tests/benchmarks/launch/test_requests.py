"""What a suite asks of Ray, by what a cluster has; and that what is asked is there."""

import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from benchmarks.launch.cluster import Node, RayLauncher, _perform, share
from benchmarks.launch.task import Task


class Fake(ModuleType):
    """Stands in for Ray: a cluster of given machines, which keeps what it is asked for."""

    def __init__(self, *nodes: dict[str, float]) -> None:
        super().__init__("ray")
        self.__spec__ = ModuleSpec("ray", None)
        self.machines = [{"Alive": True, "Resources": node} for node in nodes]
        self.asked: list[dict[str, Any]] = []
        self.usual: dict[str, Any] = {}
        self.place: object = None

    def init(self, address: str | None, **_: object) -> None:
        """Connects."""
        self.place = address

    def nodes(self) -> list[dict[str, Any]]:
        """The machines, one of them gone."""
        return [*self.machines, {"Alive": False, "Resources": {"CPU": 99.0, "GPU": 9.0}}]

    def remote(self, **usual: object) -> Callable[[object], "Fake"]:
        """Makes a function remote."""
        self.usual = usual
        return lambda _: self

    def options(self, **asked: object) -> SimpleNamespace:
        """What one call needs."""
        self.asked.append(asked)
        return SimpleNamespace(remote=lambda *_: object())


def launcher(monkeypatch: pytest.MonkeyPatch, ray: Fake, *asked: int | None) -> RayLauncher:
    monkeypatch.setitem(sys.modules, "ray", ray)
    return RayLauncher(None, *asked)


def requests(carrier: RayLauncher, ray: Fake, *devices: int) -> list[tuple[int, int]]:
    for number in devices:
        carrier.start(Task("0", "toy", (), Path("log"), carrier.threads, number))
    # A worker that has used a GPU would see no other one.
    assert ray.usual == {"max_retries": 0, "max_calls": 1}
    return [(one["num_cpus"], one["num_gpus"]) for one in ray.asked]


@pytest.mark.parametrize(("known", "place"), [(None, "local"), ("", "local"), ("auto", "auto")])
def test_without_an_address_ray_is_started_here_whatever_was_begun_here_before(
    monkeypatch: pytest.MonkeyPatch, known: str | None, place: str
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if known is not None:
        monkeypatch.setenv("RAY_ADDRESS", known)
    ray = Fake({"CPU": 4.0})
    launcher(monkeypatch, ray)
    assert ray.place == place


def test_a_cluster_with_accelerators_runs_one_run_on_each(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = Fake({"CPU": 4.0}, {"CPU": 16.0, "GPU": 4.0}, {"CPU": 16.0, "GPU": 4.0})
    carrier = launcher(monkeypatch, ray)
    assert (carrier.jobs, carrier.threads) == (8, 4)
    assert requests(carrier, ray, 1, 2, 4) == [(4, 1), (8, 2), (16, 4)]


def test_a_cluster_of_processors_runs_one_run_a_machine_and_asks_for_no_accelerator(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ray = Fake({"CPU": 8.0}, {"CPU": 4.0}, {"memory": 1.0})
    carrier = launcher(monkeypatch, ray)
    assert (carrier.jobs, carrier.threads) == (2, 8 // 2)
    assert requests(carrier, ray, 1, 2) == [(4, 0), (8, 0)]


def test_nothing_is_asked_for_that_no_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = Fake({"CPU": 64.0}, {"CPU": 2.0, "GPU": 2.0})
    carrier = launcher(monkeypatch, ray, None, 4)
    assert (carrier.jobs, carrier.threads) == (2, 4)
    assert requests(carrier, ray, 1, 8) == [(2, 1), (2, 2)]


@pytest.mark.parametrize(
    ("jobs", "threads", "expected"),
    [(None, 2, (5, 2)), (3, None, (3, 3)), (5, None, (5, 2)), (99, None, (99, 1)), (2, 1, (2, 1))],
)
def test_what_is_given_is_taken_and_the_rest_follows(
    jobs: int | None, threads: int | None, expected: tuple[int, int]
) -> None:
    assert share([Node(8), Node(3)], jobs, threads) == expected


def test_an_empty_cluster_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = Fake()
    carrier = launcher(monkeypatch, ray)
    assert requests(carrier, ray, 1) == [(1, 0)]


def test_a_run_of_several_devices_is_a_process_beside_the_worker(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(Path.cwd())
    program = "import os, sys; print(sys.argv[1], os.environ['OMP_NUM_THREADS']); raise SystemExit(3)"
    monkeypatch.setattr("benchmarks.launch.cluster.command_of", lambda more: [sys.executable, "-c", program, *more])
    assert _perform(("--seed_everything=1",), str(tmp_path / "log"), 2, str(Path.cwd()), 2) == 3
    assert (tmp_path / "log").read_text() == "--seed_everything=1 2\n"
