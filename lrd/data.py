"""What LRD learns from beside next items: triplets of the graph, negative histories and item vectors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal, cast

from lightning.pytorch.utilities import CombinedLoader

from common.data.datamodule import SequenceDataModule
from common.data.datasets import EpochSampler, PrefixDataset
from common.data.negatives import NegativeRule, NegativeSampler
from common.data.views import OVERALL
from common.errors import at_least
from common.text.encoders import MINILM, open_encoder
from common.types import Catalogue, SequenceBatch, Split
from lrd.graph import Graph
from lrd.graph_recipes import GraphRecipe, item_relations
from lrd.triplets import TripletDataset
from lrd.types import RelationalBatch
from lrd.vectors import CONTROLS, Vectors, item_vectors


class RelationalDataset(PrefixDataset):
    """Prefix instances with one sampled item for each slot of the history, drawn by the rule of the negatives.

    Args:
        split: As in :class:`PrefixDataset`.
        max_history: As in :class:`PrefixDataset`.
        min_history: As in :class:`PrefixDataset`.
        sampler: As in :class:`PrefixDataset`.
    """

    def __init__(self, split: Split, max_history: int, min_history: int, sampler: NegativeSampler) -> None:
        super().__init__(split, max_history, min_history, sampler)
        self.slots = sampler.beside(count=1)

    def __getitems__(self, indices: Sequence[int]) -> SequenceBatch:
        """The batch of the instances ``indices``, a :class:`RelationalBatch` without triplets."""
        batch = cast(RelationalBatch, super().__getitems__(indices))
        batch["negative_history"] = self.slots.fill(batch["user_id"], batch["history"], indices)[..., 0]
        return batch


class RelationalDataModule(SequenceDataModule):
    """Training prefixes beside triplets of the knowledge graph, and item vectors from texts.

    Arguments that are not listed are those of :class:`SequenceDataModule`.

    Args:
        dataset: Key of the data set.
        root: Folder of all prepared stores.
        recipe: Recipe of the store.
        store: Id of the store.
        split: How events are divided.
        max_history: Newest events of a user that a model sees; the authors take 20.
        min_history: Earlier events that a target needs.
        num_negatives: Negatives drawn per target.
        negatives: What negatives, and the items of negative histories, avoid.
        batch_size: Training instances per batch; the authors take 256.
        eval_batch_size: Evaluation cases per batch.
        val_protocol: Protocol of validation.
        test_protocols: Protocols of the test.
        test_users: Number of test users.
        val_users: Number of validation users.
        allow_imputed_time: Whether times that were not recorded may serve where recorded ones are needed.
        num_workers: Processes that build batches.
        seed: Seed of the order of instances, of negatives, triplets and corruptions, and of what controls draw.
        scenario: Who is trained on and who is tested, as in :class:`SequenceDataModule`.
        graph: Item relations: the released ones (``kg-released``), co-occurrence in training with as many edges
            (``kg-train``), the released ones rewired with all degrees kept (``kg-rewired``), or none
            (``kg-attributes``).
        text_encoder: What makes item vectors from texts: ``minilm``, ``sbert:NAME``, ``lm:NAME:POOLING``,
            ``file:PATH`` or ``openai:MODEL``; none for models that read no text.
        vectors: The encoder's vectors, ``centred`` on their mean and brought to one length, or a control of equal
            width: ``random``, ``permuted`` over items, ``tfidf``.
        num_corruptions: Corruptions of each triplet.
        triplet_batch_size: Triplets per batch; by default as many as training instances. An epoch ends with the
            training instances either way.
    """

    made_of_training = (*SequenceDataModule.made_of_training, "graph")

    def __init__(
        self,
        dataset: str,
        root: str = "data",
        recipe: str | None = None,
        store: str | None = None,
        split: Literal["leave_one_out", "global_temporal"] = "leave_one_out",
        max_history: int = 50,
        min_history: int = 1,
        num_negatives: int = 1,
        negatives: NegativeRule = "train",
        batch_size: int = 128,
        eval_batch_size: int = 256,
        val_protocol: str = "full",
        test_protocols: Sequence[str] = ("full",),
        test_users: int | None = None,
        val_users: int | None = None,
        allow_imputed_time: bool = False,
        num_workers: int = 0,
        seed: int = 0,
        scenario: str = OVERALL,
        graph: GraphRecipe = "kg-released",
        text_encoder: str | None = "minilm",
        vectors: Vectors = "text",
        num_corruptions: int = 1,
        triplet_batch_size: int | None = None,
    ) -> None:
        self.graph_recipe, self.text_encoder, self.vectors = graph, text_encoder, vectors
        self.num_corruptions, self.triplet_batch_size = num_corruptions, triplet_batch_size
        pairs, joined = "Relations are learnt from pairs", "Relations join a history to a target"
        at_least(1, "data", reason=pairs, num_negatives=num_negatives, num_corruptions=num_corruptions)
        at_least(1, "data", reason=joined, min_history=min_history)
        at_least(1, "data", triplet_batch_size=triplet_batch_size)
        super().__init__(
            dataset,
            root,
            recipe,
            store,
            split,
            instances="prefix",
            max_history=max_history,
            min_history=min_history,
            num_negatives=num_negatives,
            negatives=negatives,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            val_protocol=val_protocol,
            test_protocols=test_protocols,
            test_users=test_users,
            val_users=val_users,
            allow_imputed_time=allow_imputed_time,
            num_workers=num_workers,
            seed=seed,
            scenario=scenario,
        )

    @cached_property
    def catalogue(self) -> Catalogue:
        """What is known of items, with the chosen graph and, where there is an encoder, item vectors."""
        known = self._known()
        known["relations"] = item_relations(known, self.graph_recipe, self.seed)
        if self.text_encoder is not None:
            encoder = open_encoder(self.text_encoder)
            texts, cache = known["texts"][1:], known["text_cache"]
            known["text_vectors"] = item_vectors(encoder, texts, cache, self.vectors, self.seed)
            drawn = {"seed": str(self.seed)} if self.vectors in CONTROLS else {}
            identity = json.dumps({**encoder.identity, "vectors": self.vectors, **drawn}, sort_keys=True)
            known["text_source"] = {"name": name_of(self.text_encoder, self.vectors), "identity": identity}
        return known

    @cached_property
    def graph(self) -> Graph:
        """Relations and entities, numbered."""
        return Graph(self.catalogue)

    @property
    def post_hoc_graph(self) -> bool:
        """Whether relations were collected later than the split; what training itself gives is not."""
        return super().post_hoc_graph and self.graph_recipe in ("kg-released", "kg-rewired")

    @property
    def num_entities(self) -> int:
        """Items and attribute values, padding included."""
        return self.graph.num_entities

    @property
    def num_relations(self) -> int:
        """Relations of the data set, the virtual one included."""
        return len(self.graph.relations)

    @property
    def text_width(self) -> int:
        """Width of the item vectors; 0 without an encoder."""
        return self.catalogue["text_vectors"].size(1) if self.text_encoder is not None else 0

    def train_dataloader(self) -> Any:  # noqa: ANN401 (one loader, or two combined)
        """Training instances and triplets side by side; instances alone where the graph has no triplet."""
        interactions = super().train_dataloader()
        sampler = interactions.sampler
        assert isinstance(sampler, EpochSampler)
        processes, size = sampler.num_replicas, self.triplet_batch_size
        length = len(sampler.instances) if size is None else len(interactions) * size * processes
        dataset = TripletDataset(self.graph, length, self.num_corruptions, self.seed)
        if not len(dataset):
            return interactions
        own = EpochSampler(dataset, False, self.seed, sampler.rank, processes)
        triplets = self._loader(cast(Any, dataset), size or self.batch_size, own)
        return CombinedLoader({"interactions": interactions, "triplets": triplets}, "min_size")

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:  # noqa: ANN401 (Lightning's hook)
        """Makes one :class:`RelationalBatch` of what the two loaders yield side by side."""
        if "interactions" not in batch:
            return batch
        return {**batch["interactions"], "triplets": batch["triplets"]}

    def _training_set(self, rank: int, world_size: int) -> PrefixDataset:
        sampler = NegativeSampler(self.negatives, self.events, self.num_items, self.num_negatives, self.seed)
        return RelationalDataset(self.events, self.max_history, self.min_history, sampler)


def name_of(encoder: str, vectors: Vectors) -> str:
    """What a table calls the vectors.

    >>> name_of("minilm", "text"), name_of("file:vectors/feat.GPT:float64", "permuted")
    ('all-MiniLM-L6-v2', 'feat.GPT:float64 (permuted)')
    """
    name = MINILM if encoder == "minilm" else encoder.partition(":")[2].rpartition("/")[2]
    return name if vectors == "text" else f"{name} ({vectors})"
