"""Batches of instances beside triplets."""

from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import grimp
import lightning as L
import pytest
import torch

from common.data.store import Store
from common.errors import UserError
from common.types import PAD, Split
from lrd.backbones.kda import KDA
from lrd.data import RelationalDataModule
from lrd.discovery import LatentRelationDiscovery
from lrd.module import LRD
from lrd.types import RelationalBatch
from tests.lrd.conftest import WIDTH, Make


def test_data_know_no_model() -> None:
    graph = grimp.build_graph("lrd", "common", cache_dir=None)
    models = ("lrd.module", "lrd.discovery", "lrd.backbones.rcf", "common.models.base")
    known = [pair for pair in product(("lrd.data", "lrd.triplets"), models) if graph.chain_exists(*pair)]
    assert known == []


def epoch_of(module: RelationalDataModule, epoch: int = 0) -> list[RelationalBatch]:
    loader = module.train_dataloader()
    for part in getattr(loader, "flattened", [loader]):
        part.sampler.set_epoch(epoch)
    batches = (batch[0] if isinstance(batch, tuple) else batch for batch in loader)
    return [cast(RelationalBatch, module.on_before_batch_transfer(batch, 0)) for batch in batches]


def same(first: Any, second: Any) -> bool:  # noqa: ANN401 (nested batches)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    return torch.equal(first, second) if isinstance(first, torch.Tensor) else bool(first == second)


def model_for(module: RelationalDataModule, **arguments: Any) -> LRD:  # noqa: ANN401 (forwarded)
    sizes = {name: getattr(module, name) for name in ("num_users", "num_items", "num_entities", "num_relations")}
    backbone, discovery = KDA(width=8, rounds=1, heads=2), LatentRelationDiscovery(2)
    return LRD(**sizes, text_width=module.text_width, backbone=backbone, discovery=discovery, **arguments)


def quiet_trainer(epochs: int) -> L.Trainer:
    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return L.Trainer(accelerator="cpu", max_epochs=epochs, enable_model_summary=False, **quiet)


def fit(module: RelationalDataModule) -> L.Trainer:
    trainer = quiet_trainer(1)
    trainer.fit(model_for(module), module)
    return trainer


def test_sizes_are_those_of_graph_and_vectors(make: Make) -> None:
    module = make()
    known = module.catalogue
    values = sum(int(ids.max()) + 1 for ids in known["attributes"].values())
    assert module.num_entities == 128 + 1 + values
    assert module.num_relations == 1 + len(known["relations"]) + len(known["attributes"])
    assert module.text_width == WIDTH
    assert known["text_vectors"].shape == (129, WIDTH)


@pytest.mark.parametrize("changes", [{"vectors": "random"}, {"vectors": "permuted"}, {"graph": "kg-rewired"}])
def test_each_seed_draws_its_own_controls(changes: dict[str, str], make: Make) -> None:
    first, again, other = (make(seed=seed, **changes).catalogue for seed in (1, 1, 2))
    drawn = {"relations"} if "graph" in changes else {"text_vectors", "text_source"}
    for key in ("text_vectors", "relations", "text_source"):
        assert same(first[key], again[key])
        assert same(first[key], other[key]) == (key not in drawn)


def test_vectors_of_texts_have_no_seed(make: Make) -> None:
    first, other = make(seed=1).catalogue, make(seed=2).catalogue
    assert same(first["text_vectors"], other["text_vectors"])
    assert first["text_source"] == other["text_source"]


def test_shuffling_held_out_items_changes_no_training_tensor(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def fitted() -> list[Any]:
        module = make(graph="kg-train")
        model, known = model_for(module), module.catalogue
        model.attach(known)
        curves = cast(KDA, model.backbone).curves
        tables = {name: known[name] for name in ("train", "train_count", "relations", "attributes")}
        return [tables, module.graph.triplets, curves.real, curves.imaginary, model.weight_kge, *epoch_of(module)]

    torch.manual_seed(0)
    before = fitted()
    divided, held_out = Store.split, 0

    def shuffled(store: Store, name: str = "leave_one_out") -> Split:
        nonlocal held_out
        split = divided(store, name)
        sequences, place = split["sequences"], torch.cat([split["val"]["position"], split["test"]["position"]]).long()
        items = sequences["items"].clone()
        items[place] = items[place].flip(0)
        held_out = int((items != sequences["items"]).sum())
        return {**split, "sequences": {**sequences, "items": items}}

    monkeypatch.setattr(Store, "split", shuffled)
    torch.manual_seed(0)
    assert all(map(same, before, fitted()))
    assert held_out > 50


def test_a_test_under_another_scenario_keeps_relations_and_counts_of_the_training(make: Make) -> None:
    trained = make(scenario="few-shot-30", graph="kg-train").catalogue
    module = make(graph="kg-train")
    assert module.num_relations == len(module.graph.relations)
    assert not same(module.catalogue["relations"], trained["relations"])
    module.keep_training("few-shot-30")
    assert same(module.catalogue["relations"], trained["relations"])
    assert torch.equal(module.catalogue["train_count"], trained["train_count"])
    assert same(module.graph.triplets, make(scenario="few-shot-30", graph="kg-train").graph.triplets)


def test_a_test_of_who_was_trained_on_is_refused_whatever_was_asked_before(make: Make) -> None:
    module = make(scenario="cold-users")
    assert module.num_entities
    with pytest.raises(UserError, match="has learnt from"):
        module.keep_training("overall")


def test_a_batch_has_instances_negative_histories_and_as_many_triplets(make: Make) -> None:
    module = make()
    batches = epoch_of(module)
    assert len(batches) == -(-sum(len(batch["targets"]) for batch in batches) // 32)
    for batch in batches:
        rows = len(batch["targets"])
        assert batch["negatives"].shape == (rows, 1, 1)
        assert batch["negative_history"].shape == batch["history"].shape == (rows, module.max_history)
        assert batch["triplets"]["head"].shape == batch["triplets"]["tail"].shape == (rows, 2)


def test_negative_histories_keep_the_rule_of_the_negatives(make: Make) -> None:
    module = make(negatives="complete")
    sequences = module.events["sequences"]
    for batch in epoch_of(module):
        assert torch.equal(batch["negative_history"] == PAD, batch["history"] == PAD)
        for user, drawn in zip(batch["user_id"].tolist(), batch["negative_history"].tolist(), strict=True):
            own = sequences["items"][sequences["offsets"][user] : sequences["offsets"][user + 1]].tolist()
            assert not set(own) & set(drawn)


@pytest.mark.parametrize("size", [7, 500])
def test_triplets_may_have_a_batch_size_of_their_own(size: int, make: Make) -> None:
    batches = epoch_of(make(triplet_batch_size=size))
    assert len(batches) == len(epoch_of(make()))
    assert {len(batch["triplets"]["head"]) for batch in batches} == {size}


def test_epochs_differ_and_repeat_by_seed_whatever_the_workers(make: Make) -> None:
    first, again, workers = epoch_of(make(), 1), epoch_of(make(), 1), epoch_of(make(num_workers=2), 1)
    assert all(map(same, first, again))
    assert all(map(same, first, workers))
    assert not any(map(same, first, epoch_of(make(), 2)))
    assert not any(map(same, first, epoch_of(make(seed=1), 1)))


def test_training_on_both_loaders_logs_every_part(make: Make) -> None:
    trainer = fit(make())
    assert {"train/loss", "train/loss_rec", "train/loss_kge", "train/loss_lrd"} <= set(trainer.callback_metrics)


def test_without_relations_there_is_no_part_for_them(make: Make) -> None:
    module = make(graph="kg-attributes")
    module.catalogue["attributes"] = {}
    trainer = fit(module)
    assert "train/loss_lrd" in trainer.callback_metrics
    assert "train/loss_kge" not in trainer.callback_metrics


def test_discovery_without_item_vectors_says_what_to_do(make: Make) -> None:
    module = make(text_encoder=None)
    assert module.text_width == 0
    with pytest.raises(UserError, match="text_encoder"):
        model_for(module).attach(module.catalogue)


@pytest.mark.parametrize("name", ["num_negatives", "num_corruptions", "triplet_batch_size", "min_history"])
def test_counts_below_one_are_refused(name: str, make: Make) -> None:
    with pytest.raises(UserError, match=name):
        make(**{name: 0})


def test_processes_share_instances_and_triplets_in_as_many_batches(make: Make) -> None:
    parts = []
    for rank in (0, 1):
        module = make(batch_size=16)
        module.trainer = cast(Any, SimpleNamespace(distributed_sampler_kwargs={"num_replicas": 2, "rank": rank}))
        parts.append(epoch_of(module))
    assert len(parts[0]) == len(parts[1]) == -(-len(epoch_of(make(batch_size=16))) // 2)
    drawn = [{tuple(row) for batch in part for row in batch["triplets"]["head"].tolist()} for part in parts]
    assert drawn[0] != drawn[1]
    own = [torch.cat([batch["targets"][:, 0] for batch in part]).tolist() for part in parts]
    whole = torch.cat([batch["targets"][:, 0] for batch in epoch_of(make(batch_size=16))]).tolist()
    assert set(own[0] + own[1]) == set(whole)


def test_a_resumed_training_ends_as_an_unbroken_one(make: Make, tmp_path: Path) -> None:
    torch.manual_seed(0)
    start = model_for(make()).state_dict()
    weights = []
    for stops in ([2], [1, 2]):
        checkpoint: Path | None = None
        for epochs in stops:
            model = model_for(make())
            model.load_state_dict(start)
            trainer = quiet_trainer(epochs)
            trainer.fit(model, make(), ckpt_path=checkpoint, weights_only=True)
            checkpoint = tmp_path / f"{len(stops)}-{epochs}.ckpt"
            trainer.save_checkpoint(checkpoint)
        weights.append(model.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize(
    ("graph", "late"), [("kg-released", True), ("kg-rewired", True), ("kg-train", False), ("kg-attributes", False)]
)
def test_only_relations_of_the_source_can_be_later_than_the_split(make: Make, graph: str, late: bool) -> None:
    module = make(graph=graph)
    assert not module.post_hoc_graph
    module.manifest.graph["post_hoc"] = True
    assert module.post_hoc_graph == late
