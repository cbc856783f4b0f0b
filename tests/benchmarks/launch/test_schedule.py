"""Runs start when what they need is done and a device is free; failures are tried once more and stop only heirs."""

import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.experiments import read_yaml
from benchmarks.launch.journal import Journal, only_one
from benchmarks.launch.local import LocalLauncher
from benchmarks.launch.plan import SuiteRun
from benchmarks.launch.schedule import MISTAKE, Attempt, Schedule
from benchmarks.launch.task import KILLED, Task
from benchmarks.launch.view import progress, status_lines
from benchmarks.runs import LOCK, locked
from common.errors import UserError


def entry(runs: Path, name: str, *after: SuiteRun, devices: int = 1) -> SuiteRun:
    return SuiteRun("toy", name, 1, (f"--name={name}",), runs / name, 0, tuple(e.folder for e in after), devices)


class Fake:
    """A launcher whose runs end with the codes they are told: the one begun first, or ``last``, ends first."""

    def __init__(self, runs: Path, codes: dict[str, list[int]] | None = None, last: bool = False) -> None:
        self.runs, self.codes, self.last = runs, codes or {}, last
        self.running: list[Task] = []
        self.started: list[str] = []
        self.most = 0
        self.resumed: list[bool] = []

    def start(self, task: Task) -> None:
        self.running.append(task)
        self.started.append(task.arguments[1].removeprefix("--name="))
        self.resumed.append("--ckpt_path=last" in task.arguments)
        self.most = max(self.most, sum(task.devices for task in self.running))

    def wait(self, seconds: float) -> list[tuple[Task, int]]:
        task = self.running.pop(-1 if self.last else 0)
        name = task.arguments[1].removeprefix("--name=")
        code = self.codes[name].pop(0) if self.codes.get(name) else 0
        folder = self.runs / name
        folder.mkdir(exist_ok=True)
        (folder / ("last.ckpt" if code else "result.json")).touch()
        return [(task, code)]

    def close(self) -> None:
        assert self.running == []


def run(entries: list[SuiteRun], launcher: Fake, folder: Path, jobs: int = 2) -> list[str]:
    folder.mkdir(exist_ok=True)
    failed = Schedule(entries, launcher, folder, jobs).run(lambda: None)
    return [entry.method for entry in failed]


def test_heirs_wait_for_what_they_are_made_from(tmp_path: Path) -> None:
    first = entry(tmp_path, "sasrec")
    second = entry(tmp_path, "stage1", first)
    third = entry(tmp_path, "stage2", first, second)
    launcher = Fake(tmp_path)
    assert run([third, second, first, entry(tmp_path, "free")], launcher, tmp_path / "s") == []
    assert [name for name in launcher.started if name != "free"] == ["sasrec", "stage1", "stage2"]
    assert launcher.most == 2


@pytest.mark.parametrize("last", [False, True])
def test_rows_of_one_label_in_two_tables_are_two_runs(tmp_path: Path, last: bool) -> None:
    overall, few = (
        replace(entry(tmp_path, name), method="sasrec", table=name.partition("-")[2]) for name in ("all", "some-few")
    )
    heir = entry(tmp_path, "heir", few)
    launcher = Fake(tmp_path, {"all": [MISTAKE], "some-few": [KILLED]}, last)
    assert run([overall, few, heir], launcher, tmp_path / "s") == ["sasrec"]
    assert sorted(launcher.started) == ["all", "heir", "some-few", "some-few"]
    assert launcher.most == 2
    assert {run_id: event["event"] for run_id, event in Journal(tmp_path / "s").last().items()} == {
        "all": "failed", "some-few": "done", "heir": "done"
    }  # fmt: skip
    first, second, _ = status_lines([overall, few, heir], tmp_path / "s")
    assert first.startswith("failed     toy/sasrec seed 1 ")
    assert second.startswith("done       toy/sasrec (few) seed 1 ")


def test_a_lost_run_is_resumed_and_a_second_loss_ends_it(tmp_path: Path) -> None:
    launcher = Fake(tmp_path, {"once": [KILLED], "twice": [KILLED, KILLED]})
    entries = [entry(tmp_path, "once"), entry(tmp_path, "twice"), entry(tmp_path, "fine")]
    assert run(entries, launcher, tmp_path / "s", jobs=1) == ["twice"]
    assert launcher.started == ["once", "once", "twice", "twice", "fine"]
    assert launcher.resumed == [False, True, False, True, False]


def test_heirs_of_a_failed_run_are_blocked_and_others_go_on(tmp_path: Path) -> None:
    first = entry(tmp_path, "sasrec")
    heir = entry(tmp_path, "stage1", first)
    grandchild = entry(tmp_path, "stage2", heir)
    launcher = Fake(tmp_path, {"sasrec": [1, 1]})
    failed = run([first, heir, grandchild, entry(tmp_path, "free")], launcher, tmp_path / "s")
    assert failed == ["sasrec", "stage1", "stage2"]
    assert "free" in launcher.started
    lines = status_lines([first, heir, grandchild], tmp_path / "s")
    assert [line.split()[0] for line in lines] == ["failed", "blocked", "blocked"]


def test_a_mistake_is_made_once_but_a_bad_checkpoint_is_given_up(tmp_path: Path) -> None:
    stale = entry(tmp_path, "stale")
    stale.folder.mkdir()
    (stale.folder / "last.ckpt").touch()
    launcher = Fake(tmp_path, {"wrong": [MISTAKE], "stale": [MISTAKE]})
    assert run([entry(tmp_path, "wrong"), stale], launcher, tmp_path / "s", jobs=1) == ["wrong"]
    assert launcher.started == ["wrong", "stale", "stale"]
    assert launcher.resumed == [False, True, False]


@pytest.mark.parametrize("hinders", [None, OSError("unreadable"), MemoryError()])
def test_a_mistake_of_a_resumed_run_leaves_it_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hinders: Exception | None
) -> None:
    def load(*_: object, **__: object) -> dict[str, int]:
        if hinders:
            raise hinders
        return {"epoch": 3}

    monkeypatch.setattr("torch.load", load)
    begun = entry(tmp_path, "begun")
    begun.folder.mkdir()
    (begun.folder / "last.ckpt").touch()
    launcher = Fake(tmp_path, {"begun": [MISTAKE, 0]})
    assert run([begun], launcher, tmp_path / "s") == ["begun"]
    assert launcher.resumed == [True]
    # The next call of the suite goes on from it.
    assert run([begun], launcher, tmp_path / "s") == []
    assert launcher.resumed == [True, True]


@pytest.mark.parametrize("finished", [False, True])
def test_a_run_that_another_suite_took_just_before_is_waited_for(tmp_path: Path, finished: bool) -> None:
    shared = entry(tmp_path, "shared")
    with ExitStack() as held:

        class Taken(Fake):
            """Finds that the run is taken, which the other suite finishes before or after that is noticed."""

            def wait(self, seconds: float) -> list[tuple[Task, int]]:
                shared.folder.mkdir(exist_ok=True)
                held.enter_context(locked(shared.folder / LOCK, UserError("busy", "Wait.")))
                if finished:
                    tick()
                return [(self.running.pop(), MISTAKE)]

        def tick() -> None:
            if shared.folder.exists():
                (shared.folder / "result.json").touch()
                held.close()

        launcher = Taken(tmp_path)
        assert Schedule([shared], launcher, tmp_path, 1).run(tick) == []
    assert launcher.started == ["shared"]


def test_a_full_disk_ends_the_suite_before_all_that_is_left_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher = Fake(tmp_path, {"b": [1]})
    free = iter([0, 1 << 30])
    monkeypatch.setattr("benchmarks.launch.schedule.disk_usage", lambda path: SimpleNamespace(free=next(free)))
    entries = [entry(tmp_path, name) for name in "abc"]
    with pytest.raises(UserError, match="is full, so toy/b seed 1 failed"):
        run(entries, launcher, tmp_path / "s", jobs=1)
    assert launcher.started == ["a", "b"]
    # With room again, the same call goes on where it was.
    assert run(entries, launcher, tmp_path / "s", jobs=1) == []
    assert launcher.started == ["a", "b", "b", "c"]


def test_a_run_without_room_for_its_log_ends_with_its_own_code(tmp_path: Path) -> None:
    launcher = LocalLauncher()
    launcher.start(Task("0", "toy", ("--no_such_option=1",), Path("/dev/full")))
    ended: list[tuple[Task, int]] = []
    while not ended:
        ended = launcher.wait(60)
    assert [code for _, code in ended] == [1]


def test_a_run_of_many_devices_has_them_to_itself(tmp_path: Path) -> None:
    launcher = Fake(tmp_path)
    entries = [entry(tmp_path, "a"), entry(tmp_path, "wide", devices=2), entry(tmp_path, "b")]
    assert run(entries, launcher, tmp_path / "s", jobs=2) == []
    assert launcher.most == 2


@pytest.mark.parametrize("speed_first", [False, True])
def test_a_measurement_has_the_machine_to_itself(tmp_path: Path, speed_first: bool) -> None:
    beside: list[int] = []

    class Watched(Fake):
        def start(self, task: Task) -> None:
            super().start(task)
            if any("--name=speed" in one.arguments for one in self.running):
                beside.append(len(self.running))
                assert next(one for one in self.running if "--name=speed" in one.arguments).threads == 0

    runs = [entry(tmp_path, "a"), entry(tmp_path, "b"), entry(tmp_path, "c")]
    speed = replace(entry(tmp_path, "speed"), command="speed")
    (tmp_path / "s").mkdir()
    order = [speed, *runs] if speed_first else [*runs, speed]
    assert Schedule(order, Watched(tmp_path), tmp_path / "s", jobs=2, threads=1).run(lambda: None) == []
    assert beside == [1]


def test_the_journal_tells_what_happened(tmp_path: Path) -> None:
    run([entry(tmp_path, "once")], Fake(tmp_path, {"once": [KILLED]}), tmp_path / "s")
    events = Journal(tmp_path / "s").read()
    assert [(e["event"], e.get("code")) for e in events] == [
        ("started", None), ("retry", KILLED), ("started", None), ("done", 0),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ("max_epochs: 10, max_steps: -1", ("2/10", "7 min")),
        ("max_epochs: -1, max_steps: 400", ("2", "5 min")),
        ("max_epochs: 4, max_steps: 400", ("2/4", "2 min")),
        ("max_epochs: null", ("2", "")),
    ],
)
def test_progress_is_what_the_run_has_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: str, expected: tuple[str, str]
) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "config.yaml").write_text(f"early_stopping: {{monitor: val/mrr}}\ntrainer: {{{limits}}}\n")
    (folder / "metrics.csv").write_text("epoch,step,val/mrr\n0,49,0.1\n1,99,0.25\n1,120,\n")
    monkeypatch.setattr("benchmarks.launch.view.time", SimpleNamespace(monotonic=lambda: 1100.0))
    epoch, metric, left = progress(Attempt(entry(tmp_path, "a"), 1, 1000.0, False))
    assert metric == "val/mrr 0.2500"
    assert (epoch, left) == expected


def test_progress_is_unknown_while_a_run_begins_its_files_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attempt = Attempt(entry(tmp_path, "a"), 2, 1000.0, False)
    folder = attempt.entry.folder
    folder.mkdir()
    (folder / "config.yaml").write_text("early_stopping: {monitor: val/mrr}\ntrainer: {max_epochs: 10}\n")
    (folder / "metrics.csv").write_text("epoch,step,val/mrr\n0,49,0.1\n1,99,2e-")
    assert progress(attempt)[1] == "val/mrr 0.1000"

    def begins(path: Path) -> object:
        (folder / "metrics.csv").unlink(missing_ok=True)
        return read_yaml(path)

    monkeypatch.setattr("benchmarks.launch.view.read_yaml", begins)
    assert [progress(attempt)[1] for _ in range(2)] == ["val/mrr 0.1000", ""]


def test_a_run_under_way_is_running_as_long_as_its_suite_is(tmp_path: Path) -> None:
    one, two, three = (entry(tmp_path, name) for name in ("killed", "lost", "now"))
    journal = Journal(tmp_path)
    journal.write("started", one.label, one.run_id)
    time.sleep(0.05)

    def states() -> list[str]:
        return [line[:10].strip() for line in status_lines([one, two, three], tmp_path)]

    with only_one(tmp_path):
        for other in (two, three):
            journal.write("started", other.label, other.run_id)
        journal.write("retry", two.label, two.run_id, code=KILLED)
        # The first was begun by a suite that is no more.
        assert states() == ["to do", "to do", "running"]
    assert states() == ["to do", "to do", "to do"]


def test_a_run_of_another_suite_is_waited_for_and_not_repeated(tmp_path: Path) -> None:
    shared = entry(tmp_path, "shared")
    heir = entry(tmp_path, "heir", shared)
    shared.folder.mkdir()
    launcher, waited = Fake(tmp_path), 0

    def tick() -> None:
        nonlocal waited
        waited += 1
        if waited == 2:
            (shared.folder / "result.json").touch()
            held.close()

    with ExitStack() as held:
        held.enter_context(locked(shared.folder / LOCK, UserError("busy", "Wait.")))
        assert Schedule([shared, heir], launcher, tmp_path, 1).run(tick) == []
    assert launcher.started == ["heir"]
