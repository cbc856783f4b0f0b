"""A run's identity depends on what is computed, not on where; its files are there whole or not at all."""

import errno
import fcntl
import json
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.arguments import with_config_files
from benchmarks.configuration import Plan, RunCLI
from benchmarks.experiments import EXPERIMENTS
from benchmarks.prepare import prepare
from benchmarks.runs import config_id, find_runs, is_locked, locked, read_result, run_id, write_atomically
from benchmarks.secrets import without_secrets
from common.errors import UserError
from tests.benchmarks.conftest import options
from tests.benchmarks.made_results import made_result, made_run
from tests.fixtures import tables


def config(**changes: object) -> dict[str, Any]:
    data = {"root": "data", "max_history": 50, "num_workers": 0, "test_protocols": ["full"]}
    values: dict[str, Any] = {"seed_everything": 0, "data": {"init_args": data}, "trainer": {"max_epochs": 3}}
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = values
        for parent in parents:
            place = place[parent]
        place[last] = value
    return values


@pytest.mark.parametrize(
    "change", [{"data__init_args__root": "/mnt"}, {"data__init_args__num_workers": 4}, {"trainer__accelerator": "gpu"}]
)
def test_place_and_machine_do_not_matter(change: dict[str, object]) -> None:
    assert run_id(config(**change), "f", {}) == run_id(config(), "f", {})


@pytest.mark.parametrize(
    "change", [{"seed_everything": 1}, {"data__init_args__max_history": 20}, {"trainer__max_epochs": 4}]
)
def test_what_is_computed_matters(change: dict[str, object]) -> None:
    assert run_id(config(**change), "f", {}) != run_id(config(), "f", {})


def test_data_and_predecessors_matter() -> None:
    names = {run_id(config(), "f", {}), run_id(config(), "g", {}), run_id(config(), "f", {"stage1": "abc"})}
    assert len(names) == 3


def plan_of(*arguments: str) -> Plan:
    return RunCLI(["--config", *arguments]).plan


def test_what_a_vector_file_holds_matters_and_not_what_was_held_before(root: Path, tmp_path: Path) -> None:
    path, given = tmp_path / "v.npy", options(root, tmp_path)
    given = ["synthetic/kda_lrd", *given, f"--data.text_encoder=file:{path}"]
    path.write_bytes(b"one")
    before = plan_of(*given)
    assert plan_of(*given).run_id == before.run_id
    path.write_bytes(b"two")
    after = plan_of(*given)
    assert after.run_id != before.run_id
    assert after.config_id != before.config_id
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(before.config))
    assert plan_of(str(tmp_path / "config.yaml"), f"--runs={tmp_path}").run_id == after.run_id


def test_no_vector_file_leaves_ids_as_they_are(root: Path, tmp_path: Path) -> None:
    plan = plan_of("synthetic/kda_lrd", *options(root, tmp_path))
    assert not [key for key in plan.config if "vector" in key]
    with pytest.raises(UserError, match="does not exist"):
        plan_of("synthetic/kda_lrd", *options(root, tmp_path), f"--data.text_encoder=file:{tmp_path / 'absent.npy'}")


def test_a_mistyped_name_of_own_data_is_corrected(tmp_path: Path) -> None:
    prepare("mine", source=tables.write(tmp_path / "raw"), root=tmp_path, recipe="whole")
    with pytest.raises(UserError, match="Did you mean 'mine'"):
        plan_of("synthetic/popularity", "--data.dataset=mind", f"--data.root={tmp_path}")


def test_seeds_and_test_protocols_share_a_configuration() -> None:
    same = config(seed_everything=5, data__init_args__test_protocols=["sampled-99"])
    assert config_id(same, "f", {}) == config_id(config(), "f", {})
    assert config_id(config(), "f", {"sasrec": "a"}) != config_id(config(), "f", {"sasrec": "b"})
    assert config_id(config(trainer__max_epochs=4), "f", {}) != config_id(config(), "f", {})
    assert config_id(config(), "f", {"standin": "a"}) != config_id(config(), "f", {})


def test_results_come_back_as_they_were_written(tmp_path: Path) -> None:
    result = made_result("a", 0.5)
    result.write(tmp_path)
    assert read_result(tmp_path) == result


@pytest.mark.parametrize("text", ["{", "[]", '{"version": 99}', '{"version": 1, "method": "a"}'])
def test_a_damaged_result_names_its_file(text: str, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(UserError, match=r"result\.json"):
        read_result(tmp_path)


def test_an_unfinished_run_says_how_to_go_on(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a run folder"):
        read_result(tmp_path)
    (tmp_path / "config.yaml").write_text("")
    with pytest.raises(UserError, match=r"was not finished: .*\n.*--ckpt_path last"):
        read_result(tmp_path)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_atomically(path, "old")
    with pytest.raises(TypeError):
        write_atomically(path, 3)  # type: ignore[arg-type]  # the mistake under test
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_shipped_names_may_follow_one_config_option() -> None:
    paths = [str(EXPERIMENTS / name) for name in ("synthetic/sasrec.yaml", "synthetic/ncf.yaml")]
    expected = ["--config", paths[0], "--config", paths[1], "--force"]
    assert with_config_files(["--config", "synthetic/sasrec", "synthetic/ncf", "--force"]) == expected
    assert with_config_files(["--config=synthetic/sasrec", "-c", "synthetic/ncf", "--force"]) == expected


def test_no_secret_is_stored() -> None:
    values = {"logger": {"api_key": "x", "project": "p"}, "hub_token": "y", "num_tokens": 3}
    assert without_secrets(values) == {"logger": {"api_key": None, "project": "p"}, "hub_token": None, "num_tokens": 3}
    callbacks = [{"class_path": "Notify", "init_args": {"api_key": "x"}}, "RichProgressBar"]
    cleared = [{"class_path": "Notify", "init_args": {"api_key": None}}, "RichProgressBar"]
    assert without_secrets({"trainer": {"callbacks": callbacks}}) == {"trainer": {"callbacks": cleared}}


@pytest.mark.parametrize(
    "name",
    ["secret_key", "aws_access_key_id", "apiKey", "API_KEY", "passwd", "password", "accessToken", "client-secret"],
)
def test_a_secret_is_known_by_its_name(name: str) -> None:
    assert without_secrets({"service": {name: "x"}}) == {"service": {name: None}}


@pytest.mark.parametrize("name", ["max_tokens", "key", "primary_key", "secretary", "keyword_only"])
def test_no_other_name_is_taken_for_a_secret(name: str) -> None:
    assert without_secrets({name: 3}) == {name: 3}


def test_trials_of_a_sweep_are_no_rows_unless_they_are_named(tmp_path: Path) -> None:
    run = made_run(tmp_path, "sasrec", 0.3)
    trials = tmp_path / "sweeps" / "toy" / "trials"
    trial = made_run(trials, "sasrec", 0.4)
    assert list(find_runs([tmp_path])) == [run]
    assert list(find_runs([trials])) == [trial]


def test_runs_on_another_disk_are_found_through_a_link_and_each_once(tmp_path: Path) -> None:
    runs, disk = tmp_path / "runs", tmp_path / "disk"
    here, there = made_run(runs, "sasrec", 0.3), made_run(disk, "sasrec", 0.4, dataset="large")
    (runs / "large").symlink_to(disk / "large")
    (runs / "twice").symlink_to(runs / "toy")
    (disk / "large" / "above").symlink_to(tmp_path)
    assert list(find_runs([runs])) == sorted([here, runs / there.relative_to(disk)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"protocols": []}, r"protocols is \[\], expected a mapping"),
        ({"protocols": {"full": None}}, "protocols holds something that is not a mapping"),
        ({"protocols": {"full": {"id": 3, "fields": {}}}}, "the protocol full lacks its id or fields"),
        ({"training": None}, "training is None, expected a mapping"),
        ({"marks": None}, "marks is None, expected a list"),
        ({"marks": [3]}, "marks holds something that is not a text"),
        ({"data": []}, r"data is \[\], expected a mapping"),
        ({"seed": "one"}, "seed is 'one', expected a number"),
        ({"checkpoint": 3}, "checkpoint is 3, expected"),
        ({"predecessors": {"sasrec": 3}}, "predecessors holds something that is not a text"),
        ({"weather": "fine"}, "a result has no weather"),
        ({"version": 99}, r"version 99, not 1.\nUpdate recbench"),
        ({"version": 0}, r"version 0, not 1.\nDelete it"),
    ],
)
def test_a_malformed_result_is_told_with_its_field(tmp_path: Path, change: dict[str, object], message: str) -> None:
    made_result("sasrec", 0.1).write(tmp_path)
    path = tmp_path / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=f"result.json cannot be read: {message}"):
        read_result(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"), [("[]", "it is not a mapping"), ('{"version": 1}', "it has no cases and")]
)
def test_a_file_that_is_no_result_is_told(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(UserError, match=message):
        read_result(tmp_path)


def test_a_lock_that_is_only_looked_at_can_be_taken(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with path.open("a") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        threading.Timer(0.2, fcntl.flock, (looking, fcntl.LOCK_UN)).start()
        with locked(path, UserError("busy", "Wait.")):
            assert is_locked(path)
            with pytest.raises(UserError, match="busy"), locked(path, UserError("busy", "Wait.")):
                pass


def test_a_lock_that_is_removed_while_it_is_looked_at_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "is_file", lambda path: True)
    assert not is_locked(tmp_path / ".lock")


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_not_taken_for_a_busy_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def flock(*_: object) -> None:
        raise OSError(number, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", flock)
    busy = UserError("busy", "Wait.")
    with pytest.raises(UserError, match="has no locks") as caught, locked(tmp_path / ".lock", busy):
        pass
    assert "-o flock" in caught.value.cure
    assert not is_locked(tmp_path / ".lock"), "nobody could hold it"
