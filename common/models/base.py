"""What all models share: the way from a batch to scores, ranks and metrics.

A sequential model implements :meth:`SequentialRecommender.encode`; a model whose score is not a dot product
implements :meth:`Recommender.score` and :meth:`Recommender.loss`. Training, sampled and full evaluation, checkpoints,
top-K export and distributed evaluation are provided here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, cast

import lightning as L
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from common.errors import UserError, at_least, shares
from common.metrics.functional import higher_equal, top_k
from common.metrics.ranking import CaseRanks
from common.models.chunking import map_chunks_joined
from common.models.negatives import drawn_negatives
from common.nn.embedding import ItemEmbedding, UserEmbedding
from common.nn.losses import Objective, pairwise_loss
from common.nn.softmax import softmax_loss
from common.types import PAD, Catalogue, DataModule, SequenceBatch

MODEL = "model"
"""Checkpoint key of the name of the model's class."""
TOP_LIST = 10
"""Length of the top lists that full ranking keeps for coverage and mean popularity."""
DENSE_SHARE = 16
"""In training, the whole catalogue is scored at once if it has at most this many items per requested item."""
EVERY = 50
"""Steps between checks of the loss on an accelerator, where the Trainer logs none."""
FEW_ITEMS = 16
"""Up to this many items per state, products are elementwise: up to three times as fast as a batched matrix product."""


class Recommender(L.LightningModule, ABC):
    """A model that scores candidate items for users.

    Args:
        num_items: Number of items of the catalogue (ids 1 to ``num_items``).
        lr: Learning rate of Adam.
        weight_decay: L2 coefficient of Adam.
        betas: Decay rates of Adam's moments.
    """

    information_set: frozenset[str] = frozenset()
    """What the model reads beyond item ids: ``history`` (which items, in no order), ``order`` (the ordered history),
    ``event_times``, ``query_time``, ``user_id``, ``graph``, ``attributes``, ``text``."""
    language_model: str | None = None
    """Name of the language model that the model contains, if any."""
    text_encoder: str | None = None
    """Name of the encoder of item texts, in this model or in one that it builds on, if any."""
    closed_form: ClassVar[bool] = False
    """Whether :meth:`attach` yields the finished model, with nothing left to train by gradient."""
    rate_needs_length: ClassVar[bool] = False
    """Whether the learning rate depends on how long the whole training is, so that no longer one can go on from it."""
    transfers_with: ClassVar[Mapping[str, Any]] = {}
    """Arguments and the values that :meth:`transfer` needs of them, where only some models of a class have it."""
    ranks_catalogue: ClassVar[bool] = True
    """Whether the model can rank all items, and not only the candidates it is shown."""
    catalogue_chunk: ClassVar[int] = 4096
    """Items that full ranking scores at a time if each candidate is scored separately."""
    score_bytes: ClassVar[int] = 256 << 20
    """Bytes that the scores of one pass of full ranking may take; larger batches are ranked in chunks."""
    chunk_rows: int
    """Rows of a batch that are ranked at a time, to begin with; halved until they fit into memory."""

    def __init__(
        self, num_items: int, lr: float = 1e-3, weight_decay: float = 0.0, betas: tuple[float, float] = (0.9, 0.999)
    ) -> None:
        super().__init__()
        at_least(0, lr=lr, weight_decay=weight_decay)
        self.num_items = num_items
        self.lr, self.weight_decay, self.betas = lr, weight_decay, betas
        self.list_length = min(TOP_LIST, num_items)
        self.case_ranks: dict[str, CaseRanks] = {}
        self.train_count: Tensor | None = None
        self.chunk_rows = max(1, self.score_bytes // (4 * (num_items + 1)))

    @property
    def data_module(self) -> DataModule | None:
        """The trainer's DataModule, or ``None`` where the trainer was given loaders instead."""
        return cast(DataModule | None, getattr(self.trainer, "datamodule", None))

    def setup(self, stage: str) -> None:
        """Attaches the catalogue of the trainer's DataModule, once."""
        if self.data_module is not None and self.train_count is None:
            self.attach(self.data_module.catalogue)
        # Each process makes its own from the catalogue: sending them would take longer than many a training step.
        self._ddp_params_and_buffers_to_ignore = [name for name, _ in self.named_buffers()]

    def attach(self, catalogue: Catalogue) -> None:
        """Receives the catalogue, once, before training or evaluation."""
        self.train_count = catalogue["train_count"].cpu()
        for module in self.modules():
            if isinstance(module, ItemEmbedding):
                module.mark_trained(self.train_count > 0)
            elif isinstance(module, UserEmbedding):
                module.mark_trained(catalogue["train"]["offsets"].diff() >= catalogue.get("least_events", 1))

    @abstractmethod
    def score(self, batch: SequenceBatch) -> Float[Tensor, "b c"]:
        """Scores ``batch["candidates"]``, shape ``(b, c)``; higher is better."""

    @abstractmethod
    def loss(self, batch: SequenceBatch) -> dict[str, Tensor]:
        """Training losses: ``"loss"`` is optimised, every entry is logged as ``train/<key>``."""

    def score_catalogue(self, batch: SequenceBatch) -> Float[Tensor, "b i_plus_1"]:
        """Scores every item, shape ``(b, num_items + 1)``; callers may overwrite the result, and ignore column 0.

        Items are scored ``catalogue_chunk`` at a time, so that working memory besides the result is bounded.
        """
        rows = len(batch["history"])
        scores = torch.empty(rows, self.num_items + 1, dtype=torch.float32, device=self.device)
        for first in range(0, self.num_items + 1, self.catalogue_chunk):
            items = torch.arange(first, min(first + self.catalogue_chunk, self.num_items + 1), device=self.device)
            scores[:, first : first + len(items)] = self.score({**batch, "candidates": items.expand(rows, -1)})
        return scores

    def rank(self, batch: SequenceBatch) -> dict[str, Tensor]:
        """Ranks the target of each row.

        Returns:
            ``higher``, ``equal`` and ``num_candidates``, each of shape ``(b,)``, and under full ranking
            ``top_items`` of shape ``(b, list_length)``, ``PAD`` where fewer items are left.

        Raises:
            UserError: If a score is NaN or infinite.
        """
        return self._in_chunks(self._rank_target if "candidates" in batch else self._rank_catalogue, batch)

    def recommend(self, batch: SequenceBatch, k: int | None = None) -> dict[str, Tensor]:
        """The ``k`` best items that a user has not seen, else ``list_length``: ``items`` and ``scores``, ``(b, k)``."""
        return self._in_chunks(lambda part: self._best(self._unseen_scores(part), k), batch)

    def training_step(self, batch: SequenceBatch, batch_idx: int) -> Tensor:
        """Computes the loss and logs all its parts.

        Raises:
            UserError: If the loss is NaN or infinite.
        """
        losses = self.loss(batch)
        # Checking every step would stall a GPU; once NaN, the weights and the loss stay NaN.
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]  # Lightning sets it by name
        if self.device.type == "cpu" or batch_idx % (every or EVERY) == 0:
            self._require_finite(losses["loss"], "loss")
        for name, value in losses.items():
            self.log(f"train/{name}", value, prog_bar=name == "loss", batch_size=len(batch["history"]))
        return losses["loss"]

    def validation_step(self, batch: SequenceBatch, batch_idx: int) -> None:
        """Ranks validation cases under the monitored protocol."""
        self._collect(batch, self.rank(batch))

    def test_step(self, batch: SequenceBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Ranks test cases; one DataLoader per protocol."""
        self._collect(batch, self.rank(batch))

    def predict_step(self, batch: SequenceBatch, batch_idx: int) -> tuple[Tensor, Tensor]:
        """The best items that each user has not seen, and their scores, both ``(b, list_length)``."""
        best = self.recommend(batch)
        return best["items"], best["scores"]

    def on_fit_start(self) -> None:
        """Puts all modules into training mode; Lightning would leave pre-trained ones in evaluation mode."""
        self.train()

    def on_validation_epoch_start(self) -> None:
        """Discards the ranks of the previous epoch."""
        self.case_ranks = {}

    def on_test_epoch_start(self) -> None:
        """Discards earlier ranks."""
        self.case_ranks = {}

    def on_validation_epoch_end(self) -> None:
        """Logs ``val/<metric>``."""
        for ranks in self.case_ranks.values():
            self._log_metrics("val", ranks)

    def on_test_epoch_end(self) -> None:
        """Logs ``test/<protocol>/overall/<metric>``."""
        for protocol, ranks in self.case_ranks.items():
            self._log_metrics(f"test/{protocol}/overall", ranks)

    def configure_optimizers(self) -> torch.optim.Optimizer | None:
        """Fused Adam on :meth:`parameter_groups`, three times as fast as PyTorch's default on a CPU."""
        return torch.optim.Adam(
            self.parameter_groups(),
            lr=self.lr,
            weight_decay=self.weight_decay,
            betas=self.betas,
            # Lightning clips no gradients for an optimiser that can undo a scaling itself.
            fused=self._trainer is None or not (self.trainer.gradient_clip_val and "mixed" in self.trainer.precision),
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the name of the class, so that a method built on this one can restore it."""
        checkpoint[MODEL] = type(self).__name__

    def restore(self, checkpoint: dict[str, Any]) -> None:
        """Takes the weights of a checkpoint as the model's own hook leaves them."""
        self.on_load_checkpoint(checkpoint)
        self.load_state_dict(checkpoint["state_dict"])

    def write_artifacts(self, folder: Path) -> None:
        """Writes files that later stages read into the run folder; none by default."""

    def transfer(self, checkpoint: dict[str, Any], catalogue: Catalogue) -> None:
        """Loads weights trained on another data set for a ``catalogue`` whose items are known only by their texts.

        Args:
            checkpoint: Checkpoint of a training on another data set.
            catalogue: Catalogue of the items to be ranked; replaces the call of :meth:`attach`.

        Raises:
            UserError: If the model knows items by their ids, as it does unless its class overrides this.
        """
        raise UserError(
            f"{type(self).__name__} knows items by their ids and is not applicable to those of another data set",
            "Train it on that data set, or name a run of a method that reads items only by their texts.",
        )

    def frozen_parameters(self) -> int:
        """Number of parameters in modules that the model uses without training them or registering them as its own."""
        counts = (getattr(module, "num_parameters", 0) for module in self.modules())
        return sum(count for count in counts if isinstance(count, int))

    def table_marks(self) -> list[str]:
        """Remarks that tables show beside the method's name, for example that a text encoder is not the paper's."""
        return []

    def protocol_overrides(self) -> dict[str, str]:
        """Protocol fields in which this model's evaluation differs from the headline (scorer, prompt order)."""
        return {}

    def extra_metrics(self) -> dict[str, float]:
        """Test metrics beyond ranks, ``test/<protocol>/overall/<name>``; must be identical on all processes."""
        return {}

    def case_values(self) -> dict[str, dict[str, Float[Tensor, "m"]]]:
        """Values of test cases by protocol and metric, in the order of their ids; identical on all processes."""
        return {}

    def slices(self, ranks: Mapping[str, Tensor]) -> dict[str, Bool[Tensor, "m"]]:
        """Further slices of the test cases that only this model can define, by name, from columns of their ranks."""
        return {}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups of parameters, each with the options that differ from the optimiser's; one group by default."""
        return [{"params": list(self.parameters())}]

    def _collect(self, batch: SequenceBatch, ranks: dict[str, Tensor]) -> None:
        protocol = batch["protocol"]
        if protocol not in self.case_ranks:
            self.case_ranks[protocol] = CaseRanks(self.train_count).to(self.device)
        self.case_ranks[protocol].update(batch["case_id"], batch["user_id"], batch["target"], **ranks)

    def _log_metrics(self, prefix: str, ranks: CaseRanks) -> None:
        values = {f"{prefix}/{name}": value for name, value in ranks.metrics().items()}
        # All processes hold the same values, and NCCL would not add up those that lie on the CPU.
        self.log_dict(values, sync_dist=False)

    def _unseen_scores(self, batch: SequenceBatch) -> Float[Tensor, "b i_plus_1"]:
        """Scores of the catalogue in fp32, ``-inf`` for padding and seen items."""
        scores = self.score_catalogue(batch).float()
        scores[:, PAD] = 0.0
        self._require_finite(scores, "scores")
        scores[:, PAD] = -torch.inf
        return scores.scatter_(1, batch["seen"].long(), -torch.inf)

    def _best(self, scores: Float[Tensor, "b i_plus_1"], k: int | None = None) -> dict[str, Tensor]:
        items, values = top_k(scores, k or self.list_length)
        return {"items": items.masked_fill_(values == -torch.inf, PAD), "scores": values}

    def _rank_target(self, batch: SequenceBatch, scores: Tensor | None = None) -> dict[str, Tensor]:
        """Ranks the target, which is the first candidate, by the candidates' scores."""
        scores = (self.score(batch) if scores is None else scores).float()
        self._require_finite(scores, "scores")
        higher, equal = higher_equal(scores, torch.zeros_like(batch["target"]))
        return {"higher": higher, "equal": equal, "num_candidates": torch.full_like(higher, scores.size(1))}

    def _rank_catalogue(self, batch: SequenceBatch) -> dict[str, Tensor]:
        scores = self._unseen_scores(batch)
        higher, equal = higher_equal(scores, batch["target"])
        remaining, best = self.num_items - (batch["seen"] != PAD).sum(1), self._best(scores)
        return {"higher": higher, "equal": equal, "num_candidates": remaining, "top_items": best["items"]}

    def _in_chunks(self, step: Callable[[SequenceBatch], dict[str, Tensor]], batch: SequenceBatch) -> dict[str, Tensor]:
        # Mixed precision would round scores until many tie (PROTOCOL P4).
        with torch.autocast(self.device.type, enabled=False):
            result, self.chunk_rows = map_chunks_joined(step, batch, self.chunk_rows)
        return result

    def _require_finite(self, values: Tensor, what: str) -> None:
        """Raises on NaN or infinity. The sum costs a tenth and is tested first, but may overflow: the values decide."""
        if not bool(torch.isfinite(values.detach().sum())) and not bool(torch.isfinite(values).all()):
            step = self.trainer.global_step if self._trainer is not None else 0
            raise UserError(
                f"NaN or infinite {what} of {type(self).__name__} at step {step}",
                f"Lower the learning rate (now {self.lr:g}), clip gradients with --trainer.gradient_clip_val, or train "
                "in 32-bit precision.",
            )


class SequentialRecommender(Recommender):
    """A model that scores by the dot product of a state of the history and a vector of the item.

    A subclass sets ``self.item_embedding`` (an :class:`ItemEmbedding`) and implements :meth:`encode`; one with separate
    output vectors overrides :meth:`output_table`, one with item biases :meth:`output_bias`.

    Args:
        num_items: Number of items of the catalogue.
        objective: Training loss; ``ce`` is the full softmax and needs no negatives.
        calibration: The ``t`` of gBCE, from 0 to 1.
        score_penalty: Weight of BPR-max's penalty on negative scores.
        lr: Learning rate of Adam.
        weight_decay: L2 coefficient of Adam.
        betas: Decay rates of Adam's moments.
    """

    information_set = frozenset({"order"})
    item_embedding: ItemEmbedding

    def __init__(
        self,
        num_items: int,
        objective: Objective = "bce",
        calibration: float = 0.75,
        score_penalty: float = 0.0,
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:
        super().__init__(num_items, lr=lr, weight_decay=weight_decay, betas=betas)
        shares(calibration=calibration)
        at_least(0, score_penalty=score_penalty)
        self.objective: Objective = objective
        self.calibration, self.score_penalty = calibration, score_penalty

    @abstractmethod
    def encode(self, batch: SequenceBatch) -> Float[Tensor, "b p d"]:
        """States after each history position, or only after the last (``p = 1``)."""

    def output_table(self) -> Float[Tensor, "i_plus_1 d"]:
        """Vectors that states are compared with."""
        return self.item_embedding.table()

    def output_bias(self) -> Float[Tensor, "i_plus_1"] | None:
        """Item biases, if the model has them."""
        return None

    def match(self, states: Float[Tensor, "n d"], items: Int[Tensor, "n c"]) -> Float[Tensor, "n c"]:
        """Scores ``items`` against ``states`` row by row."""
        if self.training and items.size(1) * DENSE_SHARE >= self.num_items:
            # One product and a gather of its columns move far less memory than the vectors of all negatives.
            return self.match_all(states).gather(1, items)
        vectors, few = torch.nn.functional.embedding(items, self.output_table()), items.size(1) <= FEW_ITEMS
        scores = (states[:, None] * vectors).sum(-1) if few else torch.einsum("nd,ncd->nc", states, vectors)
        bias = self.output_bias()
        return scores if bias is None else scores + bias[items]

    def match_all(self, states: Float[Tensor, "n d"]) -> Float[Tensor, "n i_plus_1"]:
        """Scores the whole table against ``states``."""
        return torch.nn.functional.linear(states, self.output_table(), self.output_bias())

    def softmax_loss(self, states: Float[Tensor, "n d"], targets: Int[Tensor, "n"]) -> Float[Tensor, ""]:
        """Full softmax over all items, without padding."""
        bias = self.output_bias()
        return softmax_loss(states, self.output_table()[1:], targets - 1, None if bias is None else bias[1:])

    def score(self, batch: SequenceBatch) -> Float[Tensor, "b c"]:
        """Scores candidates by the last state."""
        return self.match(self.encode(batch)[:, -1], batch["candidates"])

    def score_catalogue(self, batch: SequenceBatch) -> Float[Tensor, "b i_plus_1"]:
        """Encodes once, then one matrix product."""
        return self.match_all(self.encode(batch)[:, -1])

    def loss(self, batch: SequenceBatch) -> dict[str, Tensor]:
        """The objective over all positions that have a target, averaged."""
        states, targets = self.encode(batch), batch["targets"]
        positions = min(states.size(1), targets.size(1))
        kept = (targets[:, -positions:] != PAD).nonzero(as_tuple=True)  # Only once: an accelerator is waited for.
        states, targets = states[:, -positions:][kept], targets[:, -positions:][kept]
        if self.objective == "ce":
            return {"loss": self.softmax_loss(states, targets)}
        negatives = drawn_negatives(batch)[:, -positions:].expand(-1, positions, -1)[kept]
        scores = self.match(states, torch.cat([targets[:, None], negatives], dim=1))
        chosen, others = scores[:, 0], scores[:, 1:]
        options = {"calibration": self.calibration, "score_penalty": self.score_penalty}
        return {"loss": pairwise_loss(self.objective, chosen, others, num_items=self.num_items, **options)}
