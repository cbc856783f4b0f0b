"""A-LLMRec in retrieval style: the frozen model reads users and items apart, and their states are matched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from lightning.pytorch.utilities.memory import is_oom_error
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, PretrainedConfig

from allmrec.collaborative import CollaborativeFilter, JointVectors
from allmrec.composer import USER_SLOT, Prompts, fitted, newest, readable
from allmrec.generation import ShortenedRate
from allmrec.llm import Precision, dtype_of
from allmrec.prompts import STYLES, Domain
from allmrec.report import PROMPTS, PromptReport
from allmrec.sentences import text_marks
from allmrec.slotted import SlottedModel, loading, refuse_missing, without_dropout
from allmrec.stage1 import NEEDS_TEXTS, require_texts
from allmrec.stage2 import Projection, slot_vectors, vectors_elsewhere
from allmrec.tokens import Tokens, in_batches, positions
from common.errors import DataError, UserError, above_zero, at_least
from common.models.base import Recommender, SequentialRecommender
from common.models.negatives import drawn_negatives
from common.nn.softmax import softmax_loss
from common.text.encoders import minilm
from common.types import Catalogue, SequenceBatch

ROUNDING, COARSE_ROUNDING = 0.01, 0.1
"""Share of a state by which padding may change it, with weights in fp32 and in coarser numbers."""


class FrozenReader(SlottedModel):
    """Any Transformers model, encoder or decoder, that turns a text with slots into one state.

    Args:
        name: ``minilm`` (packaged weights), a name on the hub, or a folder.
        pooling: ``mean`` over tokens, as sentence encoders are trained for, or the ``last`` token of a decoder.
        precision: Type of weights and activations.

    Raises:
        UserError: If the model cannot be loaded, is an encoder with a decoder, or reads texts otherwise beside others.
    """

    def __init__(self, name: str, pooling: Literal["mean", "last"] = "mean", precision: Precision = "fp32") -> None:
        place = minilm() if name == "minilm" else name
        with loading(place):
            tokenizer = AutoTokenizer.from_pretrained(place)
            config = without_dropout(AutoConfig.from_pretrained(place))
            refuse_pair(place, config)
            # Nothing follows a text here, and the keys and values of a long one take more room than all else.
            config.use_cache = False
            dtype = dtype_of(precision, config)
            model, report = AutoModel.from_pretrained(place, config=config, dtype=dtype, output_loading_info=True)
            refuse_missing(place, model, report)
        super().__init__(place, model, tokenizer)
        self.given_name, self.pooling = name, pooling
        # Not always the hidden size: some models project their states back to the width of token vectors.
        self.state_width = require_padding(self).size(-1)

    @property
    def title(self) -> str:
        """As :attr:`SlottedModel.title`; for packaged weights, whose folder has no telling name, the name given."""
        return self.given_name if self.given_name == "minilm" else super().title

    def read(self, tokens: Tokens, soft: Float[Tensor, "s d"]) -> Float[Tensor, "b w"]:
        """One state per row, of the type of ``soft``."""
        answer = self(
            inputs_embeds=self.embed(tokens, soft),
            attention_mask=tokens.real.long(),
            position_ids=positions(tokens.real) + self.first_position,
        )
        states: Tensor = answer.last_hidden_state.to(soft.dtype)
        if self.pooling == "last":
            return states[:, -1]
        return (states * tokens.real[..., None]).sum(1) / tokens.real.sum(1, keepdim=True)


@torch.no_grad()
def require_padding(reader: FrozenReader) -> Float[Tensor, "1 w"]:
    """Checks that a model reads a text as it does by itself where padding stands before it.

    Returns:
        The state of a text.

    Raises:
        UserError: If it does not, or takes neither the vectors nor the positions that this wants.
    """
    cure = "Choose another with --model.reader, such as minilm, BERT, MPNet or OPT."
    kind = f"model {reader.name!r} ({reader.module.config.model_type})"
    try:
        text, soft = reader.prompt_ids(["one two three four five"])[0][: reader.context], torch.zeros(0, reader.width)
        rows = [text, text[:2]]
        beside, alone = reader.read(Tokens.of(rows), soft)[1:], reader.read(Tokens.of(rows[1:]), soft)
    except Exception as error:
        if is_oom_error(error):
            raise
        raise UserError(f"{kind} cannot be a reader: {type(error).__name__} while it was tried", cure) from error
    rounding = ROUNDING if reader.module.dtype == torch.float32 else COARSE_ROUNDING
    if not float((beside - alone).norm()) <= rounding * float(alone.norm()):
        raise UserError(f"{kind} cannot be a reader: what it makes of a text depends on longer ones beside it", cure)
    return alone


def refuse_pair(name: str, config: PretrainedConfig) -> None:
    """Checks that a model is one encoder or one decoder.

    Raises:
        UserError: If it is an encoder with a decoder behind it, which would want a text of its own.
    """
    if config.is_encoder_decoder:
        raise UserError(
            f"model {name!r} ({config.model_type}) is an encoder with a decoder, and a reader is one of the two",
            "Give an encoder or a decoder with --model.reader, such as minilm, BERT, MPNet or OPT.",
        )


class ALLMRecRetrieval(PromptReport, SequentialRecommender):
    """Matches what a frozen model makes of a user with what it makes of an item; it can rank the whole catalogue.

    User: the user's vector, then each title of the history with its joint vector. Item: its title with its joint
    vector. Both are read by the frozen model, pooled, mapped by a linear layer each, and compared by cosine over a
    temperature; trained are these layers and the two projections of stage 2. The authors report such a variant in
    their reply to reviewers of "Large Language Models meet Collaborative Filtering", KDD 2024
    (https://arxiv.org/abs/2404.11343), without saying how it is built; all choices here are ours. The loss is a softmax
    over the targets of the batch and the sampled negatives.

    Args:
        num_items: Number of items of the catalogue.
        collaborative: Run folder of a trained recommender, or the recommender: the source of user vectors.
        joint: Run folder of stage 1, or its file of joint vectors.
        reader: Frozen model: ``minilm``, a name on the hub, or a folder; encoder or decoder.
        pooling: How its states become one.
        precision: Type of its weights: ``bf16`` for large ones, ``auto`` as they are stored.
        vectors: Joint vectors that are shown: ``items`` (e) or ``texts`` (q).
        latent: Width of joint vectors.
        width: Width of the states that are compared.
        domain: Whose words are used.
        shown_history: Items of the history that are shown.
        max_title_tokens: Tokens that a title may have; longer ones are cut.
        temperature: What cosines are divided by.
        rows: Items that are read at a time when the catalogue is ranked.
        lr: Learning rate of Adam.
        weight_decay: L2 coefficient of Adam.
        betas: Decay rates of Adam's moments.
    """

    information_set = frozenset({"order", "text"})
    transfers_with = NEEDS_TEXTS
    joint: Tensor

    def __init__(
        self,
        num_items: int,
        collaborative: str | Recommender,
        joint: str,
        reader: str = "minilm",
        pooling: Literal["mean", "last"] = "mean",
        precision: Precision = "fp32",
        vectors: Literal["items", "texts"] = "items",
        latent: int = 128,
        width: int = 128,
        domain: Domain = "general",
        shown_history: int = 10,
        max_title_tokens: int = 32,
        temperature: float = 0.07,
        rows: int = 256,
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:
        super().__init__(num_items, lr=lr, weight_decay=weight_decay, betas=betas)
        at_least(0, shown_history=shown_history)
        at_least(1, max_title_tokens=max_title_tokens, latent=latent, width=width, rows=rows)
        above_zero(temperature=temperature)
        self.save_hyperparameters(ignore=["collaborative"])
        self.collaborative = CollaborativeFilter(collaborative)
        self.information_set = self.information_set | self.collaborative.module.information_set
        self.reader = FrozenReader(reader, pooling, precision)
        self.language_model, self.context = self.reader.title, self.reader.context
        self.project_user = Projection(self.collaborative.width, self.reader.embedding, "leaky_relu")
        self.project_item = Projection(latent, self.reader.embedding, "gelu")
        self.user_head = nn.Linear(self.reader.state_width, width)
        self.item_head = nn.Linear(self.reader.state_width, width)
        self.register_buffer("joint", torch.zeros(num_items + 1, latent), persistent=False)
        self.joint_file, self.vectors = Path(joint), vectors
        self.style = STYLES[domain]
        self.shown_history, self.max_title_tokens = shown_history, max_title_tokens
        self.temperature, self.rows = temperature, rows
        self._table: Tensor | None = None
        # Of the rows that were encoded last: a test ranks by their prompts and counts those that were shortened.
        self._shortened: list[bool] = []

    def attach(self, catalogue: Catalogue) -> None:
        """Receives titles, and reads the joint vectors.

        Raises:
            DataError: If no item has a title.
            UserError: If the collaborative filter or the joint vectors belong to another catalogue, or the text of an
                item does not fit into the reader's context.
        """
        super().attach(catalogue)
        self._read(catalogue["titles"])
        self.collaborative.attach(catalogue)
        joint = JointVectors.load(self.joint_file, self.collaborative, self.joint.size(1))
        self.text_encoder = joint.text_encoder
        self.joint.copy_(getattr(joint, self.vectors))

    def transfer(self, checkpoint: dict[str, Any], catalogue: Catalogue) -> None:
        """Takes what was trained on q to items of another data set, as stage 2 does.

        Raises:
            DataError: If no item has a title.
            UserError: If slots hold e, the items have no texts, or the filter cannot read vectors.
        """
        require_texts(self.vectors)
        super().attach(catalogue)
        self._read(catalogue["titles"])
        q, self.text_encoder = vectors_elsewhere(self.joint_file, self.collaborative, catalogue)
        self.joint.copy_(q)
        self.restore(checkpoint)

    def _read(self, titles: Sequence[str]) -> None:
        """Titles and cards, as the reader gets them."""
        if not any(titles):
            raise DataError("the data set has no titles to read", "Choose a recipe with titles.")
        self.titles, self.cut_titles = readable(self.reader, titles, self.max_title_tokens)
        cards = [self.style.card(title) for title in self.titles]
        self.cards, _ = self._fitted(cards.__getitem__, [[] for _ in cards], "the text of an item")

    def encode(self, batch: SequenceBatch) -> Float[Tensor, "b 1 d"]:
        """States of users, of length 1, shape ``(b, 1, width)``."""
        prompts = self.prompts(batch)
        self._shortened = prompts.shortened
        soft = slot_vectors(
            prompts,
            self.joint,
            self.project_item,
            lambda: self.project_user(self.collaborative.user_vectors(batch)),
        )
        assert soft is not None
        states = self.user_head(self.reader.read(Tokens.of(prompts.ids, self.device), soft))
        return F.normalize(states, dim=1)[:, None] / self.temperature

    def prompts(self, batch: SequenceBatch) -> Prompts:
        """Texts of users; one that does not fit loses the oldest items of its history.

        Raises:
            UserError: If one does not fit even without any.
        """
        pasts = newest(batch["history"], self.shown_history)
        ids, shortened = self._fitted(
            lambda row: self.style.profile([self.titles[item] for item in pasts[row]]),
            pasts,
            "a user's text and no history",
        )
        return Prompts(ids, [[USER_SLOT, *past] for past in pasts], shortened)

    def item_states(self, items: Int[Tensor, "n"]) -> Float[Tensor, "n d"]:
        """States of items, of length 1; those of similar length are read together."""
        lengths = torch.tensor([len(self.cards[item]) for item in items.tolist()])

        def read(rows: Int[Tensor, "b"]) -> Float[Tensor, "b d"]:
            chosen = items[rows.to(items.device)]
            tokens = Tokens.of([self.cards[item] for item in chosen.tolist()], self.device)
            states: Tensor = self.item_head(self.reader.read(tokens, self.project_item(self.joint[chosen])))
            return states

        return F.normalize(in_batches(lengths, self.rows, read), dim=1)

    def output_table(self) -> Float[Tensor, "i_plus_1 d"]:
        """States of all items, read once after each training step."""
        if self._table is None:
            with torch.no_grad():
                self._table = self.item_states(torch.arange(self.num_items + 1, device=self.device))
        return self._table

    def loss(self, batch: SequenceBatch) -> dict[str, Tensor]:
        """Softmax over the distinct targets of the batch and its negatives."""
        self._table = None
        target = batch["targets"][:, -1]
        shown = torch.cat([target, drawn_negatives(batch)[:, -1].flatten()])
        distinct, place = shown.unique(return_inverse=True)
        states = self.encode(batch)[:, 0]
        return {"loss": softmax_loss(states, self.item_states(distinct), place[: len(target)])}

    def test_step(self, batch: SequenceBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Ranks test cases, and notes whose history was shortened."""
        found = self._in_chunks(self._examine, batch)
        self.note(PROMPTS, ShortenedRate, batch, found.pop(PROMPTS))
        self._collect(batch, found)

    def table_marks(self) -> list[str]:
        """The sentence model of stage 1, where it is not the paper's."""
        return text_marks(self.text_encoder)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the reader's name and revision, all that a checkpoint holds of it."""
        super().on_save_checkpoint(checkpoint)
        self.reader.sign(checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Checks that the reader is the one of the training, and forgets states of other weights."""
        self.reader.refuse_other(checkpoint)
        self._table = None

    def _examine(self, batch: SequenceBatch) -> dict[str, Tensor]:
        """What a test wants to know of each row: its rank, and whether its history was shortened."""
        found = self._rank_target(batch) if "candidates" in batch else self._rank_catalogue(batch)
        found[PROMPTS] = torch.tensor(self._shortened, dtype=torch.float32, device=self.device)[:, None]
        return found

    def _fitted(
        self, write: Callable[[int], str], pasts: list[list[int]], what: str
    ) -> tuple[list[list[int]], list[bool]]:
        cure = "Lower max_title_tokens, or choose a reader with a longer context."
        return fitted(self.reader, write, pasts, [self.context] * len(pasts), what, cure)
