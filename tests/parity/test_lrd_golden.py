"""LRD against the released model in float64: predictions, losses and every gradient."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from common.types import SequenceBatch
from lrd.backbones.kda import KDA
from lrd.backbones.rcf import RCF
from lrd.discovery import LatentRelationDiscovery
from lrd.module import LRD

pytestmark = pytest.mark.golden
TOLERANCE = 1e-6


@dataclass
class Released:
    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    arguments: dict[str, Any]

    def __getitem__(self, key: str) -> Tensor:
        return self.tensors[key]


def read(path: Path) -> Released:
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    return Released(tensors, metadata, json.loads(metadata["args"]))


class GivenAges(KDA):
    """KDA that is given the released batch's logarithmic ages instead of times."""

    ages: Tensor

    def decay(self, batch: SequenceBatch) -> Tensor:
        weights: Tensor = self.curves(self.ages)
        return weights


def build(released: Released) -> LRD:
    arguments = released.arguments
    backbone = GivenAges if "batch.history_delta_t" in released.tensors else RCF
    discovery = LatentRelationDiscovery(
        num_latent=arguments["latent_relation_num"],
        formulation="released",
        weight_entropy=arguments["alpha"],
        skip_virtual=bool(arguments["leave_one_latent"]),
    )
    model = LRD(
        num_users=int(released.metadata["n_users"]) - 1,
        num_items=int(released.metadata["n_items"]) - 1,
        num_entities=int(released.metadata["n_entities"]),
        num_relations=int(released.metadata["n_relations"]) - arguments["latent_relation_num"],
        text_width=arguments["plm_size"],
        backbone=backbone(arguments["emb_size"], arguments["num_layers"], arguments["num_heads"]),
        discovery=discovery,
        weight_kge=float(released.metadata["gamma"]),
        weight_lrd=float(arguments["lamda"]),
    ).double()
    if isinstance(model.backbone, GivenAges):
        model.backbone.ages = released["batch.history_delta_t"]
    items = released["batch.item_id"].flatten()
    model.backbone.value_of[items] = released["batch.item_val"].flatten(0, 1)
    return model


def mapped(model: LRD) -> dict[str, tuple[Tensor, list[str]]]:
    """Our parameters with the released ones that they hold, stacked in this order."""
    backbone, discovery = model.backbone, model.discovery
    assert discovery is not None
    pairs = {
        "users": (backbone.users.weight, ["user_embeddings.weight"]),
        "entities": (backbone.entities.weight, ["entity_embeddings.weight"]),
        "relations": (backbone.relations, ["relation_embeddings.weight"]),
        "item_bias": (backbone.item_bias, ["item_bias.weight"]),
        "qkv": (backbone.encoder.query_key_value.weight, [f"attn_head.{x}_linear.weight" for x in "qkv"]),
        "language": (discovery.language, ["item_embeddings.weight"]),
    }
    layers = {
        "W1": backbone.encoder.expand,
        "W2": backbone.encoder.contract,
        "layer_norm": backbone.encoder.norm,
        "project_layer_1": discovery.project,
        "project_layer_2": discovery.classify,
    }
    for name, layer in layers.items():
        for part in ("weight", "bias"):
            pairs[f"{name}.{part}"] = (getattr(layer, part), [f"{name}.{part}"])
    if isinstance(backbone, KDA):
        for ours, theirs in ((backbone.curves.real, "freq_real"), (backbone.curves.imaginary, "freq_imag")):
            pairs[theirs] = (ours, [f"relational_dynamic_aggregation.{theirs}.weight"])
    return pairs


def stacked(released: Released, kind: str, names: list[str], like: Tensor) -> Tensor:
    value = torch.cat([released[f"{kind}.{name}"] for name in names])
    return value[: len(like)].reshape(like.shape)


@pytest.mark.parametrize("name", ["lrd_rcf_lrd", "lrd_kda_lrd"])
def test_matches_the_released_model(golden: Path, name: str) -> None:
    released = read(golden / f"{name}.safetensors")
    model = build(released)
    parameters = mapped(model)
    parameters["language"][0].requires_grad_()
    with torch.no_grad():
        for ours, names in parameters.values():
            ours.copy_(stacked(released, "param", names, ours))
    covered = {f"param.{name}" for _, names in parameters.values() for name in names}
    assert covered == {key for key in released.tensors if key.startswith("param.")}

    items = released["batch.item_id"]
    triplets = {key: released[f"batch.{key}_id"] for key in ("head", "relation", "tail", "value")}
    batch: Any = {
        "user_id": released["batch.user_id"],
        "history": released["batch.history_items"],
        "targets": items[:, :1],
        "negatives": items[:, None, 1:],
        "negative_history": released["batch.neg_his_items"],
        "triplets": triplets,
    }
    losses = model.loss(batch)
    losses["loss"].backward()

    close(model.backbone(batch, items), released["out.prediction"])
    close(model.score_triplets(batch["triplets"]), released["out.kg_prediction"])
    close(losses["loss_lrd"], released["out.lrd_loss"])
    close(losses["loss"], released["out.loss"])
    assert model.discovery is not None
    assert model.discovery.language.grad is not None
    model.discovery.language.grad[0] = 0  # a frozen padding row there; the table is frozen whole in training
    floor = TOLERANCE * max(float(value.abs().max()) for key, value in released.tensors.items() if "grad." in key)
    for ours, names in parameters.values():
        assert ours.grad is not None, names
        expected = stacked(released, "grad", names, ours)
        torch.testing.assert_close(ours.grad, expected, rtol=TOLERANCE, atol=floor)


def close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=TOLERANCE, atol=1e-9)
