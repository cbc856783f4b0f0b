"""Ranking and naming candidates with a frozen language model: what every prompt-based method shares."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from allmrec.composer import Composer, Prompts, prompt_order
from allmrec.data import PromptDataModule
from allmrec.decoding import (
    Answers,
    Likelihoods,
    Prefix,
    Scorer,
    greedy,
    likelihoods,
    read_prefix,
    require_side_by_side,
    scored,
)
from allmrec.generation import AnswerRates, PromptRates, owed_to_lengths, verdicts
from allmrec.llm import FrozenLLM
from allmrec.prompts import STYLES, Domain
from allmrec.report import GENERATED, PROMPTS, PromptReport
from common.errors import UserError, above_zero, at_least
from common.models.chunking import split_rows
from common.nn.exact import float64_device
from common.types import Catalogue, SequenceBatch

BEYOND = 8
"""Tokens that an answer may go on beyond the longest candidate: cut off there, a longer text could pass for one."""


class Reading(NamedTuple):
    """Prompts of a batch, read, and the answers of each row's candidates."""

    prompts: Prompts
    prefix: Prefix
    answers: Answers


class LanguageModelRanker(PromptReport):
    """Shows candidates to a language model, and ranks them by the likelihood of their titles or reads its answer.

    A subclass defines with :meth:`soft` which vectors fill a prompt's slots, and with ``soft_slots`` whether there
    are any.

    Args:
        num_items: Number of items of the catalogue.
        llm: The language model.
        domain: Whose words the prompt uses.
        shown_history: Items of the history that a prompt shows.
        max_title_tokens: Tokens that a title may have; longer ones are cut.
        scorer: How candidates are scored.
        order: Which of the orders of candidates in the prompt.
        generate_at_test: Whether a test also lets the language model write, and reports ``generated/…``.
        answer_tokens: Tokens that a written answer may have; ``None``: a few more than the longest candidate.
        repetition_penalty: Of tokens that an answer has already; the released 1.5 punishes a title for saying a word
            twice, and for its closing quotation mark.
        lr: Learning rate of Adam.
        weight_decay: L2 coefficient of Adam.
        betas: Decay rates of Adam's moments.

    Raises:
        UserError: If the language model cannot score candidates side by side.
    """

    information_set = frozenset({"order", "text"})
    ranks_catalogue = False
    soft_slots = True
    composer: Composer

    def __init__(
        self,
        num_items: int,
        llm: FrozenLLM,
        domain: Domain = "general",
        shown_history: int = 10,
        max_title_tokens: int = 64,
        scorer: Scorer = "sum",
        order: int = 0,
        generate_at_test: bool = True,
        answer_tokens: int | None = None,
        repetition_penalty: float = 1.0,
        lr: float = 1e-4,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:
        super().__init__(num_items, lr=lr, weight_decay=weight_decay, betas=betas)
        at_least(0, shown_history=shown_history)
        at_least(1, max_title_tokens=max_title_tokens, answer_tokens=answer_tokens)
        above_zero(repetition_penalty=repetition_penalty)
        require_side_by_side(llm)
        self.llm = llm
        self.language_model, self.context = llm.title, llm.context
        self.style = STYLES[domain]
        self.shown_history, self.max_title_tokens = shown_history, max_title_tokens
        self.scorer: Scorer = scorer
        self.order = order
        self.generate_at_test = generate_at_test
        self.answer_tokens, self.repetition_penalty = answer_tokens, repetition_penalty
        # Candidates' logits over a vocabulary of 50,000 take 50 MB per row.
        self.chunk_rows = 16

    def setup(self, stage: str) -> None:
        """Attaches the catalogue, and passes the lengths of prompts to a DataModule of prompts."""
        super().setup(stage)
        # Several processes cannot share the devices that one model is spread over.
        self.llm.require_place(self.trainer.strategy.root_device, whole=self.trainer.world_size > 1)
        if isinstance(self.data_module, PromptDataModule):
            self.data_module.sizes = self.composer.sizes()

    def attach(self, catalogue: Catalogue) -> None:
        """Receives titles."""
        super().attach(catalogue)
        self.composer = self.make_composer(catalogue["titles"])
        self.cut_titles = self.composer.cut_titles

    def make_composer(self, titles: Sequence[str]) -> Composer:
        """What writes the prompts of a catalogue."""
        return Composer(self.llm, self.style, titles, self.shown_history, self.max_title_tokens)

    def soft(self, batch: SequenceBatch, prompts: Prompts) -> Float[Tensor, "s t"] | None:
        """Vectors for the slots of a batch's prompts, in order; none here."""
        return None

    def score(self, batch: SequenceBatch) -> Float[Tensor, "b c"]:
        """Scores candidates by the likelihood of their titles under ``scorer``."""
        return self._scores(batch, self.likelihoods(batch))

    def score_catalogue(self, batch: SequenceBatch) -> Float[Tensor, "b i_plus_1"]:
        """Refuses: a prompt cannot show the whole catalogue.

        Raises:
            UserError: Always.
        """
        raise UserError(
            f"{type(self).__name__} ranks candidates that its prompt shows, and cannot show the whole catalogue",
            "Choose a protocol with sampled candidates, such as --data.test_protocols '[sampled-19]'.",
        )

    def likelihoods(self, batch: SequenceBatch, null: bool = False) -> Likelihoods:
        """Log-probability of each candidate's title, columns as in ``batch["candidates"]``.

        Args:
            batch: Users and their candidates.
            null: Whether prompts show neither user nor history.
        """
        reading = self._read(batch, null)
        return likelihoods(self.llm, reading.prefix, reading.answers)

    def generate(self, batch: SequenceBatch) -> list[str]:
        """What the language model answers to each row's prompt, greedily; no text much longer than a candidate.

        Args:
            batch: Users and their candidates.
        """
        return self._written(self._read(batch))

    @torch.no_grad()
    def write(self, batch: SequenceBatch, question: str, max_tokens: int = 40, penalty: float = 1.2) -> list[str]:
        """What the language model writes about each row's user, given the history and, with slots, the vectors.

        S. Kim et al., KDD 2024 (https://arxiv.org/abs/2404.11343), figure 5.

        Args:
            batch: Known users and their histories.
            question: Text that it continues.
            max_tokens: Longest text, cut short where the context ends.
            penalty: Of tokens written before: free text repeats itself otherwise.

        Raises:
            UserError: If the question leaves no room in the context.
        """
        prompts = self.about(batch, question)
        prefix = read_prefix(self.llm, prompts.ids, self.soft(batch, prompts))
        limits = [min(max_tokens, self.llm.context - len(prompt)) for prompt in prompts.ids]
        texts = self.llm.tokenizer.batch_decode(greedy(self.llm, prefix, limits, penalty), skip_special_tokens=True)
        return [str(text).strip() for text in texts]

    def prompts(self, batch: SequenceBatch, null: bool = False) -> Prompts:
        """Prompts of evaluation cases; each case has its own order of candidates, the same in every run."""
        candidates = batch["candidates"]
        keys = batch["case_id"] if "case_id" in batch else batch["user_id"]
        shown = candidates.gather(1, prompt_order(keys, candidates.size(1), self.order))
        history = batch["history"][:, :0] if null else batch["history"]
        return self.composer(history, shown, user=not null and self.soft_slots, soft=self.soft_slots)

    def about(self, batch: SequenceBatch, question: str, null: bool = False) -> Prompts:
        """Prompts that ask something else of each row's user than for one of the candidates."""
        history = batch["history"][:, :0] if null else batch["history"]
        return self.composer.about(history, question, user=not null and self.soft_slots, soft=self.soft_slots)

    def shared_mean(self, mean: Tensor, count: int) -> Tensor:
        """A mean over ``count`` terms, weighted so that its mean over processes is that over all their terms."""
        if self._trainer is None or self.trainer.world_size == 1:
            return mean
        terms = torch.tensor(float(count), device=self.device)
        total = self.trainer.strategy.reduce(terms.clone(), reduce_op="sum")
        return mean * (self.trainer.world_size * terms / total)

    def protocol_overrides(self) -> dict[str, str]:
        """Scorer and order of candidates, where they are not the headline's: summed likelihood in the first order."""
        scorer = {} if self.scorer == "sum" else {"scorer": self.scorer}
        return scorer | ({} if self.order == 0 else {"prompt_order": str(self.order)})

    def slices(self, ranks: Mapping[str, Tensor]) -> dict[str, Bool[Tensor, "m"]]:
        """Cases by the place in the prompt where the target stands, in quarters of the list."""
        cases, count = ranks["case_id"].long(), int(ranks["num_candidates"].max())
        place = prompt_order(cases, count, self.order).argmin(1)
        quarter = place * 4 // count
        return {f"target_in_quarter_{number + 1}": quarter == number for number in range(4)}

    def test_step(self, batch: SequenceBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Ranks test cases and judges what the language model writes; each prompt is read once for both."""
        found = self._in_chunks(self._examine, batch)
        self.note(PROMPTS, PromptRates, batch, found.pop(PROMPTS))
        if self.generate_at_test:
            self.note(GENERATED, AnswerRates, batch, found.pop(GENERATED))
        self._collect(batch, found)

    def _in_chunks(self, step: Callable[[SequenceBatch], dict[str, Tensor]], batch: SequenceBatch) -> dict[str, Tensor]:
        if not self.llm.sharded:
            return super()._in_chunks(step, batch)
        chunks = list(split_rows(batch, self.chunk_rows))
        # All processes run a divided model equally often: those with fewer rows repeat their last ones.
        missing = self.llm.most(len(chunks)) - len(chunks)
        # As with a whole model: mixed precision would round scores until many tie (PROTOCOL P4).
        with torch.autocast(self.device.type, enabled=False):
            parts = [step(chunk) for chunk in [*chunks, *chunks[-1:] * missing]][: len(chunks)]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    @torch.no_grad()
    def _read(self, batch: SequenceBatch, null: bool = False) -> Reading:
        prompts = self.prompts(batch, null)
        prefix = read_prefix(self.llm, prompts.ids, self.soft(batch, prompts))
        answers = [[self.composer.answers[item] for item in row] for row in batch["candidates"].tolist()]
        return Reading(prompts, prefix, answers)

    def _scores(self, batch: SequenceBatch, given: Likelihoods) -> Float[Tensor, "b c"]:
        null = self.likelihoods(batch, null=True) if self.scorer == "null_context" else None
        return scored(given, self.scorer, null)

    def _written(self, reading: Reading) -> list[str]:
        """Answers in free text; the reading's cache is used up."""
        prompts, prefix, answers = reading
        limits = [
            min(self.answer_tokens or max(map(len, row)) + BEYOND, self.llm.context - len(prompt))
            for prompt, row in zip(prompts.ids, answers, strict=True)
        ]
        ids = greedy(self.llm, prefix, limits, self.repetition_penalty)
        return [str(text) for text in self.llm.tokenizer.batch_decode(ids, skip_special_tokens=True)]

    def _examine(self, batch: SequenceBatch) -> dict[str, Tensor]:
        """What a test wants to know of each row: its rank, what its scores owe to lengths, and what is written."""
        reading = self._read(batch)
        given = likelihoods(self.llm, reading.prefix, reading.answers)
        scores = self._scores(batch, given)
        found = self._rank_target(batch, scores)
        found[PROMPTS] = owed_to_lengths(scores, given.tokens, reading.prompts.shortened)
        if self.generate_at_test:
            titles = [[self.composer.titles[item] for item in row] for row in batch["candidates"].tolist()]
            rows = verdicts(self._written(reading), titles)
            found[GENERATED] = rows.to(float64_device(scores.device))
        return found
