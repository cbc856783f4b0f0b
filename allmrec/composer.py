"""From items to prompts in tokens: titles, slots, and the rule for prompts that are too long."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple

import torch
from jaxtyping import Int
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from allmrec.llm import FrozenLLM
from allmrec.prompts import SLOTS, PromptStyle
from allmrec.slotted import SlottedModel
from allmrec.tokens import Sizes
from common.errors import DataError, UserError
from common.hashing import GOLDEN_GAMMA, mix64
from common.types import PAD

UNTITLED = "untitled"
"""Title of an item that has none."""
USER_SLOT = PAD
"""Item id that stands for the user among a prompt's slots."""


class Prompts(NamedTuple):
    """Prompts in tokens, the item whose vector each slot wants, and whether its history was shortened, row by row."""

    ids: list[list[int]]
    slots: list[list[int]]
    shortened: list[bool]


class Shown(NamedTuple):
    """What the prompts of an ablation still show."""

    user: bool = True
    joint: bool = True
    """Whether slots stand behind titles."""
    titles: bool = True
    in_order: bool = True
    """Whether the history is shown oldest first; else in an order that depends on its items alone."""


EVERYTHING = Shown()


def prompt_order(keys: Int[Tensor, "b"], count: int, seed: int = 0) -> Int[Tensor, "b {count}"]:
    """A permutation of ``count`` columns for each key, uniform over keys and the same on every machine.

    It is the order in which the language model sees candidates; it depends on the case and the seed alone, so that
    neither batches nor processes change it, and further orders are further seeds.

    Args:
        keys: Number of each case.
        count: Number of columns.
        seed: Which of the orders.
    """
    columns = torch.arange(count, device=keys.device)
    rows = mix64(keys.long() + (seed << 40) + GOLDEN_GAMMA)
    return mix64(rows[:, None] + columns + GOLDEN_GAMMA).argsort(dim=1)


class Composer:
    """Writes prompts for one catalogue and one language model.

    A prompt must leave room for its longest candidate's answer. If it does not, the oldest history items are left out,
    one by one; candidates never are. Titles beyond ``max_title_tokens`` are cut, for the whole catalogue at once, so
    that an item has one title wherever it stands.

    Args:
        llm: The language model.
        style: Words of the domain.
        titles: Title of each item; index 0 is padding.
        max_history: Items of the history that a prompt shows, the newest; with 0 it has no clause about it.
        max_title_tokens: Tokens that a title may have.
        shown: What prompts show.

    Raises:
        DataError: If no item has a title.
    """

    def __init__(
        self,
        llm: FrozenLLM,
        style: PromptStyle,
        titles: Sequence[str],
        max_history: int = 10,
        max_title_tokens: int = 64,
        shown: Shown = EVERYTHING,
    ) -> None:
        if not any(titles):
            raise DataError(
                "the data set has no titles, and a language model reads nothing else of an item",
                "Choose a recipe with titles (`recbench list datasets` says which have them).",
            )
        self.llm = llm
        self.style = style
        self.max_history = max_history
        self.shown = shown
        self.titles, self.cut_titles = readable(llm, titles, max_title_tokens)
        self.answers = llm.answer_ids([style.answer(title) for title in self.titles], behind=style.ask(""))

    def __call__(
        self, history: Int[Tensor, "b l"], candidates: Int[Tensor, "b c"], user: bool = True, soft: bool = True
    ) -> Prompts:
        """Prompts of a batch.

        Args:
            history: Items, right-aligned; the last ``max_history`` are shown.
            candidates: Items in the order in which they are shown.
            user: Whether prompts speak of the user.
            soft: Whether prompts have slots.

        Raises:
            UserError: If a prompt does not fit even without history.
        """
        user = user and self.shown.user
        pasts = newest(history, self.max_history)
        shown: list[list[int]] = candidates.tolist()
        ids, shortened = fitted(
            self.llm,
            lambda row: self._text(pasts[row], shown[row], user, soft),
            pasts,
            [self.llm.context - max(len(self.answers[item]) for item in items) for items in shown],
            f"a prompt of {candidates.size(1)} candidates and no history",
            "Lower max_title_tokens, take a protocol with fewer candidates, or a model with a longer context.",
        )
        if not soft:
            return Prompts(ids, [[] for _ in ids], shortened)
        return Prompts(ids, [self._slots(*row, user) for row in zip(pasts, shown, strict=True)], shortened)

    def sizes(self) -> Sizes:
        """What makes one prompt longer than another: titles, each between quotation marks, behind it slot and comma."""
        # An answer has an end token in the place of slot and comma.
        items = torch.tensor([len(answer) + 1 for answer in self.answers])
        items[PAD] = 0
        return Sizes(items, self.max_history)

    def about(self, history: Int[Tensor, "b l"], question: str, user: bool = True, soft: bool = True) -> Prompts:
        """Prompts that tell of a user and a history, and then say ``question`` instead of listing candidates.

        Args:
            history: Items, right-aligned; the last ``max_history`` are shown, fewer where the context is short.
            question: What follows; slots and other special tokens in it are left out.
            user: Whether prompts speak of the user.
            soft: Whether prompts have slots.

        Raises:
            UserError: If a prompt does not fit even without history.
        """
        user = user and self.shown.user
        pasts, question = newest(history, self.max_history), plain(self.llm, question)
        ids, shortened = fitted(
            self.llm,
            lambda row: self.style.profile(self._past(pasts[row]), user, soft, self.shown.joint) + question,
            pasts,
            [self.llm.context - 1] * len(pasts),
            "a prompt with this question and no history",
            "Ask a shorter question, or choose a model with a longer context.",
        )
        return Prompts(ids, [self._slots(past, [], user) if soft else [] for past in pasts], shortened)

    def _ordered(self, past: list[int]) -> list[int]:
        """What a prompt shows of a history, oldest first, in the order in which it does."""
        if self.shown.in_order:
            return past
        mixed = sorted(past)
        Random(str(mixed)).shuffle(mixed)
        return mixed

    def _slots(self, past: list[int], items: list[int], user: bool) -> list[int]:
        """The item whose vector each slot of a prompt wants."""
        return [*([USER_SLOT] if user else []), *(self._ordered(past) + items if self.shown.joint else [])]

    def _past(self, past: list[int]) -> list[str]:
        return self._named(self._ordered(past))

    def _named(self, items: list[int]) -> list[str]:
        return [self.titles[item] if self.shown.titles else "" for item in items]

    def _text(self, past: list[int], items: list[int], user: bool, soft: bool) -> str:
        return self.style.compose(self._past(past), self._named(items), user, soft, self.shown.joint)


def newest(history: Int[Tensor, "b l"], count: int) -> list[list[int]]:
    """The last items of each history, oldest first, without padding.

    >>> newest(torch.tensor([[0, 4, 5], [6, 7, 8]]), 2)
    [[4, 5], [7, 8]]
    """
    shown = history[:, max(history.size(1) - count, 0) :]
    return [[item for item in row if item != PAD] for row in shown.tolist()]


def fitted(
    model: SlottedModel,
    write: Callable[[int], str],
    pasts: Sequence[list[int]],
    rooms: Sequence[int],
    what: str,
    cure: str,
) -> tuple[list[list[int]], list[bool]]:
    """Tokens of texts that tell of histories; one that is too long loses its oldest items, one by one.

    Args:
        model: The model that reads them.
        write: The text of a row, from what is left of its history.
        pasts: Items of each row's history; what is left out goes from here, too.
        rooms: Tokens that each row may have.
        what: What to call a text that does not fit even without history.
        cure: What to do about it.

    Returns:
        The tokens, and which rows were shortened.

    Raises:
        UserError: If a text does not fit even without history.
    """
    ids = model.prompt_ids([write(row) for row in range(len(pasts))])
    shortened = [len(tokens) > room for tokens, room in zip(ids, rooms, strict=True)]
    for row, (past, room) in enumerate(zip(pasts, rooms, strict=True)):
        while (length := len(ids[row])) > room:
            if not past:
                raise UserError(f"{what} has {length} tokens, and {model.name} has room for {room}", cure)
            del past[0]
            ids[row] = model.prompt_ids([write(row)])[0]
    return ids, shortened


def plain(model: SlottedModel, text: str) -> str:
    """A text with a space in the place of all that the tokenizer takes for special tokens, slots included."""
    for token in {*SLOTS, *model.tokenizer.all_special_tokens}:
        text = text.replace(token, " ")
    return text


def readable(model: SlottedModel, titles: Sequence[str], most: int) -> tuple[list[str], int]:
    """Titles without what the tokenizer takes for special tokens, none empty and none too long.

    Args:
        model: The model that reads them.
        titles: Title of each item; index 0 is padding.
        most: Tokens that a title may have.

    Returns:
        The titles, and how many of them were cut.
    """
    clean = [" ".join(plain(model, title).split()) or UNTITLED for title in titles]
    missing = clean[1:].count(UNTITLED)
    if missing:
        rank_zero_warn(f"{missing} of {len(titles) - 1} items have no titles: prompts call them {UNTITLED!r}.")
    cut = 0
    rows: list[list[int]] = model.tokenizer(clean, add_special_tokens=False)["input_ids"]
    for index, row in enumerate(rows):
        if len(row) > most:
            short = str(model.tokenizer.decode(row[:most])).strip().rstrip("\N{REPLACEMENT CHARACTER}")
            # Of a letter that takes several tokens the first may say nothing.
            clean[index] = short or UNTITLED
            cut += 1
    return clean, cut
