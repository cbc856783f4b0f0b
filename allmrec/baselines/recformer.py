"""RecFormer: items and histories as text, read by one Longformer."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from lightning.pytorch.utilities import rank_zero_warn
from tokenizers import Tokenizer
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from allmrec.baselines.recformer_cuts import contrastive_loss, cut
from allmrec.baselines.recformer_encoder import RecFormerEncoder, WordHead, load, small_config
from allmrec.baselines.recformer_text import (
    NAMES,
    Layout,
    Pieces,
    Text,
    item_attributes,
    lay_out,
    masked,
    pieces,
    special_names,
    train_tokenizer,
    wrapped,
)
from allmrec.baselines.stages import forget_moments, require_budget, require_stages, set_rates, steps_of, warmed
from allmrec.sentences import text_marks
from allmrec.tokens import similar_lengths
from common.errors import above_zero, at_least, shares
from common.models.base import SequentialRecommender
from common.types import PAD, Catalogue, SequenceBatch

PAPERS, FROM_SCRATCH = "longformer-base-4096", "Longformer from scratch"
"""The authors' encoder, and the name in results of one without pre-trained weights."""


class RecFormer(SequentialRecommender):
    """Scores items by the cosine between the text of a history and the item's own text, ``cos(h_s, h_i) / τ``.

    An item is a list of attribute names and values; a history is the text of its items, newest first. One Longformer
    (:class:`RecFormerEncoder`) reads both. J. Li et al., "Text Is All You Need: Learning Language Representations for
    Sequential Recommendation", KDD 2023 (https://arxiv.org/abs/2305.13731). A run has three stages:

    1. ``pretrain_epochs``: the model finds the text of the next item among those of the other rows of the batch, and
       hidden words in both texts, ``L = L_IIC + λ L_MLM``. The target comes from the second half of the sequence.
    2. ``refresh_epochs``: cross-entropy over a matrix of all item vectors, which is computed again before every epoch
       and fixed within it, on ``cuts`` random targets per user and epoch.
    3. The remaining epochs: the matrix is computed once more and then stays fixed while the encoder goes on learning.

    The learning rate rises for ``warmup_steps`` and then falls to zero, once in pre-training and once in fine-tuning.
    Early stopping may end a run in stage 2; its model then ranks by the item vectors of the chosen weights.

    Departures from the authors' code (github.com/AaronHeee/RecFormer):

    * Pre-training reads the training sequences of the data set itself, not those of seven other data sets.
    * Rows of a batch with the same target are not negatives of each other.
    * Stage 2 has a fixed length, and stage 3 continues from its last weights; the authors' stage 2 ends when validation
      stops improving, and their stage 3 starts from its best weights.
    * Validation uses the item vectors of the current weights, not a matrix that is one epoch old.
    * No target has an empty history.
    * Without ``initial``, a small Longformer and its tokenizer are trained from scratch on the catalogue; its word
      vectors also learn in pre-training.

    Train it on ``instances: sequence`` without negatives. Targets come from all events within ``data.max_history``, and
    a text shows the newest ``max_items`` before one.

    Args:
        num_items: Number of items of the catalogue.
        max_items: Newest items of a history that its text shows.
        initial: Pre-trained Longformer, by name or folder; ``None`` for a small one from scratch.
        attributes: Attributes in an item's text, in this order; at most three are read.
        max_attribute_tokens: Tokens of an attribute, including its name.
        max_tokens: Tokens of a text; longer ones lose their oldest items.
        window: Width of the attention window in tokens, an even number.
        width: Width of an encoder from scratch.
        layers: Number of its layers.
        heads: Number of its attention heads.
        vocabulary: Size of its vocabulary.
        dropout: Its dropout.
        pretrain_epochs: Epochs of stage 1.
        refresh_epochs: Epochs of stage 2.
        cuts: Targets per user and epoch.
        weight_mlm: The paper's λ.
        mask_share: Share of words that stage 1 hides.
        temperature: The paper's τ.
        catalogue_rows: Items that are read at a time when the matrix is computed.
        lr: Highest learning rate of Adam in fine-tuning.
        pretrain_lr: Highest learning rate of Adam in pre-training.
        warmup_steps: Steps until it is reached, in both.
        weight_decay: L2 coefficient of Adam.
        betas: Decay rates of Adam's moments.
    """

    rate_needs_length = True
    information_set = frozenset({"order", "text", "attributes"})
    matrix: Tensor

    def __init__(
        self,
        num_items: int,
        max_items: int = 50,
        initial: str | None = "allenai/longformer-base-4096",
        attributes: tuple[str, ...] = ("title", "brand", "category"),
        max_attribute_tokens: int = 32,
        max_tokens: int = 1024,
        window: int = 64,
        width: int = 128,
        layers: int = 2,
        heads: int = 4,
        vocabulary: int = 4000,
        dropout: float = 0.1,
        pretrain_epochs: int = 0,
        refresh_epochs: int = 100,
        cuts: int = 1,
        weight_mlm: float = 0.1,
        mask_share: float = 0.15,
        temperature: float = 0.05,
        catalogue_rows: int = 256,
        lr: float = 5e-5,
        pretrain_lr: float = 5e-5,
        warmup_steps: int = 100,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:
        super().__init__(num_items, objective="ce", lr=lr, weight_decay=weight_decay, betas=betas)
        self.save_hyperparameters()
        at_least(0, pretrain_epochs=pretrain_epochs, refresh_epochs=refresh_epochs, warmup_steps=warmup_steps)
        at_least(1, max_items=max_items, max_attribute_tokens=max_attribute_tokens, cuts=cuts)
        at_least(1, width=width, layers=layers, heads=heads, catalogue_rows=catalogue_rows)
        at_least(2, max_tokens=max_tokens)
        above_zero(temperature=temperature)
        shares(mask_share=mask_share, dropout=dropout)
        self.attributes, self.max_attribute_tokens = tuple(attributes), max_attribute_tokens
        self.information_set = frozenset({"order", "text"} | ({"attributes"} if {*attributes} - {"title"} else set()))
        self.max_items, self.max_tokens, self.vocabulary = max_items, max_tokens, vocabulary
        self.pretrain_epochs, self.refresh_epochs, self.cuts = pretrain_epochs, refresh_epochs, cuts
        self.pretrain_lr, self.warmup_steps = pretrain_lr, warmup_steps
        self.weight_mlm, self.mask_share, self.temperature = weight_mlm, mask_share, temperature
        self.catalogue_rows, self.fixed_words = catalogue_rows, initial is not None
        self.text_encoder: str = initial or FROM_SCRATCH
        self.tokenizer: PreTrainedTokenizerFast | None = None
        if initial is None:
            config = small_config(vocabulary, width, layers, heads, window, max_tokens, dropout)
            self.encoder = RecFormerEncoder(config, max_items)
        else:
            self.encoder, self.tokenizer = load(initial, max_items, window, max_tokens)
        self.word_head = WordHead(self.encoder.config) if pretrain_epochs else None
        self.register_buffer("matrix", torch.zeros(num_items + 1, self.encoder.config.hidden_size))
        self.settled = False
        """Whether the matrix stays fixed from now on."""
        self.learnable = False
        """Whether the matrix has been computed or loaded, so that fine-tuning can use it."""
        self.fresh: Tensor | None = None
        """Item vectors of the current weights, if they have been computed."""
        self.directions: tuple[Tensor, Tensor] | None = None
        """The item vectors that histories were last compared with, and the same at length 1."""
        self.known: Pieces | None = None

    def attach(self, catalogue: Catalogue) -> None:
        """Receives the items' attributes and tokenises them.

        Raises:
            UserError: If the data set does not have an attribute.
            DataError: If no item has a value of one.
        """
        super().attach(catalogue)
        self.rows = item_attributes(catalogue["titles"], catalogue.get("words", {}), self.attributes)
        self.rows[PAD] = []
        self.fresh = None
        silent = sum(not row for row in self.rows[PAD + 1 :])
        if silent:
            rank_zero_warn(
                f"{silent} of {self.num_items} items have no {' or '.join(self.attributes)}: RecFormer gives them the "
                "vector of an empty text."
            )
        if self.tokenizer is None:
            texts = {text for row in self.rows for pair in row for text in pair}
            self.tokenizer = train_tokenizer([*texts], self.vocabulary)
        self._tokenise()

    def transfer(self, checkpoint: dict[str, Any], catalogue: Catalogue) -> None:
        """Loads encoder and tokenizer for another data set; its item vectors are computed from its own texts.

        Raises:
            UserError: If the data set does not have an attribute.
            DataError: If no item has a value of one.
        """
        self.attach(catalogue)
        self.on_load_checkpoint(checkpoint)
        self.load_state_dict(checkpoint["state_dict"] | {"matrix": self.matrix})
        self.settled = self.learnable = False

    def table_marks(self) -> list[str]:
        """The Longformer, unless it is the paper's."""
        return [*super().table_marks(), *text_marks(self.text_encoder, PAPERS)]

    def _tokenise(self) -> None:
        assert self.tokenizer is not None
        self.known = pieces(self.rows, self.tokenizer, max_attribute_tokens=self.max_attribute_tokens)
        begin, padding = self.tokenizer.bos_token_id, self.tokenizer.pad_token_id
        self.layout = Layout(int(begin or 0), int(padding or 0), self.max_items, self.max_tokens, self.encoder.window)

    def on_train_start(self) -> None:
        """Checks that the run reaches fine-tuning, and that its budget reaches stage 3.

        Raises:
            UserError: If it does not.
        """
        require_stages(self.trainer, "pretrain_epochs", self.pretrain_epochs)
        require_budget(self.trainer, "refresh_epochs", self.pretrain_epochs + self.refresh_epochs)

    @property
    def pretraining(self) -> bool:
        """Whether this epoch is part of stage 1."""
        return self.current_epoch < self.pretrain_epochs

    def on_train_epoch_start(self) -> None:
        """Computes the matrix that the epoch learns from; fine-tuning starts with a new optimiser."""
        super().on_train_epoch_start()
        if self.current_epoch == self.pretrain_epochs > 0:
            forget_moments(self.trainer)
        if not self.pretraining and not self.settled:
            self.refresh()
            self.settled = self.current_epoch >= self.pretrain_epochs + self.refresh_epochs

    def on_train_batch_start(self, batch: SequenceBatch, batch_idx: int) -> None:
        """Sets the learning rate of the step."""
        before, whole = steps_of(self.trainer, self.pretrain_epochs)
        step = self.trainer.global_step
        if self.pretraining:
            rate = self.pretrain_lr * warmed(step, before, self.warmup_steps)
        else:
            rate = self.lr * warmed(step - before, whole - before, self.warmup_steps)
        set_rates(self.trainer, rate)

    def refresh(self) -> None:
        """Computes the matrix with the current weights."""
        self.matrix = self.current_vectors().clone()
        self.learnable = True

    def current_vectors(self) -> Float[Tensor, "i_plus_1 d"]:
        """Item vectors of the current weights, computed once after each change."""
        if self.fresh is None:
            self.fresh = self.item_vectors()
        return self.fresh

    # Validation runs in inference mode, and no checkpoint can be loaded into its tensors.
    @torch.inference_mode(False)
    @torch.no_grad()
    def item_vectors(self) -> Float[Tensor, "i_plus_1 d"]:
        """Vector of every item as a history of only this item, without dropout; that of padding is zero."""
        assert self.known is not None
        mode = self.encoder.training
        self.encoder.eval()
        vectors = torch.zeros_like(self.matrix)
        for rows in similar_lengths(self.known.offsets.diff().to(self.device), self.catalogue_rows):
            vectors[rows] = self.pooled(self.text(rows[:, None])).to(vectors.dtype)
        self.encoder.train(mode)
        vectors[PAD] = 0
        return vectors

    def text(self, history: Int[Tensor, "b l"]) -> Text:
        """Texts of histories."""
        assert self.known is not None
        self.known = self.known.to(history.device)
        return lay_out(history, self.known, self.layout)

    def pooled(self, text: Text) -> Float[Tensor, "b d"]:
        """Vectors of texts: the final state of ``<s>``."""
        states: Tensor = self.encoder(text)
        return states[:, 0]

    def encode(self, batch: SequenceBatch) -> Float[Tensor, "b p d"]:
        """The direction of a history, divided by τ, shape ``(b, 1, d)``."""
        return (F.normalize(self.pooled(self.text(batch["history"])), dim=1) / self.temperature)[:, None]

    def output_table(self) -> Float[Tensor, "i_plus_1 d"]:
        """Item vectors at length 1: the matrix in training and in stage 3, otherwise those of the current weights."""
        return self.directions_of(self.matrix if self.training or self.settled else self.current_vectors())

    # Validation runs in inference mode, and no training step can use its tensors.
    @torch.inference_mode(False)
    def directions_of(self, vectors: Float[Tensor, "i_plus_1 d"]) -> Float[Tensor, "i_plus_1 d"]:
        """Vectors at length 1, computed once for each table of item vectors."""
        if self.directions is None or self.directions[0] is not vectors:
            self.directions = vectors, F.normalize(vectors, dim=1)
        return self.directions[1]

    def loss(self, batch: SequenceBatch) -> dict[str, Tensor]:
        """Loss of pre-training or of fine-tuning; each has its own names in the log."""
        history, target = cut(batch["history"], batch["targets"], self.cuts, later_half=self.pretraining)
        if not self.pretraining and not self.learnable:
            self.refresh()
        self.fresh = None
        if self.pretraining:
            return self.pretraining_loss(self.text(history), self.text(target[:, None]), target)
        loss = self.softmax_loss(self.encode({"history": history})[:, 0], target)
        return {"loss": loss, "loss_recommend": loss}

    def pretraining_loss(self, history: Text, target: Text, items: Int[Tensor, "n"]) -> dict[str, Tensor]:
        """``L = L_IIC + λ L_MLM``: contrastive loss of the plain texts, and hidden words in both."""
        a, b = (self.encoder(text, self.fixed_words)[:, 0] for text in (history, target))
        contrast = contrastive_loss(a, b, self.temperature, items)
        words = self.word_loss(history) + self.word_loss(target)
        return {"loss": contrast + self.weight_mlm * words, "loss_contrast": contrast, "loss_words": words}

    def word_loss(self, text: Text) -> Float[Tensor, ""]:
        """Mean loss over newly hidden words."""
        assert self.word_head is not None
        assert self.tokenizer is not None
        mask = int(self.tokenizer.mask_token_id or 0)
        hidden, wanted = masked(text, mask, int(self.encoder.config.vocab_size), self.mask_share)
        return self.word_head.loss(self.encoder(hidden, self.fixed_words), text.ids, wanted)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the tokenizer, and whether the matrix can be learnt from and is fixed."""
        super().on_save_checkpoint(checkpoint)
        assert self.tokenizer is not None
        checkpoint["learnable"], checkpoint["settled"] = self.learnable, self.settled
        checkpoint["tokenizer"] = self.tokenizer.backend_tokenizer.to_str()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores the tokenizer of the weights; the matrix is among them."""
        names = NAMES if self.tokenizer is None else special_names(self.tokenizer)
        self.tokenizer = wrapped(Tokenizer.from_str(checkpoint["tokenizer"]), names)
        self.learnable, self.settled = bool(checkpoint["learnable"]), bool(checkpoint["settled"])
        self.fresh = self.directions = None
        if self.known is not None:
            self._tokenise()
