"""A packed run is believed as far as its ranks go, and marked until it was run elsewhere."""

import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from benchmarks.__main__ import main
from benchmarks.leaderboard.command import gather, tables_of
from benchmarks.leaderboard.submission import MANIFEST, _hash, unpack
from benchmarks.results import slice_metrics, write_ranks
from benchmarks.runs import RANKS, hash_of, read_result
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


def two_protocols(run: Path) -> Path:
    """The run, with the cases of its protocol under another one as well."""
    result, table = read_result(run), pl.read_parquet(run / RANKS)
    table = pl.concat([table, table.with_columns(protocol=pl.lit("sampled-99"))])
    write_ranks(table, run / RANKS)
    metrics, cases = slice_metrics(table, {})
    fields = {"protocol": "sampled-99"}
    protocols = result.protocols | {"sampled-99": {"id": hash_of(fields), "fields": fields}}
    replace(result, protocols=protocols, metrics=metrics, cases=cases).write(run)
    return run


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


def test_a_run_under_another_protocol_id_replays_nothing(tmp_path: Path) -> None:
    path = packed(tmp_path, 0.30)
    made_run(tmp_path / "here", "model", 0.60, seed=2, seconds={"train": 9.0}, fields={"masking": "none"})
    runs = gather([tmp_path / "here", path])
    assert sorted(run.result.marks for run in runs) == [[], ["self-reported"]]
    assert len(tables_of(runs)) == 2


def test_a_run_and_its_evaluation_under_another_protocol_replay_what_they_share(tmp_path: Path) -> None:
    path = packed(tmp_path, 0.30)
    here = read_result(made_run(tmp_path / "here", "model", 0.31, seed=2, seconds={"train": 9.0}))
    again: dict[str, Any] = {"run_id": "0a1b", "predecessors": {"checkpoint": here.run_id}, "checkpoint": "somewhere"}
    again |= {"protocol": "sampled-99", "fields": {"protocol": "sampled-99"}}
    made_run(tmp_path / "here", "model", 0.9, seed=2, seconds={"train": 9.0}, **again)
    marks = {run.result.run_id: run.result.marks for run in gather([tmp_path / "here", path])}
    assert marks == {here.run_id: [f"replayed: {unpack(path).result.run_id} by {here.run_id}"], "0a1b": []}


def test_a_protocol_that_nobody_tested_here_stays_reported(tmp_path: Path) -> None:
    there = made_run(tmp_path / "there", "model", 0.3, seconds={"train": 5.0})
    path = tmp_path / "both.zip"
    assert main(["submit", str(two_protocols(there)), "--out", str(path)]) == 0
    made_run(tmp_path / "here", "model", 0.31, seed=2, seconds={"train": 9.0})
    found = {tuple(run.result.protocols): run.result.marks for run in gather([tmp_path / "here", path])}
    assert found["sampled-99",] == ["self-reported"]
    assert found["full",][0].startswith("replayed: ")


def test_an_evaluation_of_the_packed_run_is_no_replay(tmp_path: Path) -> None:
    path = packed(tmp_path)
    again: dict[str, Any] = {"run_id": "0a1b", "checkpoint": "there"}
    again |= {"predecessors": {"checkpoint": unpack(path).result.run_id}}
    made_run(tmp_path / "here", "model", 0.3, seconds={"train": 5.0, "test": 2.0}, **again)
    (run,) = gather([tmp_path / "here", path])
    assert run.result.marks == []


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
