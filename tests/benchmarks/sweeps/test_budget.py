"""Processes that share a search neither repeat each other's draws nor spend more than the budget."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
import yaml

from benchmarks.sweeps import study as studies
from benchmarks.sweeps.budget import Budget, presence, reserve, spent
from benchmarks.sweeps.space import Space, read_space
from benchmarks.sweeps.study import open_study, search
from benchmarks.sweeps.trial import Report

SPACE = {
    "command": ["recbench", "run", "--config=synthetic/sasrec", "${args}"],
    "metric": {"name": "val/ndcg@10", "goal": "maximize"},
}
RANGES = {"model.lr": {"min": 1e-4, "max": 1e-1}, "model.dropout": {"min": 0.0, "max": 0.9}}
GRID = {"model.lr": {"values": [0.1, 0.2, 0.3]}, "model.layers": {"values": [[8], [8, 4]]}}


def space_of(folder: Path, method: str) -> Space:
    path = folder / "toy.yaml"
    path.write_text(yaml.safe_dump(SPACE | {"method": method, "parameters": GRID if method == "grid" else RANGES}))
    return read_space(path)


def trained(arguments: list[str], metric: str, goal: str, report: Report) -> tuple[float, bool]:
    """Stands in for a trial that takes a while."""
    time.sleep(0.05)
    options = dict(argument[2:].split("=", 1) for argument in arguments)
    return 1 - float(options["model.lr"]), False


def worker(folder: Path, trials: int, barrier: object) -> None:
    """Searches as one of several processes that begin together."""
    space = read_space(folder / "toy.yaml")
    study = open_study(space, folder)
    barrier.wait()  # type: ignore[attr-defined]  # a barrier, which has no public type
    search(space, study, folder, Budget(trials), [])


def victim(folder: Path) -> None:
    """Begins a trial and is killed."""
    space = read_space(folder / "toy.yaml")
    with presence(folder) as owner:
        assert reserve(open_study(space, folder), folder, Budget(9), owner) is not None
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(("method", "budget", "expected"), [("random", 9, 9), ("bayes", 9, 9), ("grid", 20, 6)])
def test_two_processes_share_a_budget(
    method: str, budget: int, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(studies, "run_trial", trained)
    space = space_of(tmp_path, method)
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(2)
    processes = [context.Process(target=worker, args=(tmp_path, budget, barrier)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    trials = open_study(space, tmp_path).trials
    assert [process.exitcode for process in processes] == [0, 0]
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * expected
    assert len({str(sorted(trial.params.items())) for trial in trials}) == expected
    assert len({trial.user_attrs["process"] for trial in trials}) == 2
    assert not list((tmp_path / "processes").iterdir())


def drawn(folder: Path, method: str, seed: int, *budgets: int) -> list[dict[str, object]]:
    folder.mkdir()
    space = space_of(folder, method)
    for budget in budgets:
        search(space, open_study(space, folder, seed), folder, Budget(budget), [])
    return [trial.params for trial in open_study(space, folder).trials]


@pytest.mark.parametrize("method", ["random", "bayes", "grid"])
def test_a_seed_gives_the_same_points_with_or_without_a_break(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(studies, "run_trial", trained)
    # Bayes: more trials than TPE draws before it models them.
    whole = drawn(tmp_path / "whole", method, 5, 14)
    assert drawn(tmp_path / "broken", method, 5, 4, 14) == whole
    assert (drawn(tmp_path / "other", method, 6, 14) != whole) is (method != "grid")


def test_a_killed_trial_is_run_by_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(studies, "run_trial", trained)
    space = space_of(tmp_path, "grid")
    open_study(space, tmp_path)
    process = multiprocessing.get_context("fork").Process(target=victim, args=(tmp_path,))
    process.start()
    process.join()
    study = open_study(space, tmp_path)
    assert process.exitcode == -signal.SIGKILL
    assert [trial.state.name for trial in study.trials] == ["RUNNING"]
    search(space, study, tmp_path, Budget(20), [])
    complete = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    assert len({str(sorted(trial.params.items())) for trial in complete}) == len(complete) == spent(study).trials == 6


def test_a_kill_before_a_trial_has_an_owner_ends_no_search(tmp_path: Path) -> None:
    study = open_study(space_of(tmp_path, "random"), tmp_path)
    study.ask()
    with presence(tmp_path) as owner:
        assert reserve(study, tmp_path, Budget(1), owner) is not None
        assert reserve(study, tmp_path, Budget(1), owner) is None


def test_what_another_process_runs_is_reserved(tmp_path: Path) -> None:
    space = space_of(tmp_path, "random")
    study = open_study(space, tmp_path)
    with presence(tmp_path) as first, presence(tmp_path) as second:
        assert reserve(study, tmp_path, Budget(1), first) is not None
        assert reserve(study, tmp_path, Budget(1), second) is None
    with presence(tmp_path) as third:
        assert reserve(study, tmp_path, Budget(1), third) is not None


def test_the_point_of_a_killed_trial_is_drawn_before_those_that_others_run(tmp_path: Path) -> None:
    space = space_of(tmp_path, "grid")
    study = open_study(space, tmp_path)
    with presence(tmp_path) as gone:
        lost = reserve(study, tmp_path, Budget(6), gone)
    with presence(tmp_path) as owner:
        running = [reserve(study, tmp_path, Budget(6), owner) for _ in range(6)]
    assert lost is not None
    points = [[parameter.suggest(trial) for parameter in space.parameters] for trial in running if trial is not None]
    assert len({str(point) for point in points}) == 6, "no point twice while one is left"
    assert [parameter.suggest(lost) for parameter in space.parameters] in points
