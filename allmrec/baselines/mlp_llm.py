"""MLP-LLM: A-LLMRec without stage 1; a collaborative filter's vectors go straight into the prompt."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from allmrec.choice import ChoiceRanker
from allmrec.collaborative import CollaborativeFilter
from allmrec.composer import Prompts
from allmrec.decoding import Scorer
from allmrec.llm import FrozenLLM, Precision, Quantization
from allmrec.prompts import Domain
from allmrec.stage2 import Projection, slot_vectors
from common.models.base import Recommender
from common.types import Catalogue, SequenceBatch


class MLPLLM(ChoiceRanker):
    """Puts a frozen filter's user and item vectors into a prompt, each kind through its own MLP.

    ``O_u = F_U(x_u)`` and ``O_i = F_I(E_i)`` fill the slots in which A-LLMRec has its joint vectors; prompt, target and
    loss are A-LLMRec's. S. Kim et al., "Large Language Models meet Collaborative Filtering", KDD 2024
    (https://arxiv.org/abs/2404.11343), introduce it as a baseline without the sizes of its MLPs; these are the
    projections of A-LLMRec's stage 2. Train it on a ``PromptDataModule``.

    Args:
        num_items: Number of items of the catalogue.
        collaborative: Run folder of a trained recommender, or the recommender.
        llm: Name or folder of the language model.
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
        lr: Learning rate of Adam.
        weight_decay: L2 coefficient of Adam.
        betas: Decay rates of Adam's moments.
    """

    vectors: Tensor

    def __init__(
        self,
        num_items: int,
        collaborative: str | Recommender,
        llm: str,
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
        lr: float = 1e-4,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:
        model = FrozenLLM(llm, precision, quantization, device_map, gradient_checkpointing)
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
        self.collaborative = CollaborativeFilter(collaborative)
        self.information_set = self.information_set | self.collaborative.module.information_set
        width = self.collaborative.width
        self.project_user = Projection(width, self.llm.embedding, "leaky_relu")
        self.project_item = Projection(width, self.llm.embedding, "gelu")
        self.register_buffer("vectors", torch.zeros(num_items + 1, width), persistent=False)

    def attach(self, catalogue: Catalogue) -> None:
        """Receives titles and the filter's item vectors.

        Raises:
            UserError: If the collaborative filter belongs to another catalogue.
        """
        super().attach(catalogue)
        self.collaborative.attach(catalogue)
        self.vectors.copy_(self.collaborative.item_vectors())

    def soft(self, batch: SequenceBatch, prompts: Prompts) -> Float[Tensor, "s t"] | None:
        """Projected vectors of users and items for the slots of a batch's prompts, in order."""
        return slot_vectors(
            prompts,
            self.vectors,
            self.project_item,
            lambda: self.project_user(self.collaborative.user_vectors(batch)),
        )

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The two projections."""
        return [{"params": [*self.project_user.parameters(), *self.project_item.parameters()]}]
