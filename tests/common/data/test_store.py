"""The store: what goes in comes out, and nothing half-written stays."""

import errno
import os
import socket
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from common.data import store as module
from common.data.recipes import DATASETS
from common.data.schema import Manifest
from common.data.splits import leave_one_out
from common.data.store import STORE_VERSION, Store, StoreTables, find_store, read_store, write_store
from common.errors import DataError, UserError
from tests.fixtures.histories import random_histories, split_of, training_items

ITEMS = 12


def manifest_of(**changes: object) -> Manifest:
    base = Manifest("tiny", "5-core", 1, STORE_VERSION, "0123456789abcdef", "real", "second", 0, ITEMS, 0, 0)
    return replace(base, **changes)  # type: ignore[arg-type]  # values of several types


def tables_of(histories: list[list[int]]) -> StoreTables:
    split = leave_one_out(split_of(histories)["sequences"])
    sequences = split["sequences"]
    users = torch.repeat_interleave(torch.arange(len(histories) + 1), sequences["offsets"].diff())
    events = {"user": users, "item": sequences["items"], "timestamp": sequences["times"]}
    frame = pl.DataFrame({name: values.numpy() for name, values in events.items()})
    words = [f"{i:02d}" for i in range(1, ITEMS + 1)]
    return StoreTables(
        interactions=frame.with_columns(rating=pl.lit(1.0)).with_row_index("row"),
        items=pl.DataFrame(
            {"item": words, "title": words, "text": words, "description": "", "brand": ["b", "", "a"] * 4}
        ),
        users=pl.DataFrame({"user": [f"u{i}" for i in range(len(histories))]}),
        relations=pl.DataFrame({"head": [1, 2, 5], "relation": ["y", "x", "y"], "tail": [2, 3, 6]}),
        splits={"leave_one_out": split},
        candidates={
            ("leave_one_out", "sampled-2"): {p: torch.tensor([[1, 2]], dtype=torch.int32) for p in ("val", "test")}
        },
    )


def write(root: Path, histories: list[list[int]] | None = None, **changes: object) -> Store:
    histories = histories or random_histories(6, ITEMS, 7)
    events = sum(map(len, histories))
    described: dict[str, object] = {"leave_one_out": {}}
    changes = {"num_users": len(histories), "num_interactions": events, "splits": described} | changes
    return write_store(root, manifest_of(**changes), tables_of(histories))


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


def test_a_missing_store_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"`recbench prepare ml-1m --recipe 5-core --root {tmp_path}`"):
        find_store(tmp_path, "ml-1m", "5-core")
    with pytest.raises(UserError, match="Did you mean '5-core'"):
        find_store(tmp_path, "ml-1m", "5core")
    with pytest.raises(UserError, match="give their folder with --root"):
        find_store(tmp_path, "ml-1m", store="5-core-0123456789ab")


def test_of_several_stores_one_must_be_named(tmp_path: Path) -> None:
    first, second = write(tmp_path), write(tmp_path, fingerprint="f" * 16)
    with pytest.raises(UserError, match=f"{first.path.name}, {second.path.name}"):
        find_store(tmp_path, "tiny")
    assert find_store(tmp_path, "tiny", store=second.path.name).path == second.path
    assert find_store(tmp_path, "tiny", second.path.name).path == second.path
    assert find_store(tmp_path, "tiny", "5-core", first.path.name).manifest == first.manifest


def test_of_several_recipes_the_first_of_the_data_set_is_meant(tmp_path: Path) -> None:
    names = [recipe.name for recipe in DATASETS["ml-100k"].recipes]
    for name in reversed(names):
        write(tmp_path, dataset="ml-100k", recipe=name)
    assert find_store(tmp_path, "ml-100k").manifest.recipe == names[0]
    assert find_store(tmp_path, "ml-100k", names[1]).manifest.recipe == names[1]


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


def test_an_unknown_data_set_is_corrected(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no data set 'ml-10k'(?s:.*)'ml-100k'"):
        find_store(tmp_path, "ml-10k")


def test_a_manifest_survives_json() -> None:
    manifest = manifest_of(stages=[{"stage": "raw", "users": 3}], warnings={"a": "ß"})
    assert Manifest.from_json(manifest.to_json()) == manifest
    with pytest.raises(ValueError, match="keys"):
        Manifest.from_json("[]")
