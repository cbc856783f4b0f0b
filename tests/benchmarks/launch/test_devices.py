"""Accelerators are handed out once, and those of a run of several are its own."""

from types import SimpleNamespace
from typing import cast

import pytest
import yaml

from benchmarks.configuration import RunCLI
from benchmarks.launch.devices import VISIBLE, Devices, only_visible
from benchmarks.launch.plan import devices_of


@pytest.fixture(autouse=True)
def unnamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VISIBLE, raising=False)


def test_a_run_of_several_waits_until_so_many_are_free_and_has_them_to_itself() -> None:
    devices = Devices(3)
    first = devices.take(1)
    assert first == ["0"]
    assert devices.take(3) is None
    wide = devices.take(2)
    assert wide == ["1", "2"]
    assert devices.take(2) is None
    devices.give_back(first)
    devices.give_back(wide)
    assert devices.take(3) == ["0", "1", "2"]
    assert devices.take(1) is None


def test_runs_of_one_share_where_there_are_more_of_them() -> None:
    devices = Devices(2)
    assert [devices.take(1) for _ in range(3)] == [["0"], ["1"], ["0"]]
    devices.give_back(["0"])
    assert devices.take(2) is None
    devices.give_back(["0"])
    devices.give_back(["1"])
    assert devices.take(8) == ["0", "1"]


def test_names_are_those_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VISIBLE, "3,5,7")
    assert only_visible(Devices(3).take(2) or []) == {VISIBLE: "3,5"}


def test_without_accelerators_nothing_is_handed_out() -> None:
    devices = Devices(0)
    assert [devices.take(1), devices.take(4)] == [[], []]
    assert only_visible([]) == {}


@pytest.mark.parametrize(
    ("devices", "accelerator", "expected"),
    [("1", "gpu", 1), ("3", "gpu", 3), ("-1", "gpu", 4), ("-1", "auto", 4), ("-1", "cpu", 1), ("[0, 2]", "gpu", 2)],
)
def test_a_plan_counts_the_devices_of_a_run(
    monkeypatch: pytest.MonkeyPatch, devices: str, accelerator: str, expected: int
) -> None:
    monkeypatch.setattr("benchmarks.launch.plan.accelerators", lambda: 4)
    trainer = SimpleNamespace(devices=yaml.safe_load(devices), accelerator=accelerator)
    cli = cast(RunCLI, SimpleNamespace(config=SimpleNamespace(trainer=trainer)))
    assert devices_of(cli) == expected
