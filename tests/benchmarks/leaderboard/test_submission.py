"""A packed run is believed as far as its ranks go, and marked until it was run elsewhere."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.leaderboard.command import gather
from benchmarks.leaderboard.submission import MANIFEST, _hash, unpack
from common.errors import UserError
from tests.benchmarks.made_results import made_run

Files = dict[str, bytes]


def packed(folder: Path, rate: float = 0.3, seed: int = 0, seconds: float = 5.0) -> Path:
    run = made_run(folder / f"there-{seed}", "model", rate, seed, seconds={"train": seconds, "test": 1.0})
    path = folder / f"{seed}.recbench.zip"
    assert main(["submit", str(run), "--out", str(path)]) == 0
    return path


def tampered(path: Path, change: Callable[[Files], None], rehash: bool = False) -> Path:
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    change(files)
    if rehash:
        manifest = json.loads(files[MANIFEST])
        manifest["files"] = {name: _hash(data) for name, data in files.items() if name != MANIFEST}
        files[MANIFEST] = json.dumps(manifest).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def better(files: Files) -> None:
    result = json.loads(files["result.json"])
    result["metrics"]["test/full/overall/hr@10"] += 0.1
    files["result.json"] = json.dumps(result).encode()


def other_protocol(files: Files) -> None:
    result = json.loads(files["result.json"])
    result["protocols"]["full"]["fields"]["split"] = "global_temporal"
    files["result.json"] = json.dumps(result).encode()


def test_a_packed_run_is_a_self_reported_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = packed(tmp_path)
    with zipfile.ZipFile(path) as archive:
        assert not [name for name in archive.namelist() if name.endswith(".ckpt")]
    capsys.readouterr()
    assert main(["leaderboard", str(path), "--format", "json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["marks"] == ["self-reported"]
    assert row["metrics"]["hr@10"]["mean"] == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("change", "rehash", "message"),
    [
        (better, False, "was changed after it was packed: result.json"),
        (better, True, "its ranks give test/full/overall/hr@10 0.300000, its result states 0.400000"),
        (other_protocol, True, "the id of protocol 'full' is not that of its fields"),
        (lambda files: files.pop("ranks.parquet"), True, "files are missing"),
        (lambda files: files.pop(MANIFEST), False, "is no file of `recbench submit`"),
    ],
)
def test_a_tampered_file_is_refused(
    change: Callable[[Files], None], rehash: bool, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tampered(packed(tmp_path), change, rehash)
    assert main(["leaderboard", str(path)]) == 2
    assert message in capsys.readouterr().err


def test_any_other_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.zip").write_text("not a zip")
    with pytest.raises(UserError, match="is no file of"):
        unpack(tmp_path / "notes.zip")


def test_a_run_that_lands_inside_the_interval_replays_it(tmp_path: Path) -> None:
    path = packed(tmp_path, 0.30)
    made_run(tmp_path / "here", "model", 0.31, seed=2, seconds={"train": 9.0})
    (run,) = gather([tmp_path / "here", path])
    (mark,) = run.result.marks
    assert mark == f"replayed: {unpack(path).result.run_id} by {run.result.run_id}"


def test_a_run_that_misses_the_interval_does_not(tmp_path: Path) -> None:
    path = packed(tmp_path, 0.30)
    made_run(tmp_path / "here", "model", 0.60, seed=2, seconds={"train": 9.0})
    (run,) = gather([tmp_path / "here", path])
    assert run.result.marks[0].startswith("not replayed: ")


def test_a_copy_of_the_run_itself_replays_nothing(tmp_path: Path) -> None:
    path = packed(tmp_path)
    (run,) = gather([tmp_path / "there-0", path])
    assert run.result.marks == []


def test_a_run_that_contradicts_itself_is_not_packed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = made_run(tmp_path, "model", 0.3)
    result = json.loads((folder / "result.json").read_text())
    result["metrics"]["test/full/overall/mrr"] = 0.9
    (folder / "result.json").write_text(json.dumps(result))
    assert main(["submit", str(folder), "--out", str(tmp_path / "x.zip")]) == 2
    assert not (tmp_path / "x.zip").exists()
    assert "its ranks give" in capsys.readouterr().err
