"""The pretext task of a stand-in language model: name the candidate whose slot is most similar to the user's."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from allmrec.composer import Composer
from allmrec.llm import IGNORED, FrozenLLM, answer_loss, labelled
from allmrec.standin.settings import Level


def fresh_vectors(shape: tuple[int, ...], width: int, generator: torch.Generator) -> Float[Tensor, "..."]:
    """Random vectors for slots."""
    return torch.randn(*shape, width, generator=generator)


class Lesson(NamedTuple):
    """A batch of the pretext: prompts and answers in tokens, and the vectors of the prompts' slots."""

    prompts: list[list[int]]
    answers: list[list[int]]
    soft: Float[Tensor, "s d"]


def lesson(composer: Composer, rows: int, level: Level, generator: torch.Generator) -> Lesson:
    """Random items with random vectors; the user's vector resembles one candidate's, whose title is the answer."""
    level = level._replace(candidates=min(level.candidates, len(composer.titles) - 1))
    count = level.candidates + level.history
    items = 1 + torch.stack(
        [torch.randperm(len(composer.titles) - 1, generator=generator)[:count] for _ in range(rows)]
    )
    history, shown = items[:, level.candidates :], items[:, : level.candidates]
    width = composer.llm.width
    # Trained projections put out vectors of any length.
    lengths = 0.4 + 0.8 * torch.rand(rows, 1, 1, generator=generator)
    vectors = lengths * fresh_vectors((rows, count), width, generator)
    target = torch.randint(level.candidates, (rows,), generator=generator)
    row = torch.arange(rows)
    unlike = level.noise * torch.rand(rows, 1, generator=generator)
    noise = unlike * lengths[:, 0] * fresh_vectors((rows,), width, generator)
    users = (vectors[row, target] + noise) / (1 + unlike**2).sqrt()
    prompts = composer(history, shown)
    # A prompt that had to be shortened has fewer slots, of which the oldest history is missing.
    soft = []
    for user, given, slots in zip(users, vectors, prompts.slots, strict=True):
        past = given[level.candidates :][level.candidates + level.history - len(slots) + 1 :]
        soft.append(torch.cat([user[None], past, given[: level.candidates]]))
    answers = [composer.answers[item] for item in shown[row, target].tolist()]
    return Lesson(prompts.ids, answers, torch.cat(soft))


def copy_loss(llm: FrozenLLM, batch: Lesson) -> tuple[Float[Tensor, ""], float]:
    """Next-token loss on the answers, and the share of answers whose every token is the likeliest."""
    tokens, labels = labelled(batch.prompts, batch.answers)
    keep = max(map(len, batch.answers)) + 1
    logits = llm.logits(llm.embed(tokens, batch.soft), tokens.real, keep)[:, :-1]
    labels = labels[:, 1 - keep :]
    return answer_loss(logits, labels), float(whole_answers(logits, labels).float().mean())


def whole_answers(logits: Float[Tensor, "b t v"], labels: Int[Tensor, "b t"]) -> Bool[Tensor, "b"]:
    """Which rows have the right token everywhere."""
    return ((logits.argmax(-1) == labels) | (labels == IGNORED)).all(1)
