"""What a language model makes of its candidates: the likelihood of each title, or a written answer.

Both read the prompt once. Its keys and values stay in a cache, which all candidates of the row share: their tokens
stand side by side in one row behind the prompt, and a mask keeps each candidate to the prompt and itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from lightning.pytorch.utilities.memory import is_oom_error
from torch import Tensor
from transformers import Cache, DynamicCache

from allmrec.llm import FrozenLLM, precise, unfit
from allmrec.tokens import Tokens, positions

Scorer = Literal["sum", "mean", "null_context"]
Answers = Sequence[Sequence[Sequence[int]]]
"""Tokens of each candidate's answer, the end token included, for each row of a batch."""

ROUNDING, COARSE_ROUNDING = 0.01, 0.5
"""Nats by which a likelihood may depend on what is read beside it, with weights in fp32 and in coarser numbers."""


class Prefix(NamedTuple):
    """A prompt that was read: its cache, which tokens are real, and logits of what comes next."""

    cache: Cache
    real: Bool[Tensor, "b t"]
    logits: Float[Tensor, "b v"]


class Likelihoods(NamedTuple):
    """Log-probability of each candidate's answer, summed over its tokens, and how many those are."""

    total: Float[Tensor, "b c"]
    tokens: Int[Tensor, "b c"]


def scored(given: Likelihoods, scorer: Scorer, null: Likelihoods | None = None) -> Float[Tensor, "b c"]:
    """One score per candidate.

    Args:
        given: Likelihoods after the whole prompt.
        scorer: ``sum`` of log-probabilities, closing quote and end token included; ``mean`` over tokens, which does
            not mind long titles; ``null_context``: the sum less that after the null context, which does not mind likely
            ones.
        null: Likelihoods after a prompt without user and history; ``null_context`` needs them.
    """
    if scorer == "mean":
        return given.total / given.tokens
    if scorer == "sum":
        return given.total
    if null is None:
        raise ValueError("the scorer null_context needs the likelihoods after the null context")
    return given.total - null.total


@torch.no_grad()
def read_prefix(llm: FrozenLLM, prompts: Sequence[Sequence[int]], soft: Float[Tensor, "s d"] | None) -> Prefix:
    """Reads prompts, with ``soft`` in their slots, and keeps their keys and values."""
    tokens = Tokens.of(prompts, llm.device)
    return read(llm, llm.embed(tokens, soft), tokens.real)


@torch.no_grad()
def read(llm: FrozenLLM, embeddings: Float[Tensor, "b t d"], real: Bool[Tensor, "b t"]) -> Prefix:
    """Reads vectors, padded on the left or within, and keeps their keys and values."""
    # A DynamicCache keeps every position; a sliding-window cache would evict the prompt.
    cache = DynamicCache()
    answer = llm(
        inputs_embeds=embeddings,
        attention_mask=real.long(),
        position_ids=positions(real),
        logits_to_keep=1,
        **filling(llm, cache),
    )
    if not {"cache", "past_key_values"} & answer.keys():
        raise RuntimeError("the model keeps no keys and values of what it reads")
    return Prefix(cache, real, precise(answer.logits[:, -1]))


def filling(llm: FrozenLLM, cache: Cache) -> dict[str, Any]:
    """Arguments with which a model reads a cache and adds to it."""
    return {llm.cache_argument: cache, "use_cache": True}


class Packed(NamedTuple):
    """Candidates of each row side by side."""

    ids: Int[Tensor, "b m"]
    candidate: Int[Tensor, "b m"]
    """Which candidate a token belongs to; -1 where padded."""
    step: Int[Tensor, "b m"]
    """Place within the candidate."""


def packed(answers: Answers, device: torch.device | None = None) -> Packed:
    """All candidates' tokens but the last, which nothing follows."""
    rows = [[(t, c, k) for c, answer in enumerate(row) for k, t in enumerate(answer[:-1])] for row in answers]
    width = max(map(len, rows))
    table = torch.tensor([row + [(0, -1, 0)] * (width - len(row)) for row in rows], dtype=torch.long)
    return Packed(*table.view(len(rows), width, 3).to(device).unbind(2))


def packed_mask(real: Bool[Tensor, "b t"], pack: Packed, dtype: torch.dtype) -> Float[Tensor, "b 1 m t_plus_m"]:
    """0 where a token may look, the least number elsewhere: at the prompt, and at what stands before it in its own."""
    own = pack.candidate[:, :, None] == pack.candidate[:, None]
    earlier = pack.step[:, :, None] >= pack.step[:, None]
    prompt = real[:, None].expand(-1, pack.ids.size(1), -1)
    seen = torch.cat([prompt, own & earlier], dim=2)
    return torch.zeros_like(seen, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)[:, None]


@torch.no_grad()
def likelihoods(llm: FrozenLLM, prefix: Prefix, answers: Answers) -> Likelihoods:
    """Log-probability of every candidate's answer after its row's prompt.

    Equal to one forward pass for each pair of prompt and candidate, at the price of one pass over the prompt and one
    over all candidates together. Equal answers have equal scores, and the order of columns changes none, to the last
    bit; which others there are changes them by rounding alone. ``prefix`` is left as it was.

    Args:
        llm: The language model.
        prefix: The prompts, read.
        answers: As many candidates for every row.
    """
    answers, place = distinct(answers)
    column = torch.tensor(place, device=prefix.real.device)
    first = torch.tensor([[answer[0] for answer in row] for row in answers], device=prefix.real.device)
    count = torch.tensor([[len(answer) for answer in row] for row in answers], device=prefix.real.device)
    total = prefix.logits.log_softmax(-1).gather(1, first)
    pack = packed(answers, prefix.real.device)
    if not pack.ids.size(1):
        return Likelihoods(total.gather(1, column), count.gather(1, column))
    embeddings = llm.embedding(pack.ids)
    answer = llm(
        inputs_embeds=embeddings,
        attention_mask=packed_mask(prefix.real, pack, embeddings.dtype),
        position_ids=prefix.real.sum(1, keepdim=True) + pack.step,
        **filling(llm, prefix.cache),
    )
    prefix.cache.crop(-pack.ids.size(1))
    following = [[token for candidate in row for token in candidate[1:]] for row in answers]
    wanted = torch.zeros_like(pack.ids)
    wanted[pack.candidate >= 0] = torch.tensor([t for row in following for t in row], device=wanted.device)
    logits = precise(answer.logits)
    terms = logits.gather(2, wanted[..., None]).squeeze(2) - logits.logsumexp(2)
    terms = terms.masked_fill(pack.candidate < 0, 0.0)
    total = total.scatter_add(1, pack.candidate.clamp(min=0), terms)
    return Likelihoods(total.gather(1, column), count.gather(1, column))


def require_side_by_side(llm: FrozenLLM) -> None:
    """Checks that a model scores two short answers side by side as it scores each by itself.

    Raises:
        UserError: If it does not, or takes neither the cache nor the positions that this wants.
    """
    mode, kind = llm.training, llm.module.config.model_type
    llm.eval()
    try:
        difference = _dependence(llm)
    except Exception as error:
        if is_oom_error(error):
            raise
        raise unfit(llm.name, kind, f"{type(error).__name__} while two were tried") from error
    finally:
        llm.train(mode)
    if not difference <= (ROUNDING if llm.module.dtype == torch.float32 else COARSE_ROUNDING):
        raise unfit(llm.name, kind, f"the likelihood of one depends on the others, by {difference:.2g} nats")


@torch.no_grad()
def _dependence(llm: FrozenLLM) -> float:
    """By how much likelihoods of answers that are read together differ from those of each alone."""
    prompts, answers = llm.prompt_ids(["one", "one two three"]), llm.answer_ids([" four five", " six seven eight"])
    together = likelihoods(llm, read_prefix(llm, prompts, None), [answers] * len(prompts)).total
    alone = [[-len(answer) * llm.answer_loss([prompt], [answer], None) for answer in answers] for prompt in prompts]
    return float((together - torch.tensor(alone, device=together.device)).abs().max())


def distinct(answers: Answers) -> tuple[Answers, list[list[int]]]:
    """Each row's distinct answers in an order of their own, and the place of each candidate's among them.

    Rows with fewer of them repeat their first.

    >>> distinct([[[7], [5, 2], [7]]])
    ([[(5, 2), (7,)]], [[1, 0, 1]])
    """
    rows = [sorted({tuple(answer) for answer in row}) for row in answers]
    width = max(map(len, rows))
    places = [{answer: place for place, answer in enumerate(row)} for row in rows]
    columns = [[place[tuple(answer)] for answer in row] for row, place in zip(answers, places, strict=True)]
    return [row + row[:1] * (width - len(row)) for row in rows], columns


@torch.no_grad()
def greedy(
    llm: FrozenLLM,
    prefix: Prefix,
    limits: Sequence[int],
    repetition_penalty: float = 1.0,
    penalised: Sequence[int] = (),
) -> list[list[int]]:
    """The likeliest next token, again and again, until a token that ends answers, which is not returned.

    Args:
        llm: The language model.
        prefix: The prompts, read. Its cache is used up.
        limits: Tokens that each row may write, the end token included.
        repetition_penalty: Divides positive logits of tokens written before, and multiplies negative ones; 1.5 in the
            released code. N. Keskar et al., "CTRL", 2019 (https://arxiv.org/abs/1909.05858).
        penalised: Tokens that count as written from the start.
    """
    rows = torch.arange(len(limits))
    written: list[list[int]] = [[] for _ in limits]
    ended = [False] * len(limits)
    penalty = torch.ones_like(prefix.logits)
    penalty[:, list(penalised)] = repetition_penalty
    logits, real = prefix.logits, prefix.real
    while True:
        scores = torch.where(logits > 0, logits / penalty, logits * penalty)
        tokens = scores.argmax(1)
        for row, token in enumerate(tokens.tolist()):
            ended[row] = ended[row] or token in llm.end_ids or len(written[row]) == limits[row]
            if not ended[row]:
                written[row].append(token)
        if llm.all_done(
            all(end or len(text) == limit for end, text, limit in zip(ended, written, limits, strict=True))
        ):
            break
        penalty[rows.to(tokens.device), tokens] = repetition_penalty
        real = torch.cat([real, real.new_ones(len(real), 1)], dim=1)
        answer = llm(
            inputs_embeds=llm.embedding(tokens[:, None]),
            attention_mask=real.long(),
            # Beyond the context only in rows that have ended, while others write on.
            position_ids=(real.sum(1, keepdim=True) - 1).clamp(max=llm.context - 1),
            **filling(llm, prefix.cache),
        )
        logits = precise(answer.logits[:, -1])
    return written
