"""The trip every model makes: batch → scores → ranks → metrics.

A sequential model writes :meth:`SequentialRecommender.encode`; a model whose score is no dot product writes
:meth:`Recommender.score` and :meth:`Recommender.loss`. Training, sampled and full evaluation, checkpoints, top-K
export and distributed evaluation come from here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import lightning as L
import torch
from jaxtyping import Float, Int
from torch import Tensor

from common.metrics.functional import higher_equal, top_k
from common.metrics.ranking import CaseRanks
from common.nn.embedding import ItemEmbedding
from common.nn.losses import Objective, pairwise_loss, softmax_loss
from common.types import PAD, Catalogue, SequenceBatch

TOP_LIST = 10
"""Length of the top lists that full ranking keeps for coverage and mean popularity."""


class Recommender(L.LightningModule, ABC):
    """A model that scores candidate items for users.

    Args:
        num_items: Number of items of the catalogue (ids 1 to ``num_items``).
        lr: Learning rate of Adam.
        weight_decay: L2 coefficient of Adam.
        betas: Decay rates of Adam's moments.
    """

    information_set: ClassVar[frozenset[str]] = frozenset()
    """What the model reads beyond item ids: ``order``, ``event_times``, ``query_time``, ``user_id``, ``graph``,
    ``attributes``, ``text``."""
    closed_form: ClassVar[bool] = False
    """Whether :meth:`attach` already yields the finished model, so that nothing is trained by gradient."""
    catalogue_chunk: ClassVar[int] = 4096
    """Items that full ranking scores at a time where each candidate is scored by itself."""

    def __init__(
        self,
        num_items: int,
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:
        super().__init__()
        self.num_items = num_items
        self.lr = lr
        self.weight_decay = weight_decay
        self.betas = betas
        self.case_ranks: dict[str, CaseRanks] = {}

    def attach(self, catalogue: Catalogue) -> None:
        """Receives what is known of items and training events, once, before training or evaluation."""
        trained = catalogue["train_count"] > 0
        for module in self.modules():
            if isinstance(module, ItemEmbedding):
                module.mark_trained(trained)

    @abstractmethod
    def score(self, batch: SequenceBatch) -> Float[Tensor, "b c"]:
        """Scores ``batch["candidates"]``, shape ``(b, c)``; higher is better."""

    @abstractmethod
    def loss(self, batch: SequenceBatch) -> dict[str, Tensor]:
        """Training losses: ``"loss"`` is optimised, every entry is logged as ``train/<key>``."""

    def score_catalogue(self, batch: SequenceBatch) -> Float[Tensor, "b i_plus_1"]:
        """Scores every item, shape ``(b, num_items + 1)``; column 0 (padding) means nothing.

        Items are scored ``catalogue_chunk`` at a time, so that working memory beside the result is bounded.
        """
        rows = len(batch["history"])
        chunks = torch.arange(self.num_items + 1, device=self.device).split(self.catalogue_chunk)
        return torch.cat([self.score({**batch, "candidates": chunk.expand(rows, -1)}) for chunk in chunks], dim=1)

    def rank(self, batch: SequenceBatch) -> dict[str, Tensor]:
        """Ranks the target of each row.

        Returns:
            ``higher``, ``equal`` and ``num_candidates``, each of shape ``(b,)``, and under full ranking
            ``top_items`` of shape ``(b, 10)``.

        Raises:
            ValueError: If a score is NaN or infinite.
        """
        if "candidates" in batch:
            scores = self.score(batch).float()
            higher, equal = higher_equal(scores, torch.zeros_like(batch["target"]))
            return {
                "higher": higher,
                "equal": equal,
                "num_candidates": torch.full_like(higher, scores.size(1)),
            }
        scores = self.score_catalogue(batch).float()
        scores[:, PAD] = -torch.inf
        scores.scatter_(1, batch["seen"], -torch.inf)
        higher, equal = higher_equal(scores, batch["target"])
        remaining = self.num_items - (batch["seen"] != PAD).sum(1)
        items, _ = top_k(scores, TOP_LIST)
        return {"higher": higher, "equal": equal, "num_candidates": remaining, "top_items": items}

    def training_step(self, batch: SequenceBatch, batch_idx: int) -> Tensor:
        """One step on the loss, with all its parts logged."""
        losses = self.loss(batch)
        for name, value in losses.items():
            self.log(f"train/{name}", value, prog_bar=name == "loss", batch_size=len(batch["history"]))
        return losses["loss"]

    def validation_step(self, batch: SequenceBatch, batch_idx: int) -> None:
        """Ranks validation cases under the monitored protocol."""
        self._collect(batch)

    def test_step(self, batch: SequenceBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Ranks test cases; one DataLoader a protocol."""
        self._collect(batch)

    def predict_step(self, batch: SequenceBatch, batch_idx: int) -> tuple[Tensor, Tensor]:
        """Best items and their scores, both ``(b, 10)``, of what each user has not seen."""
        scores = self.score_catalogue(batch).float()
        scores[:, PAD] = -torch.inf
        return top_k(scores.scatter_(1, batch["seen"], -torch.inf), TOP_LIST)

    def on_validation_epoch_start(self) -> None:
        """Forgets the ranks of the epoch before."""
        self.case_ranks = {}

    def on_test_epoch_start(self) -> None:
        """Forgets earlier ranks."""
        self.case_ranks = {}

    def on_validation_epoch_end(self) -> None:
        """Logs ``val/<metric>``."""
        for ranks in self.case_ranks.values():
            self.log_dict({f"val/{name}": value for name, value in ranks.metrics().items()}, prog_bar=False)

    def on_test_epoch_end(self) -> None:
        """Logs ``test/<protocol>/overall/<metric>``."""
        for protocol, ranks in self.case_ranks.items():
            self.log_dict({f"test/{protocol}/overall/{name}": v for name, v in ranks.metrics().items()})

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam on all parameters."""
        return torch.optim.Adam(self.parameters(), lr=self.lr, weight_decay=self.weight_decay, betas=self.betas)

    def _collect(self, batch: SequenceBatch) -> None:
        ranks = self.case_ranks.setdefault(batch["protocol"], CaseRanks().to(self.device))
        ranks.update(batch["case_id"], batch["user_id"], batch["target"], **self.rank(batch))


class SequentialRecommender(Recommender):
    """A model that scores by the dot product of a state of the history and a vector of the item.

    A subclass sets ``self.item_embedding`` (an :class:`ItemEmbedding`) and writes :meth:`encode`; one with output
    vectors of its own overrides :meth:`output_table`, one with item biases :meth:`output_bias`.

    Args:
        num_items: Number of items of the catalogue.
        objective: Training loss; ``ce`` is the full softmax and needs no negatives.
        calibration: The ``t`` of gBCE.
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
        self.objective: Objective = objective
        self.calibration = calibration
        self.score_penalty = score_penalty

    @abstractmethod
    def encode(self, batch: SequenceBatch) -> Float[Tensor, "b p d"]:
        """States after each history position, or after the last alone (``p = 1``)."""

    def output_table(self) -> Float[Tensor, "i_plus_1 d"]:
        """Vectors that states are compared with."""
        return self.item_embedding.table()

    def output_bias(self) -> Float[Tensor, "i_plus_1"] | None:
        """Item biases, if the model has them."""
        return None

    def match(self, states: Float[Tensor, "n d"], items: Int[Tensor, "n c"]) -> Float[Tensor, "n c"]:
        """Scores ``items`` against ``states`` row by row."""
        vectors = torch.nn.functional.embedding(items, self.output_table())
        scores = torch.einsum("nd,ncd->nc", states, vectors)
        bias = self.output_bias()
        return scores if bias is None else scores + bias[items]

    def match_all(self, states: Float[Tensor, "n d"]) -> Float[Tensor, "n i_plus_1"]:
        """Scores the whole table against ``states``."""
        bias = self.output_bias()
        return torch.nn.functional.linear(states, self.output_table(), bias)

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
        states, targets = states[:, -positions:], targets[:, -positions:]
        keep = targets != PAD
        states, targets = states[keep], targets[keep]
        if self.objective == "ce":
            logits = self.match_all(states)
            logits = logits.index_fill(1, torch.zeros(1, dtype=torch.long, device=logits.device), -torch.inf)
            return {"loss": softmax_loss(logits, targets)}
        negatives = batch["negatives"][:, -positions:].expand(-1, positions, -1)[keep]
        scores = self.match(states, torch.cat([targets[:, None], negatives], dim=1))
        return {
            "loss": pairwise_loss(
                self.objective,
                scores[:, 0],
                scores[:, 1:],
                num_items=self.num_items,
                calibration=self.calibration,
                score_penalty=self.score_penalty,
            )
        }
