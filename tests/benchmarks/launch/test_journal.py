"""A journal outlives kills and full disks, and one process at a time runs a suite."""

import os
from pathlib import Path

import pytest

from benchmarks.launch.journal import Journal, only_one
from common.errors import UserError


def test_events_are_read_back_and_the_last_one_counts(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.write("started", "a", "0", attempt=1)
    journal.write("done", "a", "0", seconds=2.5)
    journal.write("started", "a", "1")
    assert [event["event"] for event in journal.read()] == ["started", "done", "started"]
    assert {run_id: event["event"] for run_id, event in journal.last().items()} == {"0": "done", "1": "started"}
    assert journal.last()["0"]["seconds"] == 2.5


def test_an_event_of_an_older_journal_without_its_run_is_passed_over(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.path.write_text('{"time": 1, "event": "failed", "run": "a"}\n')
    journal.write("done", "a", "0")
    assert [event["event"] for event in journal.read()] == ["failed", "done"]
    assert list(journal.last()) == ["0"]


def test_a_torn_line_is_passed_over_and_does_not_swallow_the_next(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.write("started", "a", "0")
    with journal.path.open("a") as stream:
        stream.write('{"time": 1, "event": "do')
    journal.write("done", "b", "1")
    assert [event["run"] for event in journal.read()] == ["a", "b"]


def test_a_full_disk_ends_no_suite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(handle: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    Journal(tmp_path).write("done", "a", "0")
    assert "No space left on device" in capsys.readouterr().err


def test_a_second_process_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    with only_one(tmp_path), pytest.raises(UserError, match="Another process runs the suite"), only_one(tmp_path):
        pass
    with only_one(tmp_path):
        pass
