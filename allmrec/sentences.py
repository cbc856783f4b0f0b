"""The text encoder of stage 1: a sentence model that may learn, over texts that are tokenised once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from jaxtyping import Bool, Float, Int
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from allmrec.frozen import Frozen
from allmrec.slotted import first_position, position_table
from allmrec.tokens import in_batches
from common.errors import UserError, at_least
from common.text.cache import kept_vectors
from common.text.encoders import MINILM, load_sentence_model, minilm
from common.text.revisions import same_model, sentence_revision

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

PAPERS = "nq-distilbert-base-v1"
"""The sentence model of the authors of A-LLMRec."""


def text_marks(encoder: str | None, papers: str = PAPERS) -> list[str]:
    """What a table says of a text encoder, where there is one and it is not the paper's."""
    if encoder is None:
        return []
    name = MINILM if encoder == "minilm" else Path(encoder).name
    return [] if name == papers else [f"texts by {name}"]


class TextTower(nn.Module):
    """Q: the vector of each item's text.

    Every distinct item of a call is encoded once, together with items of similar length. A trained model belongs to its
    owner's checkpoint; a frozen one does not, and its vectors are computed once.

    N. Reimers and I. Gurevych, "Sentence-BERT", EMNLP 2019 (https://arxiv.org/abs/1908.10084). The authors of A-LLMRec
    take ``nq-distilbert-base-v1``.

    Args:
        name: ``minilm`` (packaged weights), a name on the hub, or a folder.
        trained: Whether the model learns.
        max_tokens: Longer texts are cut; ``None``, and what is beyond it, takes the model's own limit.
        rows: Texts per forward pass.
        unit: Whether a model that ends by bringing vectors to length 1 does so; otherwise this step is left out.
        gradient_checkpointing: Whether layers are computed again in the backward pass rather than kept.

    Raises:
        UserError: If the model cannot be loaded or reads no tokens, or ``max_tokens`` leaves no room for a word.
    """

    ids: list[list[int]]

    def __init__(
        self,
        name: str,
        trained: bool = True,
        max_tokens: int | None = None,
        rows: int = 64,
        unit: bool = True,
        gradient_checkpointing: bool = False,
    ) -> None:
        # Here, because it takes seconds and few commands need it.
        from sentence_transformers.sentence_transformer.modules import Normalize

        super().__init__()
        model = load_sentence_model(minilm() if name == "minilm" else name, "cpu")
        if not isinstance(model.tokenizer, PreTrainedTokenizerBase):
            raise UserError(
                f"sentence model {name!r} begins with {type(model[0]).__name__}, which is no transformer",
                "Choose a sentence model with a transformer, such as minilm.",
            )
        self.unit = unit
        while not unit and isinstance(model[-1], Normalize):
            del model[-1]
        if trained:
            drop_pooler(getattr(model[0], "auto_model", model))
        if gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        self.name = name
        self.model: nn.Module = model if trained else Frozen(model)
        self.trained = trained
        self.rows = rows
        self.tokenizer = model.tokenizer
        special = self.tokenizer.num_special_tokens_to_add()
        at_least(special + 1, reason=f"{special} of them stand around any text", max_tokens=max_tokens)
        limit = longest_text(model)
        self.max_tokens = limit if max_tokens is None else min(max_tokens, limit)
        self.width = int(model.get_embedding_dimension() or 0)
        self.table: Tensor | None = None

    def attach(self, texts: Sequence[str], cache: Path | None = None, kind: str = "texts") -> None:
        """Tokenises the text of each item; index 0 is padding.

        Args:
            texts: Text of each item.
            cache: Folder in which vectors of a frozen model are kept from run to run.
            kind: What the texts are, for messages.

        Raises:
            UserError: If no item has a text.
        """
        if not any(text.strip() for text in texts):
            raise UserError(
                "the data set has no item texts, and a sentence model reads nothing else of an item",
                "Choose a recipe with titles or descriptions (`recbench list datasets`).",
            )
        missing = sum(not text.strip() for text in texts[1:])
        if missing:
            rank_zero_warn(f"{missing} of {len(texts) - 1} items have no {kind}: they share one vector.")
        self.ids = self.tokenizer(list(texts), truncation=True, max_length=self.max_tokens)["input_ids"]
        self.texts, self.cache, self.table = texts, cache, None

    def forward(self, items: Int[Tensor, "n"]) -> Float[Tensor, "n w"]:
        """Vectors of items, of which some may be the same."""
        if self.trained:
            distinct, place = items.unique(return_inverse=True)
            return self._encode(distinct)[place]
        if self.table is None:
            self.table = self._frozen_table(items.device)
        self.table = self.table.to(items.device)
        return self.table[items]

    @cached_property
    def identity(self) -> dict[str, str]:
        """Name and revision, or the hash of a folder's files."""
        return {"model": "minilm"} if self.name == "minilm" else sentence_revision(self.name)

    def require(self, trained_on: dict[str, str]) -> None:
        """Checks that a checkpoint was trained on this sentence model, whatever its folder is called now.

        Raises:
            UserError: If it is another.
        """
        if not same_model(trained_on, self.identity):
            raise UserError(
                f"the checkpoint was trained on sentence model {trained_on}, and this is {self.identity}",
                "Give the sentence model of the training with --model.sbert.",
            )

    @torch.no_grad()
    def all(self, device: torch.device) -> Float[Tensor, "i_plus_1 w"]:
        """Vectors of the whole catalogue, without dropout."""
        mode = self.training
        self.eval()
        vectors = self(torch.arange(len(self.ids), device=device))
        self.train(mode)
        return cast(Tensor, vectors)

    def read(self, rows: Sequence[list[int]], device: torch.device) -> Float[Tensor, "n w"]:
        """Vectors of texts given in tokens, read in batches of similar length."""
        lengths = torch.tensor([len(row) for row in rows])
        return in_batches(lengths, self.rows, lambda batch: self._pass([rows[i] for i in batch.tolist()], device))

    def _frozen_table(self, device: torch.device) -> Float[Tensor, "i_plus_1 w"]:
        def make() -> Tensor:
            # What is kept serves runs of any precision.
            with torch.autocast(device.type, enabled=False):
                return self._encode(torch.arange(len(self.ids), device=device)).cpu()

        identity = {"kind": "tower", **self.identity, "max_tokens": str(self.max_tokens), "unit": str(self.unit)}
        return make() if self.cache is None else kept_vectors(identity, self.texts, self.cache, make)

    def _encode(self, items: Int[Tensor, "n"]) -> Float[Tensor, "n w"]:
        return self.read([self.ids[item] for item in items.tolist()], items.device)

    def _pass(self, rows: list[list[int]], device: torch.device) -> Float[Tensor, "n w"]:
        ids, real = self._padded(rows, device)
        vectors: Tensor = self.model({"input_ids": ids, "attention_mask": real.long()})["sentence_embedding"]
        return vectors

    def _padded(self, rows: list[list[int]], device: torch.device) -> tuple[Int[Tensor, "n t"], Bool[Tensor, "n t"]]:
        """Ids of texts, padded on the right, and which of them are real."""
        width = max(map(len, rows))
        pad = int(self.tokenizer.pad_token_id or 0)
        ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows], device=device)
        lengths = torch.tensor([len(row) for row in rows], device=device)
        return ids, torch.arange(width, device=device) < lengths[:, None]


def longest_text(model: SentenceTransformer) -> int:
    """Tokens that a sentence model reads; some of RoBERTa's kind say more than they have positions for."""
    limit, table = int(model.max_seq_length or 512), position_table(model)
    return limit if table is None else min(limit, table.num_embeddings - first_position(model))


def drop_pooler(model: nn.Module) -> None:
    """Removes BERT's pooler of the first token, which sentence models do not use, and so would never learn."""
    if hasattr(model, "pooler"):
        setattr(model, "pooler", None)  # noqa: B010
