"""MoRec: SASRec on items that are known only by their texts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from allmrec.baselines.stages import require_stages
from allmrec.baselines.tower import LayeredTower, with_encoder_group
from allmrec.sentences import text_marks
from common.errors import at_least
from common.models.hyperparameters import keep_own
from common.models.negatives import drawn_negatives
from common.models.sasrec import SASRec, SASRecVariant
from common.nn.losses import Objective
from common.types import PAD, Catalogue, SequenceBatch


class TextItems(nn.Module):
    """Item vectors made from texts, ``v_i = GELU(W t_i + b)``, in place of a table.

    Text vectors are cached. A training step makes the vectors of its own items alone (:meth:`holding`). Where it needs
    those of all items (:meth:`holding_all`), it encodes its own again and a few drawn ones that represent all others,
    which keep the vector of their last reading. Evaluation encodes the whole catalogue once.

    Args:
        tower: Encoder of the texts, which gives ``t_i``.
        width: Width of item vectors.
    """

    def __init__(self, tower: LayeredTower, width: int) -> None:
        super().__init__()
        self.tower = tower
        self.project = nn.Linear(tower.width, width)
        nn.init.xavier_normal_(self.project.weight)
        nn.init.zeros_(self.project.bias)
        self.forget()

    def forget(self) -> None:
        """Drops vectors of other weights or other texts."""
        self.texts: Tensor | None = None
        self.held: Tensor | None = None
        self.row_of: Tensor | None = None
        self.made: Tensor | None = None
        self.stale = False

    # Validation runs in inference mode, whose tensors no later training step could learn from.
    @torch.inference_mode(False)
    def known(self) -> Float[Tensor, "i_plus_1 w"]:
        """Text vectors of the catalogue as they were last read."""
        device = self.project.weight.device
        if self.texts is None:
            self.texts = self.tower.all(device)
        return self.texts.to(device)

    def vectors(self, texts: Float[Tensor, "n w"]) -> Float[Tensor, "n_plus_1 d"]:
        """Item vectors, behind that of padding, which is zero."""
        return F.pad(F.gelu(self.project(texts)), (0, 0, 1, 0))

    @contextmanager
    def holding(self, items: Int[Tensor, "n"], learns: bool) -> Iterator[None]:
        """Builds the vectors of a step's items once for everything inside the context, which may look up no others.

        Args:
            items: Distinct items, without padding.
            learns: Whether they are encoded again, and gradients flow to the tower.
        """
        texts = self.tower(items) if learns else self.known()[items]
        if learns:
            # The weights that made them are about to change.
            self.texts = None
        # Any item that is not held points behind the last row, and fails.
        row_of = torch.full((len(self.tower.ids),), len(items) + 1, device=items.device)
        row_of[PAD], row_of[items] = 0, torch.arange(1, len(items) + 1, device=items.device)
        with self._held(self.vectors(texts), row_of):
            yield

    @contextmanager
    def holding_all(self, items: Int[Tensor, "n"] | None, drawn: int = 0) -> Iterator[None]:
        """Builds the table once for everything inside the context; gradients flow through it to the tower.

        Args:
            items: Distinct items to encode; ``None`` where the tower does not learn.
            drawn: How many of the other items to encode, drawn at random. Their gradient is scaled up to that of all
                others, so that the expected gradient of the tower is the exact one.
        """
        texts = self.known()
        if items is not None:
            rest = self.others(items)
            sample = rest[torch.randperm(len(rest), device=rest.device)[:drawn]]
            # Mixed precision may round these, while those read outside of a step are whole.
            read = self.tower(torch.cat([items, sample])).to(texts.dtype)
            own, their = read.split([len(items), len(sample)])
            if len(sample):
                their = their.detach() + (their - their.detach()) * (len(rest) / len(sample))
            texts = texts.index_copy(0, torch.cat([items, sample]), torch.cat([own, their]))
            self.texts, self.stale = texts.detach(), True
        with self._held(self.vectors(texts[PAD + 1 :])):
            yield

    @contextmanager
    def _held(self, vectors: Float[Tensor, "m d"], row_of: Int[Tensor, "i_plus_1"] | None = None) -> Iterator[None]:
        self.held, self.row_of, self.made = vectors, row_of, None
        try:
            yield
        finally:
            self.held = self.row_of = None

    def rows(self, items: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
        """Where in :meth:`table` the vectors of items stand."""
        return items if self.row_of is None else self.row_of[items]

    def others(self, items: Int[Tensor, "n"]) -> Int[Tensor, "m"]:
        """All items except these and padding."""
        rest = torch.ones(len(self.tower.ids), dtype=torch.bool, device=items.device)
        rest[items] = rest[PAD] = False
        return rest.nonzero().flatten()

    def table(self) -> Float[Tensor, "i_plus_1 d"]:
        """The vectors held now, or else those of all items, computed once after each training step."""
        if self.held is not None:
            return self.held
        if self.made is None:
            if self.stale:
                self.texts, self.stale = None, False
            with torch.no_grad():
                self.made = self.vectors(self.known()[PAD + 1 :])
        return self.made

    def forward(self, items: Int[Tensor, "..."]) -> Float[Tensor, "... d"]:
        """Looks up vectors."""
        return F.embedding(self.rows(items), self.table())


class MoRec(SASRec):
    """SASRec with a text encoder in place of its item table; both are trained together.

    ``v_i = GELU(W encoder(title_i) + b)`` is the vector of an item in the history, as a target and as a negative.
    Z. Yuan et al., "Where to Go Next for Recommender Systems? ID- vs. Modality-based Recommender Models Revisited",
    SIGIR 2023 (https://arxiv.org/abs/2303.13835). The paper of A-LLMRec (https://arxiv.org/abs/2404.11343) compares
    with it on SBERT and SASRec of width 50. All that it adds (appendix A) is that a pre-trained SBERT makes the initial
    vectors of items; whether it learns, or the vectors do without it, is not said. Here it learns, as in MoRec's paper;
    ``trained_layers: 0`` keeps it as it was.

    Departures from the authors' code (github.com/westlake-repl/IDvs.MoRec):

    * The sequence model is the SASRec of A-LLMRec; the authors' is post-norm, has two heads and width 512.
    * The optimiser is Adam, not AdamW.
    * Token states are pooled as the sentence model does it; the authors take the first token. Text vectors are not
      normalised, even where the sentence model ends with that step, as in the authors' code.
    * An item that occurs several times in a batch is encoded once, with one dropout mask.
    * Layers below the trained ones run without dropout, so that their states are computed only once.
    * ``frozen_epochs`` trains only the projection and SASRec at first, on fixed text vectors; a step then costs a table
      look-up.
    * ``objective: ce``, the softmax over the catalogue, is an addition. Items outside the batch take part with the text
      vector of their last reading. ``drawn_items`` of them are encoded again in each step and represent all others in
      the encoder's gradient; without them, the encoder would only learn to raise the scores of the batch's own items.

    Args:
        num_items: Number of items of the catalogue.
        max_history: Longest history that is read.
        sbert: Sentence model: ``minilm``, a name on the hub, or a folder.
        trained_layers: Number of its last layers that learn; ``None`` for all and the word vectors (the paper), 0 for
            none (the paper's two-stage variant).
        frozen_epochs: Epochs before the encoder begins to learn.
        drawn_items: Items outside a batch that the encoder reads in a step of ``objective: ce``.
        reads: Whether the encoder reads titles, like the authors', or the recipe's whole texts.
        max_tokens: Longer texts are cut after this many tokens.
        variant: Implementation of SASRec to follow.
        width: d, width of vectors and states.
        num_blocks: Number of blocks.
        num_heads: Attention heads of a block.
        dropout: Dropout of embeddings, attention weights and feed-forward maps.
        objective: Training loss.
        calibration: The ``t`` of gBCE.
        score_penalty: Weight of BPR-max's penalty on negative scores.
        lr: Learning rate of Adam.
        encoder_lr: Learning rate of the encoder's layers.
        weight_decay: L2 coefficient of Adam.
        betas: Decay rates of Adam's moments.
    """

    information_set = frozenset({"order", "text"})

    def __init__(
        self,
        num_items: int,
        max_history: int = 50,
        sbert: str = "sentence-transformers/nq-distilbert-base-v1",
        trained_layers: int | None = None,
        frozen_epochs: int = 0,
        drawn_items: int = 256,
        reads: Literal["titles", "texts"] = "titles",
        max_tokens: int | None = 30,
        variant: SASRecVariant = "allmrec",
        width: int = 50,
        num_blocks: int = 2,
        num_heads: int = 1,
        dropout: float = 0.1,
        objective: Objective = "bce",
        calibration: float = 0.75,
        score_penalty: float = 0.0,
        lr: float = 1e-3,
        encoder_lr: float = 5e-5,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.98),
    ) -> None:
        super().__init__(
            num_items,
            max_history,
            variant,
            tied=True,
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
        at_least(0, frozen_epochs=frozen_epochs, drawn_items=drawn_items)
        self.frozen_epochs, self.encoder_lr = frozen_epochs, encoder_lr
        self.drawn_items = drawn_items if objective == "ce" else 0
        self.reads: Literal["titles", "texts"] = reads
        self.item_embedding = TextItems(LayeredTower(sbert, trained_layers, max_tokens), width)  # type: ignore[assignment]  # has the table's methods
        self.text_encoder = sbert

    @property
    def items(self) -> TextItems:
        """The source of item vectors."""
        assert isinstance(self.item_embedding, TextItems)
        return self.item_embedding

    def attach(self, catalogue: Catalogue) -> None:
        """Receives titles or texts, and tokenises them.

        Raises:
            UserError: If no item has one.
        """
        super().attach(catalogue)
        self.items.tower.attach(catalogue[self.reads], catalogue.get("text_cache"), self.reads)
        self.items.forget()

    def table_marks(self) -> list[str]:
        """The sentence model, unless it is that of A-LLMRec's paper."""
        return [*super().table_marks(), *text_marks(self.items.tower.name)]

    def transfer(self, checkpoint: dict[str, Any], catalogue: Catalogue) -> None:
        """Loads weights for another data set, whose items are known by their texts.

        Raises:
            UserError: If no item has one.
        """
        self.attach(catalogue)
        self.restore(checkpoint)

    def on_train_start(self) -> None:
        """Checks that the run is long enough for the encoder to learn.

        Raises:
            UserError: If it is not.
        """
        if self.items.tower.trained:
            require_stages(self.trainer, "frozen_epochs", self.frozen_epochs)

    @property
    def encoder_learns(self) -> bool:
        """Whether this epoch trains the encoder."""
        return self.items.tower.trained and self.current_epoch >= self.frozen_epochs

    def loss(self, batch: SequenceBatch) -> dict[str, Tensor]:
        """The objective over all positions; each distinct item of the batch is encoded once."""
        if self.objective == "ce":
            held = self.items.holding_all(self.read_now(batch) if self.encoder_learns else None, self.drawn_items)
        else:
            held = self.items.holding(self.read_now(batch), self.encoder_learns)
        with held:
            return super().loss(batch)

    def match(self, states: Float[Tensor, "n d"], items: Int[Tensor, "n c"]) -> Float[Tensor, "n c"]:
        """Scores ``items``, of which a step may hold only its own."""
        return super().match(states, self.items.rows(items))

    def read_now(self, batch: SequenceBatch) -> Int[Tensor, "n"]:
        """The distinct items of a step without padding: histories, targets, and the negatives of real targets."""
        targets = batch["targets"]
        parts = [batch["history"].flatten(), targets.flatten()]
        if self.objective != "ce":
            drawn, real = drawn_negatives(batch), targets != PAD
            asked = real if drawn.size(1) == real.size(1) else real.any(1, keepdim=True)
            parts.append(drawn[asked].flatten())
        items: Tensor = torch.cat(parts).unique()
        return items[items != PAD]

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The encoder with its own learning rate, and the rest."""
        return with_encoder_group(self, self.items.tower, self.encoder_lr)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the sentence model's name and revision: layers that do not learn are not in the checkpoint."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["sbert"] = self.items.tower.identity

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Checks the sentence model, and drops vectors of other weights.

        Raises:
            UserError: If the sentence model is not the one of the training.
        """
        self.items.forget()
        self.items.tower.require(checkpoint["sbert"])
