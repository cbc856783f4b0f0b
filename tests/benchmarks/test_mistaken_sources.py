"""`recbench prepare` on files that are wrong: exit code 2, one message that names the place, nothing half-written."""

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from tests.fixtures import amazon, movielens, tables


def edited(path: Path, change: Callable[[list[str]], list[str]]) -> None:
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")


def wrong_separator(folder: Path) -> None:
    edited(movielens.write_100k(folder) / "u.data", lambda lines: [line.replace("\t", ";") for line in lines])


def no_number(folder: Path) -> None:
    edited(movielens.write_100k(folder) / "u.data", lambda lines: [*lines, "1\t2\t3\tyesterday"])


def duplicate_ids(folder: Path) -> None:
    edited(tables.write(folder) / "items.csv", lambda lines: [*lines, lines[1]])


def nothing(folder: Path) -> None:
    (movielens.write_100k(folder) / "u.data").write_text("")


def torn_archive(folder: Path) -> None:
    reviews, _ = amazon.write_2014(folder)
    whole = gzip.compress(gzip.decompress(reviews.read_bytes()))
    reviews.write_bytes(whole[: len(whole) // 2])


def no_users_left(folder: Path) -> None:
    edited(movielens.write_100k(folder) / "u.data", lambda lines: lines[:1])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (wrong_separator, "u.data"),
        (no_number, "yesterday"),
        (duplicate_ids, "items.csv"),
        (nothing, "u.data"),
        (torn_archive, ".json.gz"),
        (no_users_left, "5-core"),
    ],
)
def test_a_spoilt_source_ends_in_one_message(
    spoil: Callable[[Path], None], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "raw").mkdir()
    spoil(tmp_path / "raw")
    assert main(["prepare", "mine", "--source", str(tmp_path / "raw"), "--root", str(tmp_path / "stores")]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert "Traceback" not in told
    assert not list(tmp_path.glob("stores/**/*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ml-100k", "--source", "no/such/folder"], "no/such/folder is not a folder"),
        (["amazon-beuty", "--source", "."], "nearly 'amazon-beauty'"),
        (["amazon-beuty"], "Did you mean 'amazon-beauty'"),
        (["ml-100k", "--source", ".", "--recipe", "6-core"], "no known layout"),
        (["synthetic", "--recipe", "plantd"], "Did you mean 'planted'"),
    ],
)
def test_wrong_arguments_end_in_one_message(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["prepare", *arguments, "--root", str(tmp_path / "stores")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "stores").exists()


def test_data_of_a_name_of_their_own_are_no_slip(tmp_path: Path) -> None:
    movielens.write_100k(tmp_path / "raw")
    places = ["--source", str(tmp_path / "raw"), "--root", str(tmp_path / "stores")]
    assert main(["prepare", "ml-10m", *places]) == 0


def test_a_user_with_one_event_is_trained_on_and_not_tested(tmp_path: Path) -> None:
    edited(movielens.write_100k(tmp_path / "raw") / "u.data", lambda lines: [*lines, "99\t1\t5\t881250949"])
    places = ["--source", str(tmp_path / "raw"), "--root", str(tmp_path / "stores")]
    assert main(["prepare", "mine", "--recipe", "whole", *places]) == 0
    run = ["run", "--config", "ml-100k/popularity", "--data.dataset=mine", f"--data.root={tmp_path / 'stores'}"]
    assert main([*run, f"--runs={tmp_path / 'runs'}", "--trainer.enable_progress_bar=false"]) == 0
    (result,) = (tmp_path / "runs").rglob("result.json")
    assert '"test/full/overall": 12' in result.read_text()
