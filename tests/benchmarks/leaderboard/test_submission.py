"""A packed run is believed as far as its ranks go, and marked until it was run elsewhere."""

import errno
import json
import re
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
from benchmarks.standins import STANDIN
from common.errors import UserError
from tests.benchmarks.leaderboard.made_files import answered, packed, true_run

Files = dict[str, bytes]


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
    fields = {"data": "f", "protocol": "sampled-99", "cases": 200}
    protocols = result.protocols | {"sampled-99": {"id": hash_of(fields), "fields": fields}}
    replace(result, protocols=protocols, metrics=metrics, cases=cases).write(run)
    return run


def better(files: Files) -> None:
    result = json.loads(files["result.json"])
    result["metrics"]["test/full/overall/hr@10"] += 0.1
    files["result.json"] = json.dumps(result).encode()


def sliced(files: Files) -> None:
    result = json.loads(files["result.json"])
    result["metrics"]["test/full/cold_items/hr@10"] = 0.99
    files["result.json"] = json.dumps(result).encode()


def other_protocol(files: Files) -> None:
    result = json.loads(files["result.json"])
    result["protocols"]["full"]["fields"]["split"] = "global_temporal"
    files["result.json"] = json.dumps(result).encode()


def changed(**values: object) -> Callable[[Files], None]:
    """A change of the result that leaves all else in order."""

    def change(files: Files) -> None:
        files["result.json"] = json.dumps(json.loads(files["result.json"]) | values).encode()

    return change


def other_configuration(files: Files) -> None:
    files["config.yaml"] = files["config.yaml"].replace(b"init_args: {}", b"init_args: {width: 512}")


def other_data(files: Files) -> None:
    result = json.loads(files["result.json"])
    result["protocols"]["full"]["fields"]["data"] = "g"
    result["protocols"]["full"]["id"] = hash_of(result["protocols"]["full"]["fields"])
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
        (better, True, "its ranks give test/full/overall/hr@10 0.300000, but its result says 0.400000"),
        (other_protocol, True, "the id of protocol 'full' does not match its fields"),
        (other_data, True, "its data of full is g"),
        (other_configuration, True, "its run id is"),
        (changed(run_id="0a1b"), True, "its run id is 0a1b"),
        (changed(config_id="0a1b"), True, "its configuration id is 0a1b"),
        (changed(predecessors={"sasrec": "0a1b"}), True, "its run id is"),
        (changed(lineage={"sasrec": "0a1b"}), True, "its configuration id is"),
        (changed(seed=7), True, "its seed is 7"),
        (changed(dataset="ml-1m"), True, "its data set is ml-1m"),
        (changed(method="tisasrec"), True, "its method is tisasrec"),
        (changed(method="model | 0.99"), True, r"'model \| 0.99' is no name of a method"),
        (changed(marks=["fine", "a\n| 1 | best |"]), True, "its result has control characters in"),
        (sliced, True, "hr@10 .* under full on cold_items, but its result says 0.99"),
        (changed(protocols={}), True, "was tested under no protocol"),
        (changed(protocols=[]), True, r"cannot be read: protocols is \[\], expected a mapping"),
        (changed(metrics=None), True, "cannot be read"),
        (changed(seconds="x"), True, "cannot be read"),
        (changed(seconds={"train": "x"}), True, "seconds holds something that is not a number"),
        (lambda files: files.update({"config.yaml": b"a: [b"}), True, "has content that no run would write"),
        (lambda files: files.pop("config.yaml"), True, "files are missing"),
        (lambda files: files.pop("ranks.parquet"), True, "files are missing"),
        (lambda files: files.pop(MANIFEST), False, "is not a file of `recbench submit`"),
    ],
)
def test_a_tampered_file_is_refused(
    change: Callable[[Files], None], rehash: bool, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tampered(packed(tmp_path), change, rehash)
    assert main(["leaderboard", str(path)]) == 2
    assert re.search(message, capsys.readouterr().err)


def test_marks_that_only_this_machine_gives_are_taken_from_no_file(tmp_path: Path) -> None:
    claims = ["texts by minilm", "replayed: 0a1b by 2c3d", "self-reported", "not replayed: x", "stand-in LLM"]
    path = packed(tmp_path, marks=claims)
    assert unpack(path).result.marks == ["texts by minilm", "self-reported"]


@pytest.mark.parametrize(
    ("name", "message"), [("opt-6.7b", "use of a stand-in language model is False"), ("standin-3f", "")]
)
def test_a_stand_in_cannot_pass_for_a_language_model(
    name: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = {STANDIN: "standin-3f"}
    path = packed(tmp_path, model={"llm": STANDIN}, predecessors=own, language_model=own[STANDIN])
    path = tampered(path, changed(language_model=name), rehash=True)
    assert main(["leaderboard", str(path)]) == (2 if message else 0)
    out, err = capsys.readouterr()
    assert message in err
    assert message or "stand-in LLM" in out


def test_ids_of_real_runs_and_of_their_evaluations_are_those_of_their_configurations(
    floor: Path, finished: Path, tmp_path: Path
) -> None:
    assert main(["evaluate", str(floor), "--protocol", "sampled-99", "--runs", str(tmp_path)]) == 0
    (evaluation,) = (tmp_path / "synthetic" / "floor").iterdir()
    for number, run in enumerate([floor, finished, evaluation]):
        path = tmp_path / f"{number}.zip"
        assert main(["submit", str(run), "--out", str(path)]) == 0
        assert unpack(path).result.run_id == run.name


def test_written_answers_of_a_packed_run_are_recomputed_where_they_are_stored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = "test/full/overall/generated/legacy_hr@1"
    path = tmp_path / "x.zip"
    assert main(["submit", str(answered(true_run(tmp_path / "there"), [0, 1] * 100)), "--out", str(path)]) == 0
    assert unpack(path).result.metrics[key] == 0.5
    for stored, code in ((True, 2), (False, 0)):
        run = true_run(tmp_path / f"{stored}")
        if stored:
            answered(run, [0, 1] * 100)
        result = read_result(run)
        replace(result, metrics=result.metrics | {key: 0.9}).write(run)
        assert main(["submit", str(run), "--out", str(tmp_path / f"{stored}.zip")]) == code
    assert f"its ranks give {key} 0.500000, but its result says 0.900000" in capsys.readouterr().err


def test_any_other_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.zip").write_text("not a zip")
    with pytest.raises(UserError, match="is not a file of"):
        unpack(tmp_path / "notes.zip")


def test_a_file_that_was_damaged_on_its_way_is_refused(tmp_path: Path) -> None:
    path = packed(tmp_path)
    content = bytearray(path.read_bytes())
    start = content.index(b"ranks.parquet") + 40
    content[start : start + 8] = b"\xff" * 8
    path.write_bytes(content)
    with pytest.raises(UserError, match="is not a file of"):
        unpack(path)


def test_a_run_that_lands_inside_the_interval_replays_it(tmp_path: Path) -> None:
    path = packed(tmp_path, 0.30)
    true_run(tmp_path / "here", 0.31, seed=2, seconds={"train": 9.0})
    (run,) = gather([tmp_path / "here", path])
    (mark,) = run.result.marks
    assert mark == f"replayed: {unpack(path).result.run_id} by {run.result.run_id}"


def test_a_run_that_misses_the_interval_does_not(tmp_path: Path) -> None:
    path = packed(tmp_path, 0.30)
    true_run(tmp_path / "here", 0.60, seed=2, seconds={"train": 9.0})
    (run,) = gather([tmp_path / "here", path])
    assert run.result.marks[0].startswith("not replayed: ")


def test_a_run_under_another_protocol_id_replays_nothing(tmp_path: Path) -> None:
    path = packed(tmp_path, 0.30)
    true_run(tmp_path / "here", 0.60, seed=2, seconds={"train": 9.0}, fields={"masking": "none"})
    runs = gather([tmp_path / "here", path])
    assert sorted(run.result.marks for run in runs) == [[], ["self-reported"]]
    assert len(tables_of(runs)) == 2


def test_a_run_and_its_evaluation_under_another_protocol_replay_what_they_share(tmp_path: Path) -> None:
    path = packed(tmp_path, 0.30)
    here = read_result(true_run(tmp_path / "here", 0.31, seed=2, seconds={"train": 9.0}))
    again: dict[str, Any] = {"run_id": "0a1b", "predecessors": {"checkpoint": here.run_id}, "checkpoint": "somewhere"}
    again |= {"protocol": "sampled-99", "fields": {"protocol": "sampled-99"}}
    true_run(tmp_path / "here", 0.9, seed=2, seconds={"train": 9.0}, **again)
    marks = {run.result.run_id: run.result.marks for run in gather([tmp_path / "here", path])}
    assert marks == {here.run_id: [f"replayed: {unpack(path).result.run_id} by {here.run_id}"], "0a1b": []}


def test_a_protocol_that_nobody_tested_here_stays_reported(tmp_path: Path) -> None:
    there = true_run(tmp_path / "there", 0.3, seconds={"train": 5.0})
    path = tmp_path / "both.zip"
    assert main(["submit", str(two_protocols(there)), "--out", str(path)]) == 0
    true_run(tmp_path / "here", 0.31, seed=2, seconds={"train": 9.0})
    found = {tuple(run.result.protocols): run.result.marks for run in gather([tmp_path / "here", path])}
    assert found["sampled-99",] == ["self-reported"]
    assert found["full",][0].startswith("replayed: ")


def test_an_evaluation_of_the_packed_run_is_no_replay(tmp_path: Path) -> None:
    path = packed(tmp_path)
    again: dict[str, Any] = {"run_id": "0a1b", "checkpoint": "there"}
    again |= {"predecessors": {"checkpoint": unpack(path).result.run_id}}
    true_run(tmp_path / "here", 0.3, seconds={"train": 5.0, "test": 2.0}, **again)
    (run,) = gather([tmp_path / "here", path])
    assert run.result.marks == []


def test_a_copy_of_the_run_itself_replays_nothing(tmp_path: Path) -> None:
    path = packed(tmp_path)
    (run,) = gather([tmp_path / "there-0", path])
    assert run.result.marks == []


def test_a_run_that_contradicts_itself_is_not_packed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = true_run(tmp_path, 0.3)
    result = json.loads((folder / "result.json").read_text())
    result["metrics"]["test/full/overall/mrr"] = 0.9
    (folder / "result.json").write_text(json.dumps(result))
    assert main(["submit", str(folder), "--out", str(tmp_path / "x.zip")]) == 2
    assert not (tmp_path / "x.zip").exists()
    assert "its ranks give" in capsys.readouterr().err


def column_dropped(run: Path) -> None:
    write_ranks(pl.read_parquet(run / RANKS).drop("equal"), run / RANKS)


def result_changed(**values: object) -> Callable[[Path], None]:
    """A change of the result of a run folder."""

    def change(run: Path) -> None:
        path = run / "result.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return change


@pytest.mark.parametrize(
    ("change", "message", "cure"),
    [
        (lambda run: (run / "config.yaml").write_text("a: [b"), "has content that no run would write", "--force"),
        (lambda run: (run / "config.yaml").write_text("- a"), "its config.yaml is no mapping", "--force"),
        (lambda run: (run / "config.yaml").write_text("model: {class_path: A}\nseed_everything: 0"), "data", "--force"),
        (lambda run: (run / "config.yaml").write_bytes(b"\xff\xfe\x00"), "no run would write", "--force"),
        (lambda run: (run / "config.yaml").unlink(), "has no config.yaml", "--force"),
        (lambda run: (run / RANKS).unlink(), "ranks.parquet is missing", "--force"),
        (column_dropped, "equal", "--force"),
        (result_changed(marks=None), "cannot be read: marks is None, expected a list", "Delete it"),
        (result_changed(training=None), "cannot be read: training is None, expected a mapping", "Delete it"),
    ],
)
def test_a_damaged_run_is_not_packed(
    change: Callable[[Path], None], message: str, cure: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = true_run(tmp_path)
    change(folder)
    assert main(["submit", str(folder), "--out", str(tmp_path / "x.zip")]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert cure in err
    assert [path.name for path in tmp_path.iterdir()] == ["toy"]


def test_a_full_disk_leaves_no_part_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = true_run(tmp_path)

    def full(path: Path, data: bytes) -> int:
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    assert main(["submit", str(folder), "--out", str(tmp_path / "x.zip")]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["toy"]
