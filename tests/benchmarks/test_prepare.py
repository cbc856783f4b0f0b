"""`recbench prepare`: one store per source and arguments, and the figures that real data must show."""

import json
import shutil
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.progress import Progress, TaskID

from benchmarks.__main__ import main
from benchmarks.prepare import STEPS, _known, fingerprint, prepare
from benchmarks.runs import read_result
from common.data import synthetic
from common.data.recipes import FIVE_CORE, Recipe
from common.data.store import Store
from common.data.stores import find_store
from common.errors import UserError
from lrd.data import RelationalDataModule
from tests.fixtures import amazon, movielens, recbole, rechorus, tables
from tests.fixtures.events import events

SIZES: dict[str, Any] = {"users": 60, "items": 150, "interactions": 500}
REAL = {
    "ml-100k": ("ml-100k", "5-core", (943, 1349, 99287)),
    "amazon-office": ("rechorus/Office", "released", (4905, 2420, 53258)),
    "amazon-beauty": ("recbole/amazon-beauty", "5-core", (22363, 12101, 198502)),
    "amazon-games": ("recbole/amazon-videogames-2018", "5-core", (50546, 16859, 452989)),
}


def test_the_same_source_and_arguments_find_the_same_store(tmp_path: Path) -> None:
    first = prepare("synthetic", root=tmp_path, **SIZES)
    written = (first.path / "manifest.json").stat().st_mtime_ns
    again = prepare("synthetic", root=tmp_path, **SIZES)
    assert again == first
    assert (first.path / "manifest.json").stat().st_mtime_ns == written
    assert find_store(tmp_path, "synthetic", "planted") == first


def test_a_store_is_the_same_bytes_wherever_it_is_made(tmp_path: Path) -> None:
    stores = [prepare("synthetic", root=tmp_path / name, **SIZES) for name in ("a", "b")]
    assert stores[0].manifest == stores[1].manifest


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"world_seed": 1}, {"rho": 0.2}, {"recipe": "null-text"}, {"users": 61}]
)
def test_another_argument_makes_another_store(tmp_path: Path, change: dict[str, Any]) -> None:
    paths = {prepare("synthetic", root=tmp_path, **SIZES | values).path for values in ({}, change)}
    assert len(paths) == 2


def test_the_owner_of_files_says_what_their_times_are(tmp_path: Path) -> None:
    frame = tables.frames()["interactions"].sort("timestamp").with_row_index("time").drop("timestamp")
    (tmp_path / "raw").mkdir()
    frame.rename({"time": "timestamp"}).write_csv(tmp_path / "raw" / "interactions.csv")
    found = prepare("mine", source=tmp_path / "raw", root=tmp_path, recipe="whole")
    assert found.manifest.time == "real"
    assert "--time ordinal" in found.manifest.warnings["times"]
    told = prepare("mine", source=tmp_path / "raw", root=tmp_path, recipe="whole", time="ordinal")
    assert (told.manifest.time, "times" in told.manifest.warnings) == ("ordinal", False)
    assert told.path != found.path
    with pytest.raises(UserError, match="published files are known"):
        prepare("ml-100k", root=tmp_path, time="imputed")


def test_a_changed_source_never_reuses_a_store(tmp_path: Path) -> None:
    folder = movielens.write_100k(tmp_path / "raw")
    first = prepare("ml-100k", source=folder, root=tmp_path, recipe="whole")
    movielens.write_100k(folder, events(seed=1))
    assert prepare("ml-100k", source=folder, root=tmp_path, recipe="whole").path != first.path


def test_every_argument_enters_the_fingerprint() -> None:
    source = synthetic.read("planted", users=20, items=70, interactions=80)
    base = fingerprint(source, "x", {"seed": 0, "recipe": asdict(FIVE_CORE)})
    found = {base, fingerprint(source, "y", {"seed": 0, "recipe": asdict(FIVE_CORE)})}
    found.add(fingerprint(replace(source, content_hash="other"), "x", {"seed": 0, "recipe": asdict(FIVE_CORE)}))
    found.add(fingerprint(replace(source, time="ordinal"), "x", {"seed": 0, "recipe": asdict(FIVE_CORE)}))
    for entry in fields(Recipe):
        found.add(fingerprint(source, "x", {"seed": 0, "recipe": asdict(FIVE_CORE) | {entry.name: "changed"}}))
    assert len(found) == 4 + len(fields(Recipe))


WRITERS = [
    *(movielens.write_100k, movielens.write_1m, movielens.write_csv, recbole.write, tables.write, rechorus.write),
    *(amazon.write_2014, amazon.write_2018, amazon.write_2023),
]


@pytest.mark.parametrize("writer", WRITERS)
def test_all_layouts_end_in_one_kind_of_store(tmp_path: Path, writer: object) -> None:
    writer(tmp_path / "raw")  # type: ignore[operator]  # `writer` is typed as object
    store = prepare("mine", source=tmp_path / "raw", root=tmp_path)
    split, catalogue = store.split(), store.catalogue()
    assert store.manifest.num_users == 12
    assert len(split["test"]["user"]) == 12
    assert len(catalogue["titles"]) == store.manifest.num_items + 1
    assert store.manifest.num_interactions == split["sequences"]["offsets"][-1] == 96


def test_relations_that_come_with_a_split_name_its_items(tmp_path: Path) -> None:
    rechorus.write(tmp_path / "raw")
    assert (
        "unknown-relation-items"
        not in prepare("amazon-office", source=tmp_path / "raw", root=tmp_path).manifest.warnings
    )
    meta = tmp_path / "raw" / "item_meta.csv"
    meta.write_text(meta.read_text().replace("[9, ", "[99999, "))
    warnings = prepare("amazon-office", source=tmp_path / "raw", root=tmp_path).manifest.warnings
    assert "'99999'" in warnings["unknown-relation-items"]


def test_every_step_of_a_preparation_moves_its_bar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[str, float]] = []
    update = Progress.update

    def note(self: Progress, task: TaskID, **changes: Any) -> None:  # noqa: ANN401
        if "description" in changes:
            shown.append((changes["description"], changes["completed"]))
        update(self, task, **changes)

    monkeypatch.setattr(Progress, "update", note)
    prepare("synthetic", root=tmp_path, **SIZES)
    assert shown == [(step, place) for place, step in enumerate(STEPS)]


def test_json_is_the_manifest_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = prepare("synthetic", root=tmp_path, json=True, **SIZES)
    assert json.loads(capsys.readouterr().out) == asdict(store.manifest)


def test_arguments_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"users: only for synthetic data(?s:.*)ml-100k"):
        prepare("ml-100k", source=tmp_path, users=3)
    with pytest.raises(UserError, match="have no source"):
        prepare("synthetic", source=tmp_path)
    with pytest.raises(UserError, match="Did you mean 'ml-100k'"):
        prepare("ml-100")


def test_a_world_keeps_its_truth_and_its_dials(tmp_path: Path) -> None:
    store = prepare("synthetic", root=tmp_path, rho=0.2, tau=0.5, kappa=0.7, **SIZES)
    assert len(store.truth()["item_function"]) == SIZES["items"] + 1
    world = store.manifest.arguments["world"]
    assert (world["rho"], world["tau"], world["kappa"]) == (0.2, 0.5, 0.7)


def test_vectors_that_are_cached_now_are_those_that_models_read(tmp_path: Path) -> None:
    folder = tables.write(tmp_path / "raw")
    lines = (folder / "items.csv").read_text().splitlines()
    # An item of which nothing but its id is known.
    name = lines[1].split(",")[0]
    (folder / "items.csv").write_text("\n".join([lines[0], name + "," * lines[0].count(","), *lines[2:]]) + "\n")
    np.save(tmp_path / "v.npy", np.ones((15, 4), dtype=np.float32))
    encoder = f"file:{tmp_path / 'v.npy'}"
    store = prepare("mine", source=folder, root=tmp_path / "stores", recipe="whole", encoder=encoder)
    cached = list(store.text_cache.iterdir())
    data = RelationalDataModule("mine", str(tmp_path / "stores"), text_encoder=encoder)
    assert data.catalogue["text_vectors"].shape == (16, 4)
    assert list(store.text_cache.iterdir()) == cached


def test_what_is_said_of_leakage_is_the_share_of_the_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = prepare("synthetic", root=tmp_path, **SIZES)
    split = store.split()
    times, offsets = split["sequences"]["times"], split["sequences"]["offsets"]
    latest = max(int(times[a:b].max()) for a, b in zip(offsets[:-1], split["train_end"], strict=True) if b > a)
    share = float((times[split["test"]["position"]] < latest).double().mean())
    assert f"for {share:.1%} of the test targets, the training data contain later events" in " ".join(
        capsys.readouterr().err.split()
    )


@pytest.fixture(scope="module")
def real(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Store]:
    root = tmp_path_factory.mktemp("stores")
    return {key: prepare(key, source=real_data / folder, root=root) for key, (folder, _, _) in REAL.items()}


def test_vectors_are_added_to_a_store_whose_source_is_gone(tmp_path: Path) -> None:
    folder, root = tables.write(tmp_path / "raw"), tmp_path / "stores"
    store = prepare("mine", source=folder, root=root, recipe="whole")
    np.save(tmp_path / "v.npy", np.ones((store.manifest.num_items, 4), dtype=np.float32))
    shutil.rmtree(folder)
    encoder = f"file:{tmp_path / 'v.npy'}"
    assert prepare("mine", root=root, encoder=encoder) == store
    assert list(store.text_cache.iterdir())
    with pytest.raises(UserError):
        prepare("mine", root=root, encoder=encoder, users=5)
    # Another seed is another store, and that one needs the source.
    with pytest.raises(UserError, match="mine"):
        prepare("mine", root=root, encoder=encoder, seed=1)


def test_models_are_added_to_the_store_of_the_recipe_that_is_named(tmp_path: Path) -> None:
    folder, root = tables.write(tmp_path / "raw"), tmp_path / "stores"
    longer = prepare("mine", source=folder, root=root, recipe="5-core-repeats")
    assert _known(root, "mine", "5-core-repeats", 0) == longer
    assert _known(root, "mine", "5-core", 0) is None


def test_own_data_without_source_are_told_to_name_it(tmp_path: Path) -> None:
    folder, root = tables.write(tmp_path / "raw"), tmp_path / "stores"
    stores = [prepare("mine", source=folder, root=root, recipe=recipe).path.name for recipe in ("5-core", "whole")]
    for encoder in (None, "minilm"):
        with pytest.raises(UserError, match=r"data of your own(?s:.*)--source") as error:
            prepare("mine", root=root, encoder=encoder)
        assert all(name in str(error.value) for name in stores)
    with pytest.raises(UserError, match=r"no data set 'mind'(?s:.*)--source"):
        prepare("mind", root=root)


def test_times_are_not_ignored_where_a_model_is_added(tmp_path: Path) -> None:
    prepare("mine", source=tables.write(tmp_path / "raw"), root=tmp_path / "stores", recipe="whole")
    with pytest.raises(UserError, match="--time"):
        prepare("mine", root=tmp_path / "stores", encoder="minilm", time="ordinal")


@pytest.mark.real_data
@pytest.mark.parametrize("key", REAL)
def test_real_data_come_out_in_the_known_sizes(real: dict[str, Store], key: str) -> None:
    manifest = real[key].manifest
    assert (manifest.recipe, (manifest.num_users, manifest.num_items, manifest.num_interactions)) == REAL[key][1:]
    assert not [name for name in manifest.warnings if name.startswith("printed")]


@pytest.mark.real_data
def test_office_has_its_instances_triplets_and_links(real: dict[str, Store]) -> None:
    manifest = real["amazon-office"].manifest
    assert manifest.splits["leave_one_out"]["train_instances"] == 38543
    assert manifest.triplets == {"complement": 38071, "substitute": 18345, "category": 2351, "brand": 1939}
    assert manifest.num_triplets == 60706
    rates = {name: round(rate, 4) for name, rate in manifest.graph["link_rates"]["test"].items()}
    relations = {"complement": 0.0386, "substitute": 0.0205, "any_relation": 0.0466}
    assert rates == relations | {"category": 0.1203, "brand": 0.049, "any": 0.1567}
    assert manifest.graph["post_hoc"]
    assert manifest.time_resolution == "day"


@pytest.mark.real_data
def test_office_ties_tell_the_target_and_that_is_said(real: dict[str, Store]) -> None:
    manifest = real["amazon-office"].manifest
    assert manifest.ties["id_ascending"] == 1.0
    assert "tied-order" in manifest.warnings
    assert round(manifest.ties["tied_test_targets"] * 4905) == 1163
    beauty = real["amazon-beauty"].manifest
    assert (beauty.ties["id_ascending_in_source"], beauty.warnings) == (1.0, {})


@pytest.mark.real_data
def test_office_keeps_the_shipped_negatives_with_their_duplicates(real: dict[str, Store]) -> None:
    store = real["amazon-office"]
    for phase, repeated in (("val", 4307), ("test", 4301)):
        shipped = store.candidates("leave_one_out", "sampled-99", phase).numpy()  # type: ignore[arg-type]  # `phase` comes from a loop
        ordered = np.sort(shipped, axis=1)
        assert (ordered[:, 1:] == ordered[:, :-1]).any(1).sum() == repeated
        assert shipped.max() <= 2412


@pytest.mark.real_data
def test_a_constant_and_an_item_id_score_as_measured_elsewhere(real: dict[str, Store]) -> None:
    store = real["amazon-office"]
    split = store.split()
    target = split["sequences"]["items"][split["test"]["position"]]
    candidates = store.candidates("leave_one_out", "sampled-99", "test")
    higher = (candidates > target[:, None]).sum(1)
    equal = (candidates == target[:, None]).sum(1)
    hits = [((k - higher) / (equal + 1)).clamp(0, 1).mean().item() for k in (5, 10)]
    assert [round(hit, 4) for hit in hits] == [0.2697, 0.3825]


@pytest.mark.real_data
def test_ml_100k_shows_its_raw_stage(real: dict[str, Store]) -> None:
    raw, *_, last = real["ml-100k"].manifest.stages
    assert (raw["users"], raw["items"], raw["interactions"]) == (943, 1682, 100000)
    assert (last["stage"], last["items"]) == ("5-core", 1349)
    split = real["ml-100k"].split()
    assert torch.equal(split["val"]["position"] + 1, split["test"]["position"])


@pytest.mark.real_data
def test_lrd_texts_of_movielens_differ_by_the_shift_of_genres(real_data: Path, tmp_path: Path) -> None:
    texts = {}
    for recipe in ("lrd", "lrd-released"):
        items = prepare("ml-100k", source=real_data / "ml-100k", root=tmp_path, recipe=recipe).items()
        texts[recipe] = items.filter(items["item"] == "1")["text"].item()
    assert texts["lrd"].endswith("Animation Children's Comedy")
    assert texts["lrd-released"].endswith("Children's Comedy Crime")


@pytest.mark.real_data
@pytest.mark.parametrize("key", REAL)
@pytest.mark.parametrize("method", ["feature_floor", "sasrec"])
def test_shipped_experiments_run_on_real_data(real: dict[str, Store], tmp_path: Path, key: str, method: str) -> None:
    root = real[key].path.parents[1]
    quick = ["--trainer.limit_train_batches=1", "--trainer.max_epochs=1", "--data.test_users=50"]
    quick += [
        "--data.batch_size=8",
        "--trainer.limit_val_batches=1",
        "--trainer.enable_progress_bar=false",
        "--trainer.accelerator=cpu",
    ]
    assert main(["run", "--config", f"{key}/{method}", f"--data.root={root}", f"--runs={tmp_path}", *quick]) == 0
    (path,) = tmp_path.rglob("result.json")
    metrics = read_result(path.parent).metrics
    assert 0 <= metrics["test/full/overall/ndcg@10"] <= 1


@pytest.mark.real_data
def test_popularity_of_the_store_has_the_known_figures(real: dict[str, Store], tmp_path: Path) -> None:
    root = real["amazon-office"].path.parents[1]
    run = ["run", "--config", "amazon-office/popularity", f"--data.root={root}", f"--runs={tmp_path}"]
    assert main([*run, "--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]) == 0
    (path,) = tmp_path.rglob("result.json")
    metrics = read_result(path.parent).metrics
    names = ("hr@5", "hr@10", "ndcg@5", "ndcg@10")
    found = [round(metrics[f"test/sampled-99/overall/{name}"], 4) for name in names]
    assert found == [0.0627, 0.1511, 0.0349, 0.0630]
