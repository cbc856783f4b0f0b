"""Stage 1: item vectors of a collaborative filter and vectors of their texts become joint vectors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from allmrec.alignment import Activation, Alignment, Formulation, Pairs, Product
from allmrec.collaborative import JOINT, CollaborativeFilter, JointVectors
from allmrec.sentences import TextTower, text_marks
from common.errors import UserError, at_least
from common.models.base import Recommender, SequentialRecommender
from common.models.finished import finished_model, wrong_model
from common.models.negatives import drawn_negatives
from common.types import PAD, Catalogue, SequenceBatch

NEEDS_TEXTS = {"vectors": "texts"}
"""What a model of joint vectors needs for items of another data set, which have no e."""


def require_texts(vectors: Literal["items", "texts"]) -> None:
    """Checks that joint vectors exist for items of another data set.

    Raises:
        UserError: If they are e, which only items of the filter's training have.
    """
    if vectors != "texts":
        raise UserError(
            "joint vectors e come from the collaborative filter's items: on items of another data set they are not "
            "applicable",
            "Name a run on q, the joint vectors from texts, such as allmrec_texts.",
        )


class ALLMRecStage1(SequentialRecommender):
    """Two auto-encoders that meet: one over a frozen filter's item vectors, one over vectors of the items' texts.

    The objective is :class:`Alignment`'s. Its result is a pair of joint vectors for each item, ``e = enc_I(E)`` and
    ``q = enc_T(Q)``, that stage 2 puts into prompts. S. Kim et al., "Large Language Models meet Collaborative
    Filtering", KDD 2024 (https://arxiv.org/abs/2404.11343); ``allmrec/README.md`` lists where the released code
    departs from it.

    Users are ranked candidates by ``s(x, dec_I(e))``, so that a checkpoint can be chosen and joint vectors be judged
    without a language model; with ``vectors: texts`` by ``s(x, dec_I(q))``. Train it on ``instances: sequence`` with
    one negative.

    Args:
        num_items: Number of items of the catalogue.
        collaborative: Run folder of a trained recommender, or the recommender: the source of item and user vectors.
        sbert: Sentence model: ``minilm``, a name on the hub, or a folder.
        train_sbert: Whether it is fine-tuned.
        positions: Which items of each sequence are learnt from: the last, or all but the first, which follows nothing.
        latent: Width of joint vectors, the paper's d′.
        formulation: The paper's objective, or that of its released code.
        activation: What follows the encoders.
        product: How a user and an item are scored.
        match_negatives: Whether sampled items are matched and reconstructed as well.
        detach: Whether text reconstruction leaves its target alone.
        weight_item: The paper's α.
        weight_text: The paper's β.
        weight_matching: Weight of the matching loss; the paper has none, and leaves the loss out in table 8.
        weight_recommendation: Weight of the recommendation loss, likewise.
        vectors: Joint vectors that candidates are ranked by.
        max_tokens: Longer texts are cut; ``None`` takes the sentence model's own limit.
        lr: Learning rate of Adam.
        weight_decay: L2 coefficient of Adam.
        betas: Decay rates of Adam's moments.
    """

    information_set = frozenset({"order", "text"})
    item_vectors: Tensor
    """E, the filter's item vectors."""
    _joint: JointVectors | None = None
    _decoded: Tensor | None = None

    def __init__(
        self,
        num_items: int,
        collaborative: str | Recommender,
        sbert: str = "sentence-transformers/nq-distilbert-base-v1",
        train_sbert: bool = True,
        positions: Literal["last", "all"] = "last",
        latent: int = 128,
        formulation: Formulation = "paper",
        activation: Activation | None = None,
        product: Product | None = None,
        match_negatives: bool | None = None,
        detach: bool | None = None,
        weight_item: float = 0.5,
        weight_text: float = 0.2,
        weight_matching: float = 1.0,
        weight_recommendation: float = 1.0,
        vectors: Literal["items", "texts"] = "items",
        max_tokens: int | None = None,
        lr: float = 1e-4,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.98),
    ) -> None:
        super().__init__(num_items, lr=lr, weight_decay=weight_decay, betas=betas)
        at_least(1, latent=latent)
        at_least(0, weight_item=weight_item, weight_text=weight_text)
        at_least(0, weight_matching=weight_matching, weight_recommendation=weight_recommendation)
        self.save_hyperparameters(ignore=["collaborative"])
        self.collaborative = CollaborativeFilter(collaborative)
        self.information_set = self.information_set | self.collaborative.module.information_set
        self.tower = TextTower(sbert, train_sbert, max_tokens)
        self.alignment = Alignment(
            item_width=self.collaborative.width,
            text_width=self.tower.width,
            latent=latent,
            formulation=formulation,
            activation=activation,
            product=product,
            match_negatives=match_negatives,
            detach=detach,
            weight_item=weight_item,
            weight_text=weight_text,
            weight_matching=weight_matching,
            weight_recommendation=weight_recommendation,
        )
        self.register_buffer("item_vectors", torch.zeros(num_items + 1, self.collaborative.width), persistent=False)
        self.text_encoder = self.tower.name
        self.positions = positions
        self.vectors: Literal["items", "texts"] = vectors

    def attach(self, catalogue: Catalogue) -> None:
        """Receives the items' texts and the filter's item vectors.

        Raises:
            UserError: If the collaborative filter belongs to another catalogue, or there are no texts.
        """
        super().attach(catalogue)
        self.collaborative.attach(catalogue)
        self.item_vectors.copy_(self.collaborative.item_vectors())
        self.tower.attach(catalogue["texts"], catalogue.get("text_cache"))

    def loss(self, batch: SequenceBatch) -> dict[str, Tensor]:
        """The joint loss and its parts; each distinct item of the batch is encoded once."""
        self._forget()
        states, keep = self._learnt(batch)
        count = keep.size(1)
        positive = batch["targets"][:, -count:][keep]
        negative = drawn_negatives(batch)[:, -count:, 0].expand(-1, count)[keep]
        if self.alignment.switches.match_negatives:
            texts, other = self.tower(torch.cat([positive, negative])).chunk(2)
        else:
            texts, other = self.tower(positive), None
        losses: dict[str, Tensor] = self.alignment(
            states[keep], Pairs(self.item_vectors[positive], texts), Pairs(self.item_vectors[negative], other)
        )
        return losses

    def joint_vectors(self) -> JointVectors:
        """Both latents of every item, without dropout, computed once after each training step; row 0 is zero."""
        if self._joint is None:
            both = self._encoded("items"), self._encoded("texts")
            self._joint = JointVectors(*both, self.tower.name, self.collaborative.digest)
        return self._joint

    @torch.no_grad()
    def read(
        self, texts: Sequence[str], cache: Path | None = None
    ) -> tuple[Float[Tensor, "i_plus_1 z"], Float[Tensor, "i_plus_1 d"]]:
        """Items of another data set by their texts: their q, and ``dec_I(q)``, where the filter's own vectors lie.

        Args:
            texts: Text of each item.
            cache: Folder in which vectors of a frozen sentence model are kept from run to run.

        Raises:
            UserError: If no item has a text.
        """
        self.tower.attach(texts, cache)
        q = self.alignment.texts.encode(self.tower.all(self.device))
        q[PAD] = 0
        items: Tensor = self.alignment.items.decoder(q)
        items[PAD] = 0
        return q, items

    def write_artifacts(self, folder: Path) -> None:
        """Writes the joint vectors that stage 2 reads."""
        self.joint_vectors().save(folder / JOINT)

    def table_marks(self) -> list[str]:
        """The sentence model, where it is not the paper's."""
        return text_marks(self.tower.name)

    def encode(self, batch: SequenceBatch) -> Float[Tensor, "b p d"]:
        """The filter's user vectors, shape ``(b, 1, d)``."""
        return self.collaborative.user_vectors(batch)[:, None]

    def output_table(self) -> Float[Tensor, "i_plus_1 d"]:
        """Item vectors decoded from joint vectors, computed once after each training step."""
        if self._decoded is None:
            with torch.no_grad():
                self._decoded = self.alignment.items.decoder(self._encoded(self.vectors))
        return self._decoded

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the sentence model's name and revision: one that does not learn is not in the checkpoint."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["sbert"] = self.tower.identity

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Forgets vectors of other weights, and checks a sentence model that the checkpoint does not hold.

        Raises:
            UserError: If it is not the one of the training.
        """
        self._forget()
        if not self.tower.trained:
            self.tower.require(checkpoint["sbert"])

    def _forget(self) -> None:
        self._joint = self._decoded = None

    @torch.no_grad()
    def _encoded(self, side: Literal["items", "texts"]) -> Float[Tensor, "i_plus_1 z"]:
        known = self.item_vectors if side == "items" else self.tower.all(self.device)
        latent: Tensor = getattr(self.alignment, side).encode(known)
        return latent.index_fill(0, torch.zeros(1, dtype=torch.long, device=self.device), 0.0)

    def _learnt(self, batch: SequenceBatch) -> tuple[Float[Tensor, "b p d"], Bool[Tensor, "b p"]]:
        """User vectors before each learnt item, and which of them have one."""
        if self.positions == "last":
            return self.collaborative.user_vectors(batch)[:, None], batch["targets"][:, -1:] != PAD
        states, targets = self.collaborative.states(batch), batch["targets"]
        self._require_states(states.size(1), targets)
        count = min(states.size(1), targets.size(1))
        return states[:, -count:], targets[:, -count:] != PAD

    def _require_states(self, count: int, targets: Int[Tensor, "b l"]) -> None:
        """Checks that ``count`` states leave no target without one."""
        model, width = self.collaborative.module, targets.size(1)
        longest = int(getattr(model, "max_history", width))
        # A batch may hold histories of one item alone; values, which a device is slow to tell, are asked for only then.
        if count == 1 < longest and bool(targets[:, :-1].any()):
            raise UserError(
                f"{type(model).__name__} has a user vector for the last item alone",
                "Choose positions last, or a collaborative filter with a state at every position, such as SASRec.",
            )
        if longest < width:
            raise UserError(
                f"{type(model).__name__} reads the last {longest} items of a history, of which a batch has {width}",
                f"Give --data.max_history {longest}, or a collaborative filter that reads more.",
            )


def finished_stage1(run: str | Path, collaborative: str | Recommender) -> ALLMRecStage1:
    """The model of a finished stage 1.

    Raises:
        UserError: If the folder holds none, or another model.
    """
    model = finished_model(run, collaborative=collaborative)
    if not isinstance(model, ALLMRecStage1):
        raise wrong_model(run, type(model).__name__, ALLMRecStage1.__name__)
    return model
