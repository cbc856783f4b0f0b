"""Sentences about a user's history, made of titles that are tokenised once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from allmrec.sentences import TextTower
from common.errors import UserError

INTRODUCTION, SEPARATOR = "chosen so far:", "|"


class HistoryTexts(nn.Module):
    """Vectors of sentences that list the titles of a history, oldest first.

    A sentence that is too long for the encoder loses its oldest titles; a single title that is too long is cut. An
    encoder that does not learn reads each history only once.

    Args:
        sbert: Sentence model: ``minilm``, a name on the hub, or a folder.
        trained: Whether it learns.
        shown: Newest items of a history that the sentence lists.
        max_tokens: Tokens of a sentence; ``None`` takes the model's own limit.
        gradient_checkpointing: Whether its layers are computed again in the backward pass rather than kept.
    """

    def __init__(
        self,
        sbert: str,
        trained: bool = True,
        shown: int = 10,
        max_tokens: int | None = None,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.tower = TextTower(sbert, trained, max_tokens, unit=False, gradient_checkpointing=gradient_checkpointing)
        self.shown = shown
        self.known: dict[tuple[int, ...], Tensor] = {}
        self.titles: list[list[int]] = []

    def attach(self, titles: Sequence[str]) -> None:
        """Tokenises the title of each item; index 0 is padding.

        Raises:
            UserError: If no item has a title, or there is no room for one in a sentence.
        """
        if not any(title.strip() for title in titles):
            raise UserError(
                "the data set has no titles, and CTRL's sentences consist of titles",
                "Choose a recipe with titles (`recbench list datasets`).",
            )
        words = self.tower.tokenizer([*titles, INTRODUCTION, SEPARATOR], add_special_tokens=False)["input_ids"]
        *self.titles, self.introduction, self.separator = words
        around: list[int] = self.tower.tokenizer("")["input_ids"]
        self.front, self.back = around[:1], around[1:]
        least = len([*self.front, *self.introduction, *self.back]) + 1
        if self.tower.max_tokens < least:
            raise UserError(
                f"--model.init_args.max_tokens is {self.tower.max_tokens}, which leaves no room for a title",
                f"Give {least} or more.",
            )
        missing = sum(not title.strip() for title in titles[1:])
        if missing:
            rank_zero_warn(f"{missing} of {len(titles) - 1} items have no titles: CTRL's sentences leave them blank.")
        self.known = {}

    def tokens(self, items: Sequence[int]) -> list[int]:
        """The sentence about a history, in tokens."""
        start = [*self.front, *self.introduction]
        room = self.tower.max_tokens - len(start) - len(self.back)
        listed: list[int] = []
        for item in reversed(items):
            more = [*self.titles[item], *(self.separator if listed else [])]
            if listed and len(listed) + len(more) > room:
                break
            listed = [*more[:room], *listed]
        return [*start, *listed, *self.back]

    def forward(self, histories: Sequence[Sequence[int]], device: torch.device) -> Float[Tensor, "n w"]:
        """Vectors of histories, none of which is empty; equal ones are encoded once."""
        shown = self._shown(histories)
        if not self.tower.trained:
            self.keep(shown, device)
            return torch.stack([self.known[items] for items in shown]).to(device)
        distinct = list(dict.fromkeys(shown))
        vectors = self.tower.read([self.tokens(items) for items in distinct], device)
        place = {items: row for row, items in enumerate(distinct)}
        return vectors[[place[items] for items in shown]]

    def keep(self, histories: Sequence[Sequence[int]], device: torch.device) -> None:
        """Reads the histories that are not known yet, with an encoder that does not learn.

        The last bits of a vector depend on which sentences are read together. Read all at once, they no longer depend
        on the batches of a training.
        """
        new = sorted(set(self._shown(histories)) - self.known.keys())
        if new:
            vectors = self.tower.read([self.tokens(items) for items in new], device)
            self.known |= dict(zip(new, vectors, strict=True))

    def _shown(self, histories: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
        return [tuple(items[-self.shown :]) for items in histories]
