"""Sentences about a user's history, made of titles that are tokenised once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from allmrec.sentences import TextTower
from common.errors import UserError
from common.text.cache import kept_vectors

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
        self.cache: Path | None = None

    def attach(self, titles: Sequence[str], cache: Path | None = None) -> None:
        """Tokenises the title of each item; index 0 is padding.

        Args:
            titles: Title of each item.
            cache: Folder in which vectors of an encoder that does not learn are kept from run to run (:meth:`keep`).

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
        self.front, self.back = around(self.tower.tokenizer)
        least = len([*self.front, *self.introduction, *self.back]) + 1
        if self.tower.max_tokens < least:
            raise UserError(
                f"--model.max_tokens is {self.tower.max_tokens}, which leaves no room for a title",
                f"Give {least} or more.",
            )
        missing = sum(not title.strip() for title in titles[1:])
        if missing:
            rank_zero_warn(f"{missing} of {len(titles) - 1} items have no titles: CTRL's sentences leave them blank.")
        self.known, self.cache = {}, cache

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
            self._read_new(shown, device)
            return torch.stack([self.known[items] for items in shown]).to(device)
        distinct = list(dict.fromkeys(shown))
        vectors = self.tower.read([self.tokens(items) for items in distinct], device)
        place = {items: row for row, items in enumerate(distinct)}
        return vectors[[place[items] for items in shown]]

    def keep(self, histories: Sequence[Sequence[int]], device: torch.device) -> None:
        """Reads all histories of a training, with an encoder that does not learn, or takes them from the cache.

        The last bits of a vector depend on which sentences are read together. Read all at once, they no longer depend
        on the batches of a training.
        """
        self._read_new(self._shown(histories), device, self.cache)

    def _read_new(self, shown: Sequence[tuple[int, ...]], device: torch.device, cache: Path | None = None) -> None:
        new = sorted(set(shown) - self.known.keys())
        if not new:
            return
        rows = [self.tokens(items) for items in new]

        def make() -> Tensor:
            # What is kept serves runs of any precision.
            with torch.autocast(device.type, enabled=False):
                return self.tower.read(rows, device).cpu()

        if cache is None:
            vectors = make()
        else:
            # Beside the model, a vector depends on nothing but the tokens of its sentence, which are cut already.
            sentences = [" ".join(map(str, row)) for row in rows]
            vectors = kept_vectors({"kind": "tokens", **self.tower.identity}, sentences, cache, make)
        self.known |= dict(zip(new, vectors.to(device), strict=True))

    def _shown(self, histories: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
        return [tuple(items[-self.shown :]) for items in histories]


def around(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """The special tokens that a tokenizer puts in front of a text, and those behind it."""
    bare, whole = (tokenizer(INTRODUCTION, add_special_tokens=special)["input_ids"] for special in (False, True))
    start = next(place for place in range(len(whole)) if whole[place : place + len(bare)] == bare)
    return whole[:start], whole[start + len(bare) :]
