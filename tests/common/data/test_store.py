"""The store: what goes in comes out, and nothing half-written stays."""

import errno
import os
import socket
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from common.data import store as module
from common.data.schema import Manifest
from common.data.store import STORE_VERSION, read_store
from common.data.stores import find_store
from common.errors import DataError, UserError
from tests.common.data.made_stores import ITEMS, manifest_of, tables_of, write
from tests.fixtures.histories import random_histories, training_items


@given(st.integers(0, 1000))
def test_a_store_gives_back_what_was_written(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    histories = random_histories(5, ITEMS, 6, seed)
    store = write(tmp_path_factory.mktemp("root"), histories)
    expected, split = tables_of(histories).splits["leave_one_out"], store.split()
    assert torch.equal(split["train_end"], expected["train_end"])
    for key in ("user", "position"):
        assert torch.equal(split["val"][key], expected["val"][key])
        assert torch.equal(split["test"][key], expected["test"][key])
    for key in ("offsets", "items", "times"):
        assert torch.equal(split["sequences"][key].long(), expected["sequences"][key].long())  # type: ignore[literal-required]  # `key` comes from a loop


def test_the_catalogue_counts_training_events_only(tmp_path: Path) -> None:
    store = write(tmp_path)
    catalogue, trained = store.catalogue(), training_items(store.split())
    everything = [item for items in trained.values() for item in items]
    assert catalogue["train_count"].tolist() == [everything.count(item) for item in range(ITEMS + 1)]
    offsets = catalogue["train"]["offsets"].tolist()
    rows = {u: catalogue["train"]["items"][offsets[u] : offsets[u + 1]].tolist() for u in range(1, 7)}
    assert rows == trained


def test_the_catalogue_knows_relations_and_attributes_by_id(tmp_path: Path) -> None:
    catalogue = write(tmp_path).catalogue()
    assert {name: edges.tolist() for name, edges in catalogue["relations"].items()} == {
        "x": [[2, 3]],
        "y": [[1, 2], [5, 6]],
    }
    assert catalogue["attributes"]["brand"].tolist() == [0, *([2, 0, 1] * 4)]
    assert (catalogue["titles"][0], catalogue["titles"][ITEMS]) == ("", "12")


def test_every_file_is_hashed_and_readable_by_others(tmp_path: Path) -> None:
    store = write(tmp_path)
    names = {path.name for path in store.path.iterdir()}
    assert set(store.manifest.hashes) == names - {"manifest.json"}
    assert len({path.stat().st_mode for path in store.path.iterdir()}) == 1
    assert store.candidates_hash("leave_one_out", "sampled-2") in store.manifest.hashes.values()
    assert store.candidates("leave_one_out", "sampled-2", "test").tolist() == [[1, 2]]


def test_missing_parts_name_what_is_there(tmp_path: Path) -> None:
    store = write(tmp_path, warnings={"no-candidates-leave_one_out-sampled-99": "Too few items."})
    with pytest.raises(UserError, match="no split 'global_temporal'"):
        store.split("global_temporal")
    with pytest.raises(UserError, match=r"(?s)Too few items\..*sampled-2"):
        store.candidates("leave_one_out", "sampled-99", "test")


def test_another_version_and_a_broken_manifest_are_refused(tmp_path: Path) -> None:
    store = write(tmp_path, store_version=STORE_VERSION + 1)
    with pytest.raises(
        DataError, match=rf"version {STORE_VERSION + 1}; this is {STORE_VERSION}(?s:.*)recbench prepare tiny"
    ):
        read_store(store.path)
    (store.path / "manifest.json").write_text('{"dataset": "tiny"}')
    with pytest.raises(DataError, match="is not a manifest"):
        find_store(tmp_path, "tiny")


@pytest.mark.parametrize("name", ["split-leave_one_out.safetensors", "interactions.parquet", "items.parquet"])
def test_a_file_that_is_not_the_one_that_was_written_is_named(tmp_path: Path, name: str) -> None:
    store = write(tmp_path)
    store.catalogue()
    (store.path / name).write_bytes(b"nothing")
    with pytest.raises(DataError, match=rf"{name} is not what the store's manifest says"):
        store.catalogue()
    (store.path / name).unlink()
    with pytest.raises(DataError, match=rf"{name} cannot be read: .*\n.*prepare it again"):
        store.catalogue()


def test_other_candidates_are_not_taken_for_those_of_the_protocol(tmp_path: Path) -> None:
    store = write(tmp_path)
    path = store.path / "candidates-leave_one_out-sampled-2.safetensors"
    candidates = load_file(path)
    save_file(candidates | {"test": candidates["test"] + 1}, path)
    with pytest.raises(DataError, match="has changed"):
        store.candidates("leave_one_out", "sampled-2", "test")


@pytest.mark.parametrize(("code", "message"), [(errno.ENOSPC, "No space"), (errno.EACCES, "is not writable")])
def test_a_failed_write_is_a_clear_error_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, message: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(module, "save_file", fail)
    with pytest.raises(UserError, match=message):
        write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_place_of_the_root_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "root").write_text("a file")
    with pytest.raises(UserError, match="is not writable"):
        write(tmp_path / "root")


def test_leftovers_of_the_dead_go_and_those_of_the_living_stay(tmp_path: Path) -> None:
    owners = {"dead": f"{socket.gethostname()}-{2**22 + 1}", "living": f"{socket.gethostname()}-{os.getppid()}"}
    owners["elsewhere"] = f"another-machine-{2**22 + 1}"
    folders = {name: tmp_path / "tiny" / f".5-core-x.tmp-{owner}" for name, owner in owners.items()}
    for folder in folders.values():
        folder.mkdir(parents=True)
    store = write(tmp_path)
    assert [name for name, folder in folders.items() if folder.exists()] == ["living", "elsewhere"]
    assert find_store(tmp_path, "tiny").path == store.path


def test_the_first_of_two_writers_wins(tmp_path: Path) -> None:
    first = write(tmp_path)
    written = (first.path / "manifest.json").stat().st_mtime_ns
    assert write(tmp_path) == first
    assert (first.path / "manifest.json").stat().st_mtime_ns == written
    (first.path / "manifest.json").unlink()
    assert write(tmp_path).manifest == first.manifest


def test_repeats_are_those_of_the_last_stage() -> None:
    stages = [{"repeated_pairs": 4}, {"repeated_pairs": 0}]
    assert not manifest_of(stages=stages).has_repeats
    assert manifest_of(stages=stages[:1]).has_repeats


def test_a_manifest_survives_json() -> None:
    manifest = manifest_of(stages=[{"stage": "raw", "users": 3}], warnings={"a": "ß"})
    assert Manifest.from_json(manifest.to_json()) == manifest
    with pytest.raises(ValueError, match="keys"):
        Manifest.from_json("[]")
