"""LLM-Only: what a language model knows about items from their titles only."""

from __future__ import annotations

from typing import Any

from allmrec.decoding import Scorer
from allmrec.llm import FrozenLLM, Precision, Quantization
from allmrec.prompts import Domain
from allmrec.ranker import LanguageModelRanker
from common.models.closed_form import NothingToTrain
from common.types import Catalogue


class LLMOnly(NothingToTrain, LanguageModelRanker):
    """Asks a frozen language model with a text prompt, without vectors and without training.

    It is the floor of all methods with a language model. The prompt is A-LLMRec's without vectors and without the
    clause about the user. Candidates are ranked by the likelihood of their titles; the written answers, by which the
    paper ranks, are reported too. S. Kim et al., "Large Language Models meet Collaborative Filtering", KDD 2024
    (https://arxiv.org/abs/2404.11343), figure 6 and table 1.

    Args:
        num_items: Number of items of the catalogue.
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
    """

    soft_slots = False

    def __init__(
        self,
        num_items: int,
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
    ) -> None:
        model = FrozenLLM(llm, precision, quantization, device_map)
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
        )
        self.save_hyperparameters()

    def transfer(self, checkpoint: dict[str, Any], catalogue: Catalogue) -> None:
        """Receives titles of another data set, which are all that it reads; a checkpoint holds no weights of it."""
        self.attach(catalogue)
