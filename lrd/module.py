"""LRD: recommendation, knowledge-graph embedding and relation discovery, trained together."""

from __future__ import annotations

from typing import Any, Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor

from common.errors import at_least
from common.nn.decay import biases_apart
from common.nn.losses import bpr_max_loss
from common.types import PAD, Catalogue, SequenceBatch
from lrd.backbones.rcf import RCF
from lrd.discovery import LatentRelationDiscovery
from lrd.graph import Graph, known_attributes
from lrd.kge import distmult, kge_loss
from lrd.spread import COLLAPSED, RelationSpread
from lrd.text_model import TextModel
from lrd.types import RelationalBatch, TripletBatch

AT_A_TIME = 2**16 - 1
"""Candidates that an accelerator scores at a time: the most rows that attention kernels of CUDA take."""
_MINUS_ONE = "What the authors' code means by -1 is `released`, and `auto` is the same of training events alone"


class LRD(TextModel):
    """A relation-aware recommender trained jointly on three objectives, with or without latent relations.

    ``L = L_rec + γ L_kge + λ L_lrd``: BPR over next items, DistMult over the triplets of the graph, and the discovery
    of latent relations, all over one table of entities and one of relations. Without ``discovery`` this is the
    backbone as its authors train it.

    Source: S. Yang et al., "Sequential Recommendation with Latent Relations based on Large Language Model",
    SIGIR 2024, https://arxiv.org/abs/2403.18348. ``lrd/README.md`` lists where the released code departs from it.

    Args:
        num_users: Users of the data set.
        num_items: Items of the data set.
        num_entities: Items and attribute values, padding included.
        num_relations: Relations of the data set, the virtual one included.
        text_width: Width of the language-model vectors.
        backbone: What latent relations are attached to: ``RCF`` or ``KDA``.
        discovery: Discovery of latent relations, or ``None`` for the plain backbone.
        weight_kge: The paper's γ; with 0 nothing is learnt from triplets. ``auto`` is triplets / training events,
            ``released`` the authors' triplets / all events, those held out among them (-1 in their code).
        weight_lrd: The paper's λ; with 0 nothing is discovered, and latent relations are free rows.
        cache_candidates: Candidates scored at a time by each thread of a CPU in evaluation, so that their relation
            vectors stay in cache.
        lr: Learning rate of Adam; the authors take 1e-4 for RCF and 1e-3 for KDA.
        weight_decay: L2 coefficient, not applied to biases.
    """

    catalogue_chunk = 512
    weight_kge: Tensor

    def __init__(
        self,
        num_users: int,
        num_items: int,
        num_entities: int,
        num_relations: int,
        text_width: int,
        backbone: RCF,
        discovery: LatentRelationDiscovery | None = None,
        weight_kge: float | Literal["auto", "released"] = "auto",
        weight_lrd: float = 10.0,
        cache_candidates: int = 400,
        lr: float = 1e-4,
        weight_decay: float = 1e-6,
    ) -> None:
        at_least(1, cache_candidates=cache_candidates)
        at_least(0, weight_lrd=weight_lrd)
        rule, weight = (weight_kge, 0.0) if isinstance(weight_kge, str) else (None, weight_kge)
        at_least(0, reason=_MINUS_ONE, weight_kge=weight)
        super().__init__(num_items, lr=lr, weight_decay=weight_decay)
        self.save_hyperparameters(ignore=["backbone", "discovery"])
        self.weight_lrd = weight_lrd
        self.cache_candidates = cache_candidates
        self.weight_rule, self.learns_triplets = rule, weight_kge != 0
        self.register_buffer("weight_kge", torch.tensor(float(weight)))
        self.backbone = backbone
        self.discovery = discovery
        total = num_relations + (discovery.num_latent if discovery else 0)
        backbone.build(num_users, num_items, num_entities, total, text_width)
        if discovery:
            discovery.build(num_items, text_width, backbone.width, total)
        discovers = weight_lrd > 0 and discovery is not None and discovery.extractor == "classifier"
        self.spread = RelationSpread(total) if discovers else None
        if discovery and not discovers:
            # Under several processes every parameter that asks for a gradient must get one.
            discovery.requires_grad_(False)
        reads_text = backbone.item_text or (self.spread is not None and discovery and discovery.vectors == "text")
        self.information_set = backbone.information_set | ({"text"} if reads_text else frozenset())

    def attach(self, catalogue: Catalogue) -> None:
        """Receives the graph and the language-model vectors."""
        super().attach(catalogue)
        graph = Graph(catalogue)
        if self.weight_rule is not None:
            released = self.weight_rule == "released"
            events = catalogue["num_interactions"] if released else len(catalogue["train"]["items"])
            self.weight_kge.fill_(len(graph.triplets) / events)
        self.learns_triplets = bool(self.weight_kge)
        self.backbone.attach(catalogue, graph, self.learns_triplets)
        learns = self.learns_triplets or self.backbone.starts_from_graph
        if not (catalogue["relations"] and learns):
            self.information_set -= {"graph"}
        if not (known_attributes(catalogue) and (learns or self.backbone.include_values)):
            self.information_set -= {"attributes"}
        if self.discovery and self.spread is not None:
            self.discovery.attach(catalogue)

    def score(self, batch: SequenceBatch) -> Float[Tensor, "b c"]:
        """Scores candidates, on a CPU so few at a time that their relation vectors stay in cache."""
        with self.backbone.entities.made_once():
            return self.backbone.score(batch, self.cache_candidates if self.device.type == "cpu" else AT_A_TIME)

    def score_catalogue(self, batch: SequenceBatch) -> Float[Tensor, "b i_plus_1"]:
        """Scores every item, with vectors made once for all chunks of the catalogue."""
        with self.backbone.entities.made_once():
            return super().score_catalogue(batch)

    def loss(self, batch: SequenceBatch) -> dict[str, Tensor]:
        """The joint loss and its parts.

        Args:
            batch: A :class:`RelationalBatch` of prefixes: one target and its negatives per row. Without triplets, as
                where there is no relation, and with γ = 0 ``loss_kge`` is left out.
        """
        with self.backbone.entities.made_once():
            return self._joint_loss(batch)

    def _joint_loss(self, batch: SequenceBatch) -> dict[str, Tensor]:
        relational = cast(RelationalBatch, batch)
        target = batch["targets"]
        scores = self.backbone(batch, torch.cat([target, batch["negatives"][:, 0]], dim=1))
        parts = {"loss_rec": bpr_max_loss(scores[:, 0], scores[:, 1:])}
        total = parts["loss_rec"]
        if self.learns_triplets and "triplets" in relational:
            parts["loss_kge"] = kge_loss(self.score_triplets(relational["triplets"]))
            total = total + self.weight_kge * parts["loss_kge"]
        if self.discovery and self.weight_lrd:
            parts["loss_lrd"] = self.discovery(
                batch["history"],
                relational["negative_history"],
                target[:, 0],
                self.backbone.entities,
                self.backbone.relations,
            )
            total = total + self.weight_lrd * parts["loss_lrd"]
        return {"loss": total, **parts}

    def score_triplets(self, triplets: TripletBatch) -> Float[Tensor, "t k"]:
        """DistMult scores of triplets, the attribute value added to the relation as the backbone does."""
        entities, relation = self.backbone.entities, self.backbone.relations[triplets["relation"]]
        if self.backbone.include_values:
            relation = relation + entities(triplets["value"])
        heads, tails = entities(triplets["head"]), entities(triplets["tail"])
        return distmult(heads, relation[:, None].expand_as(heads), tails)

    def validation_step(self, batch: SequenceBatch, batch_idx: int) -> None:
        """Ranks validation cases, and notes how their pairs are related."""
        super().validation_step(batch, batch_idx)
        self._relate(batch)

    def test_step(self, batch: SequenceBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Ranks test cases, and notes how their pairs are related."""
        super().test_step(batch, batch_idx, dataloader_idx)
        self._relate(batch)

    def on_validation_epoch_start(self) -> None:
        """Forgets earlier ranks and pairs."""
        super().on_validation_epoch_start()
        self._forget_pairs()

    def on_test_epoch_start(self) -> None:
        """Forgets earlier ranks and pairs."""
        super().on_test_epoch_start()
        self._forget_pairs()

    def on_validation_epoch_end(self) -> None:
        """Logs ``val/<metric>``, and ``val/q_entropy`` and ``val/q_largest_share`` where relations are discovered."""
        super().on_validation_epoch_end()
        values = {f"val/{name}": value for name, value in self._spread_of_pairs().items()}
        self.log_dict(values, sync_dist=False)

    def extra_metrics(self) -> dict[str, float]:
        """How far the discovery spread the pairs of the test over relations; the pairs are those of any protocol."""
        found = self._spread_of_pairs().items()
        return {f"test/{protocol}/overall/{name}": value for protocol in self.case_ranks for name, value in found}

    def table_marks(self) -> list[str]:
        """That nothing was discovered, where one relation is the most probable of nearly all test pairs."""
        collapsed = self._spread_of_pairs().get("q_largest_share", 0.0) >= COLLAPSED
        return [*super().table_marks(), *(["one relation for all pairs"] if collapsed else [])]

    def _relate(self, batch: SequenceBatch) -> None:
        if self.spread is None or self.discovery is None:
            return
        q = self.discovery.probabilities(batch["history"], batch["target"], self.backbone.entities)
        self.spread.update(batch["case_id"], q, batch["history"] != PAD)

    def _spread_of_pairs(self) -> dict[str, float]:
        if self.spread is None or not self.spread.update_called:
            return {}
        found: dict[str, float] = self.spread.compute()
        return found

    def _forget_pairs(self) -> None:
        if self.spread is not None:
            self.spread.reset()

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Weights, which decay, and biases, which do not."""
        return biases_apart(self)
