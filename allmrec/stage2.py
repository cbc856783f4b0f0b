"""Stage 2: user and item vectors become words of a frozen language model, which names the next item."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from allmrec.collaborative import CollaborativeFilter, JointVectors
from allmrec.composer import USER_SLOT, Composer, Prompts, prompt_order
from allmrec.decoding import Likelihoods, Scorer, greedy, likelihoods, read_prefix, scored
from allmrec.llm import FrozenLLM, Precision, Quantization
from allmrec.prompts import STYLES, Domain
from common.errors import UserError
from common.models.base import Recommender
from common.types import Catalogue, SequenceBatch

GENERATED_REPETITION_PENALTY = 1.0
"""The released 1.5 punishes a title for saying a word twice, and for its closing quotation mark."""


class Projection(nn.Module):
    """Two linear maps into the space of token vectors, layer norm and an activation between them.

    Args:
        width: Width of the vectors.
        token_width: Width of token vectors.
        activation: ``leaky_relu`` for users, ``gelu`` for items, as in the released code; the paper says MLP.
    """

    def __init__(self, width: int, token_width: int, activation: Literal["leaky_relu", "gelu"]) -> None:
        super().__init__()
        self.inner = nn.Linear(width, token_width)
        self.norm = nn.LayerNorm(token_width)
        self.activation = nn.LeakyReLU() if activation == "leaky_relu" else nn.GELU()
        self.outer = nn.Linear(token_width, token_width)
        for layer in (self.inner, self.outer):
            nn.init.xavier_normal_(layer.weight)

    def forward(self, vectors: Float[Tensor, "n d"]) -> Float[Tensor, "n t"]:
        """Vectors that the language model can read among its words."""
        projected: Tensor = self.outer(self.activation(self.norm(self.inner(vectors))))
        return projected


class ALLMRecStage2(Recommender):
    """Asks a frozen language model which candidate comes next, in a prompt that holds vectors beside titles.

    ``O_u = F_U(x_u)`` and ``O_i = F_I(e_i)`` stand in the prompt's slots: the user's first, then one behind each title
    of the history and of the candidates. Only ``F_U`` and ``F_I`` are trained, on ``log P(y | prompt)`` of the next
    item's title y. S. Kim et al., "Large Language Models meet Collaborative Filtering", KDD 2024
    (https://arxiv.org/abs/2404.11343); ``allmrec/README.md`` lists where the released code departs from it.

    Candidates are ranked by the likelihood of their titles, so that the metrics of all other models apply; the paper's
    free text is :meth:`generate`. Train it on ``instances: sequence`` with 19 negatives: the last item of each
    sequence is the target, and its negatives are shown beside it.

    Args:
        num_items: Number of items of the catalogue.
        collaborative: A trained recommender: the source of user vectors.
        joint: File of stage 1's joint vectors.
        llm: Name or folder of the language model.
        vectors: Joint vectors that the prompt shows: ``items`` (e) or ``texts`` (q).
        latent: Width of joint vectors.
        domain: Whose words the prompt uses.
        shown_history: Items of the history that a prompt shows.
        max_title_tokens: Tokens that a title may have; longer ones are cut.
        scorer: How candidates are scored.
        order: Which of the orders of candidates in the prompt.
        precision: Type of the language model's weights.
        quantization: Bits of the language model's weights.
        device_map: How the language model is spread over devices.
        gradient_checkpointing: Whether its layers are computed again in the backward pass.
        cf_dropout: Whether the collaborative filter's dropout is on, as in the released code.
        lr: Learning rate of Adam.
        weight_decay: L2 coefficient of Adam.
        betas: Decay rates of Adam's moments.
    """

    information_set = frozenset({"order", "text"})
    joint: Tensor
    composer: Composer

    def __init__(
        self,
        num_items: int,
        collaborative: Recommender,
        joint: str,
        llm: str,
        vectors: Literal["items", "texts"] = "items",
        latent: int = 128,
        domain: Domain = "general",
        shown_history: int = 10,
        max_title_tokens: int = 64,
        scorer: Scorer = "sum",
        order: int = 0,
        precision: Precision = "bf16",
        quantization: Quantization = "none",
        device_map: str | None = None,
        gradient_checkpointing: bool = False,
        cf_dropout: bool = False,
        lr: float = 1e-4,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:
        super().__init__(num_items, lr=lr, weight_decay=weight_decay, betas=betas)
        self.save_hyperparameters(ignore=["collaborative"])
        self.collaborative = CollaborativeFilter(collaborative, cf_dropout)
        self.information_set = self.information_set | collaborative.information_set
        self.llm = FrozenLLM(llm, precision, quantization, device_map, gradient_checkpointing)
        self.project_user = Projection(self.collaborative.width, self.llm.width, "leaky_relu")
        self.project_item = Projection(latent, self.llm.width, "gelu")
        self.register_buffer("joint", torch.zeros(num_items + 1, latent), persistent=False)
        self.joint_file, self.vectors = Path(joint), vectors
        self.style = STYLES[domain]()
        self.shown_history, self.max_title_tokens = shown_history, max_title_tokens
        self.scorer: Scorer = scorer
        self.order = order
        # Rows of a pass: candidates' logits over a vocabulary of 50,000 take 50 MB a row.
        self._rows = 16

    def attach(self, catalogue: Catalogue) -> None:
        """Receives titles, and reads the joint vectors.

        Raises:
            UserError: If the collaborative filter or the joint vectors belong to another catalogue.
        """
        super().attach(catalogue)
        self.collaborative.require_items(self.num_items)
        self.collaborative.attach(catalogue)
        self.joint.copy_(getattr(JointVectors.load(self.joint_file, self.num_items), self.vectors))
        self.composer = Composer(self.llm, self.style, catalogue["titles"], self.shown_history, self.max_title_tokens)

    def soft(self, batch: SequenceBatch, prompts: Prompts) -> Float[Tensor, "s t"] | None:
        """Vectors for the slots of a batch's prompts, in order; each distinct item is projected once."""
        slots = torch.tensor([item for row in prompts.slots for item in row], device=self.device)
        if not len(slots):
            return None
        distinct, place = slots.unique(return_inverse=True)  # type: ignore[no-untyped-call]
        vectors: Tensor = self.project_item(self.joint[distinct])[place]
        if prompts.slots[0][0] != USER_SLOT:
            return vectors
        users = self.project_user(self.collaborative.user_vectors(batch))
        return vectors.masked_scatter((slots == USER_SLOT)[:, None], users)

    def loss(self, batch: SequenceBatch) -> dict[str, Tensor]:
        """Next-token loss on the title of the last target, which is shown among its negatives in a random order."""
        target = batch["targets"][:, -1:]
        columns = torch.cat([target, batch["negatives"][:, -1]], dim=1)
        # Another order each epoch, so that no place in the list becomes a habit.
        keys = batch["user_id"] + (self.current_epoch << 32)
        shown = columns.gather(1, prompt_order(keys, columns.size(1), seed=self.order + 1))
        prompts = self.composer(batch["history"], shown)
        answers = [self.composer.answers[item] for item in target.squeeze(1).tolist()]
        return {"loss": self.llm.answer_loss(prompts.ids, answers, self.soft(batch, prompts))}

    def score(self, batch: SequenceBatch) -> Float[Tensor, "b c"]:
        """Scores candidates by the likelihood of their titles under ``scorer``."""
        null = self.likelihoods(batch, null=True) if self.scorer == "null" else None
        return scored(self.likelihoods(batch), self.scorer, null)

    def score_catalogue(self, batch: SequenceBatch) -> Float[Tensor, "b i_plus_1"]:
        """Refuses: a prompt cannot show the whole catalogue.

        Raises:
            UserError: Always.
        """
        raise UserError(
            "A-LLMRec ranks candidates that its prompt shows, and cannot show the whole catalogue",
            "Choose a protocol with sampled candidates, such as --data.test_protocols '[sampled-19]'.",
        )

    @torch.no_grad()
    def likelihoods(self, batch: SequenceBatch, null: bool = False) -> Likelihoods:
        """Log-probability of each candidate's title, columns as in ``batch["candidates"]``.

        Args:
            batch: Users and their candidates.
            null: Whether prompts show neither user nor history.
        """
        prompts = self.prompts(batch, null)
        prefix = read_prefix(self.llm, prompts.ids, self.soft(batch, prompts))
        return likelihoods(self.llm, prefix, self._answers(batch["candidates"]))

    @torch.no_grad()
    def generate(
        self, batch: SequenceBatch, repetition_penalty: float = GENERATED_REPETITION_PENALTY, constrained: bool = False
    ) -> list[str]:
        """What the language model answers to each row's prompt, greedily.

        An answer longer than every candidate of its row names none of them, so none is written any longer.

        Args:
            batch: Users and their candidates.
            repetition_penalty: Of tokens written before; 1.5 in the released code.
            constrained: Whether answers are held to the candidates' titles.
        """
        prompts = self.prompts(batch)
        answers = self._answers(batch["candidates"])
        prefix = read_prefix(self.llm, prompts.ids, self.soft(batch, prompts))
        limits = [max(map(len, row)) for row in answers]
        ids = greedy(self.llm, prefix, limits, repetition_penalty, answers if constrained else None)
        return [str(text) for text in self.llm.tokenizer.batch_decode(ids, skip_special_tokens=True)]

    def prompts(self, batch: SequenceBatch, null: bool = False) -> Prompts:
        """Prompts of evaluation cases; each case has its own order of candidates, the same in every run."""
        candidates = batch["candidates"]
        keys = batch["case_id"] if "case_id" in batch else batch["user_id"]
        shown = candidates.gather(1, prompt_order(keys, candidates.size(1), self.order))
        history = batch["history"][:, :0] if null else batch["history"]
        return self.composer(history, shown, user=not null)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The two projections."""
        return [{"params": [*self.project_user.parameters(), *self.project_item.parameters()]}]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the language model's name and revision, all that a checkpoint holds of it."""
        checkpoint["llm"] = self.llm.identity()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Looks whether the language model is that of the training.

        Raises:
            UserError: If it is another one.
        """
        now = self.llm.identity()
        if checkpoint["llm"] != now:
            raise UserError(
                f"the checkpoint was trained on language model {checkpoint['llm']}, and this is {now}",
                "Give the language model of the training with --model.init_args.llm.",
            )

    def _answers(self, candidates: Int[Tensor, "b c"]) -> Sequence[Sequence[Sequence[int]]]:
        return [[self.composer.answers[item] for item in row] for row in candidates.tolist()]
