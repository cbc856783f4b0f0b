"""Stage 2: user and item vectors become words of a frozen language model, which names the next item."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from allmrec.ablations import SHOWN, Ablation, anonymous, random_like
from allmrec.choice import ChoiceRanker
from allmrec.collaborative import CollaborativeFilter, JointVectors
from allmrec.composer import EVERYTHING, USER_SLOT, Composer, Prompts
from allmrec.decoding import Scorer
from allmrec.llm import FrozenLLM, Precision, Quantization, Weights
from allmrec.prompts import Domain
from allmrec.sentences import text_marks
from allmrec.stage1 import NEEDS_TEXTS, finished_stage1, require_texts
from common.errors import at_least
from common.models.base import Recommender
from common.types import Catalogue, SequenceBatch

OF_THE_FILTER = frozenset({"user_id", "event_times", "query_time"})
"""What a case tells the user's vector alone; prompts show no more of it than history and order."""


class Projection(nn.Module):
    """Two linear maps into the space of token vectors, layer norm and an activation between them.

    Weights start as in the released code, except that outputs start a little smaller than the model's own words: longer
    vectors drown the words around them, and attention between them starts too sharp to learn from.

    Args:
        width: Width of the vectors.
        words: The model's token vectors; some models, such as Gemma, scale them when they read them.
        activation: ``leaky_relu`` for users, ``gelu`` for items, as in the released code; the paper says MLP.
    """

    def __init__(self, width: int, words: nn.Embedding, activation: Literal["leaky_relu", "gelu"]) -> None:
        super().__init__()
        token_width = words.embedding_dim
        self.inner = nn.Linear(width, token_width)
        self.norm = nn.LayerNorm(token_width)
        self.activation = nn.LeakyReLU() if activation == "leaky_relu" else nn.GELU()
        self.outer = nn.Linear(token_width, token_width)
        nn.init.xavier_normal_(self.inner.weight)
        size = words.weight.detach().float().square().mean().sqrt().item()
        nn.init.xavier_normal_(self.outer.weight, gain=size * float(getattr(words, "embed_scale", 1.0)))
        nn.init.zeros_(self.outer.bias)

    def forward(self, vectors: Float[Tensor, "n d"]) -> Float[Tensor, "n t"]:
        """Vectors that the language model can read among its words."""
        projected: Tensor = self.outer(self.activation(self.norm(self.inner(vectors))))
        return projected


def vectors_elsewhere(
    joint_file: Path, collaborative: CollaborativeFilter, catalogue: Catalogue
) -> tuple[Float[Tensor, "i_plus_1 z"], str | None]:
    """The q of another data set's items, which the filter reads by its decoded vectors from now on.

    Args:
        joint_file: Run folder of stage 1.
        collaborative: The filter.
        catalogue: Of the other data set, with a text of each item.

    Returns:
        The vectors, and the name of the sentence model that read the texts.

    Raises:
        UserError: If the items have no texts, or the filter cannot read vectors.
    """
    stage1 = finished_stage1(joint_file, collaborative.module)
    q, items = stage1.read(catalogue["texts"], catalogue.get("text_cache"))
    collaborative.adopt(items)
    return q, stage1.text_encoder


def slot_vectors(
    prompts: Prompts,
    table: Float[Tensor, "i_plus_1 d"],
    project: nn.Module,
    users: Callable[[], Float[Tensor, "b t"]],
) -> Float[Tensor, "s t"] | None:
    """Vectors for the slots of a batch's prompts, in order, if there are slots; each distinct item is projected once.

    Args:
        prompts: The prompts.
        table: Vector of each item.
        project: Makes item vectors readable.
        users: Makes a readable vector of each row's user; asked only where prompts have a slot for it.
    """
    slots = torch.tensor([item for row in prompts.slots for item in row], device=table.device)
    if not len(slots):
        return None
    distinct, place = slots.unique(return_inverse=True)
    vectors: Tensor = project(table[distinct])[place]
    if prompts.slots[0][0] != USER_SLOT:
        return vectors
    return vectors.masked_scatter((slots == USER_SLOT)[:, None], users())


class ALLMRecStage2(ChoiceRanker):
    """Asks a frozen language model which candidate comes next, in a prompt that holds vectors beside titles.

    ``O_u = F_U(x_u)`` and ``O_i = F_I(e_i)`` stand in the prompt's slots: the user's first, then one behind each title
    of the history and of the candidates. Only ``F_U`` and ``F_I`` are trained, on ``log P(y | prompt)`` of the next
    item's title y. S. Kim et al., "Large Language Models meet Collaborative Filtering", KDD 2024
    (https://arxiv.org/abs/2404.11343); ``allmrec/README.md`` lists where the released code departs from it.

    Candidates are ranked by the likelihood of their titles, so that the metrics of all other models apply; the paper's
    free text is ``generate``. Train it on :class:`allmrec.data.PromptDataModule`.

    Args:
        num_items: Number of items of the catalogue.
        collaborative: Run folder of a trained recommender, or the recommender: the source of user vectors.
        joint: Run folder of stage 1, or its file of joint vectors.
        llm: Name or folder of the language model.
        vectors: Joint vectors that the prompt shows: ``items`` (e) or ``texts`` (q).
        latent: Width of joint vectors.
        domain: Whose words the prompt uses.
        shown_history: Items of the history that a prompt shows.
        max_title_tokens: Tokens that a title may have; longer ones are cut.
        scorer: How candidates are scored.
        order: Which of the orders of candidates in the prompt.
        generate_at_test: Whether a test also lets the language model write.
        answer_tokens: Tokens that a written answer may have; ``None``: a few more than the longest candidate.
        repetition_penalty: Of tokens that an answer has already; 1.5 in the released code.
        precision: Type of the language model's weights; ``auto`` takes fp32 where they are stored so, else bf16.
        quantization: Bits of the language model's weights.
        device_map: How the language model is spread over devices.
        gradient_checkpointing: Whether its layers are computed again in the backward pass.
        shard_llm: Whether the processes of a training share the language model's weights, as ``trainer/fsdp`` asks.
        llm_weights: The language model's own, or ``random`` ones, as a control.
        cf_dropout: Whether the collaborative filter's dropout is on, as in the released code.
        ablation: What the method goes without, in training and test.
        lr: Learning rate of Adam.
        weight_decay: L2 coefficient of Adam.
        betas: Decay rates of Adam's moments.
    """

    transfers_with = NEEDS_TEXTS
    joint: Tensor

    def __init__(
        self,
        num_items: int,
        collaborative: str | Recommender,
        joint: str,
        llm: str,
        vectors: Literal["items", "texts"] = "items",
        latent: int = 128,
        domain: Domain = "general",
        shown_history: int = 10,
        max_title_tokens: int = 64,
        scorer: Scorer = "sum",
        order: int = 0,
        generate_at_test: bool = True,
        answer_tokens: int | None = None,
        repetition_penalty: float = 1.0,
        precision: Precision = "auto",
        quantization: Quantization = "none",
        device_map: str | None = None,
        gradient_checkpointing: bool = False,
        shard_llm: bool = False,
        llm_weights: Weights = "trained",
        cf_dropout: bool = False,
        ablation: Ablation = "none",
        lr: float = 1e-4,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:
        at_least(1, latent=latent)
        model = FrozenLLM(llm, precision, quantization, device_map, gradient_checkpointing, llm_weights)
        super().__init__(
            num_items,
            model,
            domain=domain,
            shown_history=shown_history,
            max_title_tokens=max_title_tokens,
            scorer=scorer,
            order=order,
            generate_at_test=generate_at_test,
            answer_tokens=answer_tokens,
            repetition_penalty=repetition_penalty,
            lr=lr,
            weight_decay=weight_decay,
            betas=betas,
        )
        self.save_hyperparameters(ignore=["collaborative"])
        self.collaborative = CollaborativeFilter(collaborative, cf_dropout)
        self.information_set = self._reads(ablation)
        self.project_user = Projection(self.collaborative.width, self.llm.embedding, "leaky_relu")
        self.project_item = Projection(latent, self.llm.embedding, "gelu")
        self.register_buffer("joint", torch.zeros(num_items + 1, latent), persistent=False)
        self.joint_file, self.vectors = Path(joint), vectors
        self.ablation: Ablation = ablation
        self.shard_llm = shard_llm
        self.project_user.requires_grad_(ablation != "no_user")
        self.project_item.requires_grad_(ablation != "no_joint")

    def _reads(self, ablation: Ablation) -> frozenset[str]:
        """What scores depend on (PROTOCOL P9)."""
        by_filter = self.collaborative.module.information_set
        known = type(self).information_set | by_filter
        if ablation == "no_user":
            return known - OF_THE_FILTER
        if ablation == "shuffled_history" and "order" not in by_filter:
            return known - {"order"} | {"history"}
        return known

    def configure_model(self) -> None:
        """Divides the language model over the processes, where there are several and that is wanted."""
        if self.shard_llm and self.trainer.world_size > 1 and not self.llm.sharded:
            self.llm.shard(self.trainer.strategy.root_device)

    def attach(self, catalogue: Catalogue) -> None:
        """Receives titles, and reads the joint vectors.

        Raises:
            UserError: If the collaborative filter or the joint vectors belong to another catalogue.
        """
        super().attach(catalogue)
        self.collaborative.attach(catalogue)
        joint = JointVectors.load(self.joint_file, self.collaborative, self.joint.size(1))
        self.text_encoder = joint.text_encoder
        self._place(getattr(joint, self.vectors))

    def transfer(self, checkpoint: dict[str, Any], catalogue: Catalogue) -> None:
        """Takes trained projections to items of another data set, which are known by their texts alone.

        Slots hold their q. The filter, which knows none of them, reads a history by the vectors that stage 1 decodes
        from q, so that a user has a vector, too; the paper does not say what its filter does (its table 7).

        Args:
            checkpoint: Of a stage 2 on q.
            catalogue: Titles and texts of the items.

        Raises:
            UserError: If slots hold e, the items have no texts, or the filter cannot read vectors.
        """
        require_texts(self.vectors)
        super().attach(catalogue)
        q, self.text_encoder = vectors_elsewhere(self.joint_file, self.collaborative, catalogue)
        self._place(q)
        self.restore(checkpoint)

    def _place(self, joint: Float[Tensor, "i_plus_1 z"]) -> None:
        self.joint.copy_(random_like(joint) if self.ablation == "random_joint" else joint)

    def make_composer(self, titles: Sequence[str]) -> Composer:
        """What writes the prompts of a catalogue, with what the ablation leaves of it."""
        names = anonymous(titles) if self.ablation == "anonymous_titles" else titles
        shown = SHOWN.get(self.ablation, EVERYTHING)
        return Composer(self.llm, self.style, names, self.shown_history, self.max_title_tokens, shown)

    def soft(self, batch: SequenceBatch, prompts: Prompts) -> Float[Tensor, "s t"] | None:
        """Projected user and joint vectors for the slots of a batch's prompts, in order."""
        return slot_vectors(prompts, self.joint, self.project_item, lambda: self.project_user(self.user_vectors(batch)))

    def user_vectors(self, batch: SequenceBatch) -> Float[Tensor, "b d"]:
        """The filter's vector of each row's user."""
        return self.collaborative.user_vectors(batch)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The two projections, without one that an ablation has no slot for."""
        both = [*self.project_user.parameters(), *self.project_item.parameters()]
        return [{"params": [parameter for parameter in both if parameter.requires_grad]}]

    def table_marks(self) -> list[str]:
        """The sentence model of stage 1, where it is not the paper's, and the ablation, if there is one."""
        ablation = [] if self.ablation == "none" else [self.ablation.replace("_", " ")]
        return [*super().table_marks(), *text_marks(self.text_encoder), *ablation]
