"""CTRL: SASRec that is first aligned with sentences about its users' histories."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from allmrec.baselines.fine_grained import Contrast, FineGrained
from allmrec.baselines.history_texts import HistoryTexts
from allmrec.baselines.stages import forget_moments, require_stages, set_rates, warmed
from allmrec.baselines.tower import with_encoder_group
from allmrec.sentences import text_marks
from common.data.datasets import last_events
from common.errors import above_zero, at_least
from common.hashing import GOLDEN_GAMMA, mix64
from common.models.hyperparameters import keep_own
from common.models.negatives import drawn_negatives
from common.models.sasrec import SASRec
from common.nn.initial import initialise_weights
from common.nn.losses import Objective
from common.types import PAD, Catalogue, SequenceBatch, Sequences

USERS = 4096
"""Users whose sentences are listed at a time."""


class CTRL(SASRec):
    """SASRec whose states first learn to match the text of their history, and then to recommend.

    Stage 1, the first ``align_epochs``: a contrastive loss between the state after a history and the sentence that
    lists it, over several sub-vectors per side (:class:`FineGrained`). Stage 2: the recommendation loss on the aligned
    model, with one more linear map on its states. Stage 2 and evaluation read no text. X. Li et al., "CTRL: Connect
    Collaborative and Language Model for CTR Prediction", ACM TORS 2025 (https://arxiv.org/abs/2306.02841).

    The paper predicts clicks with AutoInt. This is the version of A-LLMRec (https://arxiv.org/abs/2404.11343), which
    uses SASRec instead and one sentence for each prefix of a history. It departs from A-LLMRec's code:

    * Stage 1 has the paper's InfoNCE and temperature on larger chunks; ``contrast: bce, chunk: 32, latent: 50``
      restores A-LLMRec's.
    * Stage 1 has its own learning rate, which warms up as in the paper, and stage 2 starts with a new optimiser. Both
      optimisers are Adam; the paper has AdamW in stage 1.
    * A sentence lists each title once, not twice.
    * Text vectors are not normalised, even where the sentence model ends with that step.
    * A sentence model that does not learn reads all its sentences before stage 1, in one order, and once for all runs.
      The vectors then do not depend on the batches, and a resumed training repeats an uninterrupted one.

    Args:
        num_items: Number of items of the catalogue.
        max_history: Longest history that is read.
        sbert: Sentence model of stage 1: ``minilm``, a name on the hub, or a folder.
        train_sbert: Whether it learns in stage 1.
        align_epochs: Epochs of stage 1.
        positions: Histories per user in stage 1, drawn once for all runs; ``None`` for all prefixes.
        shown_history: Items of a history that its sentence lists, the newest.
        max_tokens: Tokens of a sentence; ``None`` takes the sentence model's own limit.
        gradient_checkpointing: Whether the layers of a sentence model that learns are computed again in the backward
            pass rather than kept: a batch of 128 users has a thousand sentences of ten titles or more.
        contrast: See :func:`allmrec.baselines.fine_grained.contrast`.
        temperature: The paper's τ.
        sub_vectors: Sub-spaces of each side, the paper's M.
        latent: Width of the space in which states and texts meet.
        chunk: Pairs that are contrasted with each other; ``None`` for the whole batch.
        width: d, width of vectors and states.
        num_blocks: Number of blocks.
        num_heads: Attention heads of a block.
        dropout: Dropout of embeddings, attention weights and feed-forward maps.
        objective: Training loss of stage 2.
        calibration: The ``t`` of gBCE.
        score_penalty: Weight of BPR-max's penalty on negative scores.
        lr: Learning rate of Adam in stage 2.
        align_lr: Highest learning rate of Adam in stage 1.
        warmup_steps: Steps until it is reached.
        encoder_lr: Learning rate of the sentence model.
        weight_decay: L2 coefficient of Adam.
        betas: Decay rates of Adam's moments.
    """

    information_set = frozenset({"order", "text"})

    def __init__(
        self,
        num_items: int,
        max_history: int = 50,
        sbert: str = "sentence-transformers/nq-distilbert-base-v1",
        train_sbert: bool = True,
        align_epochs: int = 10,
        positions: int | None = None,
        shown_history: int = 10,
        max_tokens: int | None = None,
        gradient_checkpointing: bool = False,
        contrast: Contrast = "infonce",
        temperature: float = 0.7,
        sub_vectors: int = 3,
        latent: int = 128,
        chunk: int | None = 1024,
        width: int = 50,
        num_blocks: int = 2,
        num_heads: int = 1,
        dropout: float = 0.5,
        objective: Objective = "bce",
        calibration: float = 0.75,
        score_penalty: float = 0.0,
        lr: float = 1e-3,
        align_lr: float = 5e-4,
        warmup_steps: int = 100,
        encoder_lr: float = 5e-5,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.98),
    ) -> None:
        super().__init__(
            num_items,
            max_history,
            "allmrec",
            width=width,
            num_blocks=num_blocks,
            num_heads=num_heads,
            dropout=dropout,
            objective=objective,
            calibration=calibration,
            score_penalty=score_penalty,
            lr=lr,
            weight_decay=weight_decay,
            betas=betas,
        )
        self.save_hyperparameters()
        keep_own(self)
        at_least(0, align_epochs=align_epochs, warmup_steps=warmup_steps)
        at_least(1, sub_vectors=sub_vectors, shown_history=shown_history, positions=positions, latent=latent)
        at_least(2, chunk=chunk)
        above_zero(temperature=temperature)
        self.align_epochs, self.encoder_lr = align_epochs, encoder_lr
        self.text_encoder: str = sbert
        self.positions, self.align_lr, self.warmup_steps = positions, align_lr, warmup_steps
        self.contrast: Contrast = contrast
        self.temperature, self.chunk = temperature, chunk
        self.titles: Sequence[str] = ()
        self.events: Sequences | None = None
        self.cache: Path | None = None
        self.texts: HistoryTexts | None = None
        self.alignment: FineGrained | None = None
        self.final = nn.Linear(width, width)
        initialise_weights(self.final, "xavier_normal")

    def attach(self, catalogue: Catalogue) -> None:
        """Receives titles and training events for stage 1."""
        super().attach(catalogue)
        self.titles, self.events, self.cache = catalogue["titles"], catalogue["train"], catalogue.get("text_cache")
        if self.texts is not None:
            self.texts.attach(self.titles, self.cache)

    def setup(self, stage: str) -> None:
        """Prepares what only training needs."""
        super().setup(stage)
        if stage == "fit":
            self.prepare_alignment()

    def prepare_alignment(self) -> None:
        """Loads the sentence model and creates the projections of stage 1; a finished model does not need them.

        Raises:
            UserError: If the sentence model cannot be loaded, or no item has a title.
        """
        if not self.align_epochs or self.texts is not None:
            return
        given = self.hparams
        names = ("sbert", "train_sbert", "shown_history", "max_tokens", "gradient_checkpointing")
        self.texts = HistoryTexts(*(given[name] for name in names))
        self.texts.attach(self.titles, self.cache)
        width: int = given["width"]
        self.alignment = FineGrained(width, self.texts.tower.width, given["latent"], given["sub_vectors"])

    def table_marks(self) -> list[str]:
        """The sentence model, unless it is that of A-LLMRec's paper."""
        return [*super().table_marks(), *text_marks(self.text_encoder)]

    def on_train_start(self) -> None:
        """Checks that the run reaches stage 2, and lets a sentence model that does not learn read all sentences.

        Raises:
            UserError: If the run would end in stage 1.
        """
        require_stages(self.trainer, "align_epochs", self.align_epochs)
        if self.aligning and self.texts is not None and not self.texts.tower.trained:
            self.texts.keep(self.all_pasts(), self.device)

    def on_train_epoch_start(self) -> None:
        """Starts stage 2 with a new optimiser."""
        super().on_train_epoch_start()
        if self.current_epoch == self.align_epochs > 0:
            forget_moments(self.trainer)

    def on_train_batch_start(self, batch: SequenceBatch, batch_idx: int) -> None:
        """Sets the learning rates of the step."""
        rise = warmed(self.trainer.global_step, math.inf, self.warmup_steps)
        set_rates(self.trainer, self.align_lr * rise if self.aligning else self.lr, self.encoder_lr * rise)

    @property
    def aligning(self) -> bool:
        """Whether this epoch is part of stage 1."""
        return self.current_epoch < self.align_epochs

    def states(self, batch: SequenceBatch) -> Float[Tensor, "b p d"]:
        """SASRec's states, which stage 1 aligns."""
        return super().encode(batch)

    def encode(self, batch: SequenceBatch) -> Float[Tensor, "b p d"]:
        """SASRec's states, mapped by what stage 2 adds."""
        states: Tensor = self.final(self.states(batch))
        return states

    def loss(self, batch: SequenceBatch) -> dict[str, Tensor]:
        """The alignment in stage 1, the objective over all positions in stage 2; each has its own name in the log."""
        if not self.aligning:
            losses = super().loss(batch)
            return losses | {"loss_recommend": losses["loss"]}
        if self.objective != "ce":
            # Stage 2 needs them, and would fail only after all of stage 1.
            drawn_negatives(batch)
        loss = self.alignment_loss(batch)
        return {"loss": loss, "loss_align": loss}

    def alignment_loss(self, batch: SequenceBatch) -> Float[Tensor, ""]:
        """Contrastive loss between states and the sentences about their histories."""
        assert self.texts is not None
        assert self.alignment is not None
        states = self.states(batch)
        # SASRec cuts or pads histories to the length that it reads.
        length = min(states.size(1), batch["history"].size(1))
        chosen, pasts = self.pasts({**batch, "history": batch["history"][:, -length:]})
        texts = self.texts(pasts, states.device)
        return self.alignment.loss(states[:, -length:][chosen], texts, self.contrast, self.temperature, self.chunk)

    def pasts(self, batch: SequenceBatch) -> tuple[Bool[Tensor, "b l"], list[list[int]]]:
        """The positions that stage 1 aligns, and the items that the sentence of each of them lists."""
        assert self.texts is not None
        history = batch["history"]
        real = history != PAD
        chosen = self.chosen(batch, real)
        rows = [[item for item in row if item != PAD] for row in history.tolist()]
        users, places = chosen.nonzero(as_tuple=True)
        ends = (places + 1 - (~real).sum(1)[users]).tolist()
        shown = self.texts.shown
        return chosen, [rows[u][max(0, end - shown) : end] for u, end in zip(users.tolist(), ends, strict=True)]

    def all_pasts(self) -> list[list[int]]:
        """The items that each sentence of stage 1 lists, for all training users."""
        assert self.events is not None
        offsets = self.events["offsets"].long()
        pasts: list[list[int]] = []
        for users in torch.split((offsets.diff() > 1).nonzero().flatten(), USERS):
            # The last training event of a user is only a target.
            history, _ = last_events(self.events, offsets[users], offsets[users + 1] - 1, self.max_history)
            pasts += self.pasts({"user_id": users, "history": history})[1]
        return pasts

    def chosen(self, batch: SequenceBatch, real: Bool[Tensor, "b l"]) -> Bool[Tensor, "b l"]:
        """The positions that stage 1 aligns: all that are not padding, or a few, which are the same in every epoch."""
        if self.positions is None:
            return real
        length = real.size(1)
        # Counted from the end, a place has the same number in a history of any length.
        places = torch.arange(self.max_history, device=real.device)[-length:]
        users = mix64(batch["user_id"].to(real.device).long() + GOLDEN_GAMMA)
        # Without the sign, so that padding comes below all that is real.
        draws = mix64(users[:, None] + places + GOLDEN_GAMMA) & torch.iinfo(torch.long).max
        draws = draws.masked_fill(~real, -1)
        values, places = draws.topk(min(self.positions, length), dim=1)
        return torch.zeros_like(real).scatter_(1, places, values >= 0)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The sentence model with its own learning rate, and the rest."""
        return with_encoder_group(self, self.texts, self.encoder_lr)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the sentence model's name and revision."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["sbert"] = self.texts.tower.identity if self.texts is not None else None

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Checks the sentence model where training continues; otherwise leaves out the weights of stage 1.

        Raises:
            UserError: If the sentence model is not the one of the training.
        """
        if self.texts is not None:
            self.texts.tower.require(checkpoint["sbert"])
            return
        weights: dict[str, Tensor] = checkpoint["state_dict"]
        early = ("texts.", "alignment.")
        checkpoint["state_dict"] = {name: value for name, value in weights.items() if not name.startswith(early)}
