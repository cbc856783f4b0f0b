"""RecFormer's texts: items as tokens of keys and values, histories as one text with the newest item first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from common.errors import DataError, UserError
from common.types import PAD

FRONT, KEY, VALUE, PADDED = range(4)
"""Token types: ``<s>``, the name of an attribute, its value, padding."""
MOST_ATTRIBUTES = 3
"""Attributes of an item that are read, the first ones."""
BEGIN, PADDING, END, UNKNOWN, MASK = "<s>", "<pad>", "</s>", "<unk>", "<mask>"
NAMES = {"bos_token": BEGIN, "pad_token": PADDING, "eos_token": END, "unk_token": UNKNOWN, "mask_token": MASK}
"""RoBERTa's special tokens."""


class Pieces(NamedTuple):
    """Tokens of all items, one item after the other: item ``i`` has ``offsets[i]:offsets[i + 1]``, padding has none."""

    ids: Int[Tensor, "m"]
    types: Int[Tensor, "m"]
    begins: Bool[Tensor, "m"]
    """Whether a token starts a word."""
    offsets: Int[Tensor, "i_plus_2"]

    def to(self, device: torch.device) -> Pieces:
        """The same on a device."""
        return Pieces(*(part.to(device) for part in self))


class Text(NamedTuple):
    """Tokens of texts, ``<s>`` first, padded on the right."""

    ids: Int[Tensor, "b t"]
    types: Int[Tensor, "b t"]
    places: Int[Tensor, "b t"]
    """Item positions: 0 for ``<s>``, 1 for tokens of the newest item, and so on; the highest one for padding."""
    begins: Bool[Tensor, "b t"]
    real: Bool[Tensor, "b t"]


class Layout(NamedTuple):
    """How texts are laid out.

    Attributes:
        begin: Id of ``<s>``.
        padding: Id of padding.
        max_items: Items of a text.
        max_tokens: Tokens of a text, including ``<s>``; what is cut are the oldest items, which come last.
        multiple: Texts are padded to a multiple of this number, the encoder's window.
    """

    begin: int
    padding: int
    max_items: int = 50
    max_tokens: int = 1024
    multiple: int = 1


def item_attributes(
    titles: Sequence[str], words: Mapping[str, Sequence[str]], names: Sequence[str]
) -> list[list[tuple[str, str]]]:
    """Names and values of each item's known attributes, in the order of ``names``; index 0 is padding.

    Raises:
        UserError: If no name is given, or the data set does not have an attribute.
        DataError: If no item has a value of one.
    """
    known = {"title": titles, **words}
    there = ", ".join(name for name, values in known.items() if any(value.strip() for value in values))
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise UserError(
            f"the data set has no attribute {unknown[0]!r}" if unknown else "RecFormer is given no attribute to read",
            f"Choose --model.attributes from: {there}.",
        )
    empty = [name for name in names if not any(value.strip() for value in known[name])]
    if empty:
        raise DataError(
            f"no item of the data set has a {empty[0]}",
            f"Choose --model.attributes from: {there}." if there else "Choose a recipe with titles.",
        )
    return [[(name, known[name][i]) for name in names if known[name][i].strip()] for i in range(len(titles))]


def pieces(
    attributes: Sequence[Sequence[tuple[str, str]]],
    tokenizer: PreTrainedTokenizerFast,
    max_attribute_tokens: int = 32,
) -> Pieces:
    """Tokenises items, each distinct text once.

    Args:
        attributes: Name and value pairs of each item.
        tokenizer: Tokenizer of the encoder.
        max_attribute_tokens: Tokens of an attribute, including its name; longer ones are cut.
    """
    kept = [list(pairs[:MOST_ATTRIBUTES]) for pairs in attributes]
    texts = list(dict.fromkeys(text for pairs in kept for pair in pairs for text in pair))
    made = tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
    known = dict(zip(texts, made, strict=True))
    rows = []
    for pairs in kept:
        row: list[tuple[int, int]] = []
        for name, value in pairs:
            both = [(token, KEY) for token in known[name]] + [(token, VALUE) for token in known[value]]
            row += both[:max_attribute_tokens]
        rows.append(row)
    return joined(rows, word_starts(tokenizer))


def joined(rows: Sequence[Sequence[tuple[int, int]]], starts: Bool[Tensor, "v"]) -> Pieces:
    """Pieces of items that are given as rows of (token, type).

    Args:
        rows: One row per item; row 0 is padding and empty.
        starts: Which tokens of the vocabulary start a word.
    """
    flat = torch.tensor([pair for row in rows for pair in row], dtype=torch.long).view(-1, 2)
    ids, types = flat.unbind(1)
    change = torch.ones_like(types, dtype=torch.bool)
    change[1:] = types[1:] != types[:-1]
    offsets = torch.tensor([0, *(len(row) for row in rows)]).cumsum(0)
    change[offsets[:-1].clamp(max=max(len(ids) - 1, 0))] = len(ids) > 0
    return Pieces(ids, types, starts[ids] | change, offsets)


def lay_out(history: Int[Tensor, "b l"], known: Pieces, layout: Layout) -> Text:
    """Texts of histories, the newest item first.

    Args:
        history: Items, oldest first, ``PAD`` anywhere between.
        known: Tokens of all items, on the same device.
        layout: How texts are laid out.
    """
    device = history.device
    newest = history.flip(1)
    rank = (newest != PAD).cumsum(1)
    newest = newest.masked_fill(rank > layout.max_items, PAD)
    first, count = known.offsets[newest], known.offsets[newest + 1] - known.offsets[newest]
    # The tokens of an item follow those of newer items, and <s> comes first.
    column = 1 + count.cumsum(1) - count
    repeats = count.flatten()
    total = int(repeats.sum())

    def repeated(values: Int[Tensor, "b l"]) -> Int[Tensor, "t"]:
        return values.flatten().repeat_interleave(repeats, output_size=total)

    inside = torch.arange(total, device=device) - repeated((repeats.cumsum(0) - repeats).view_as(count))
    rows = repeated(torch.arange(len(history), device=device)[:, None].expand_as(count))
    columns = repeated(column) + inside
    fits = columns < layout.max_tokens
    rows, columns = rows[fits], columns[fits]
    source = (repeated(first) + inside)[fits]
    width = 1 + int(columns.max()) if len(columns) else 1
    width = -(-width // layout.multiple) * layout.multiple
    shape = (len(history), width)
    text = Text(
        ids=torch.full(shape, layout.padding, device=device),
        types=torch.full(shape, PADDED, device=device),
        places=torch.full(shape, layout.max_items, device=device),
        begins=torch.zeros(shape, dtype=torch.bool, device=device),
        real=torch.zeros(shape, dtype=torch.bool, device=device),
    )
    text.ids[:, 0], text.types[:, 0], text.places[:, 0], text.real[:, 0] = layout.begin, FRONT, 0, True
    text.ids[rows, columns] = known.ids[source]
    text.types[rows, columns] = known.types[source]
    text.places[rows, columns] = repeated(rank)[fits]
    text.begins[rows, columns] = known.begins[source]
    text.real[rows, columns] = True
    return text


def masked(
    text: Text, mask_id: int, vocabulary: int, share: float, draws: Float[Tensor, "b t"] | None = None
) -> tuple[Text, Bool[Tensor, "b t"]]:
    """Hides whole words: of their tokens, 8 in 10 become ``<mask>``, 1 becomes another token, and 1 stays.

    Args:
        text: Texts.
        mask_id: Id of ``<mask>``.
        vocabulary: Number of tokens to draw other tokens from.
        share: Share of words that are hidden.
        draws: A number from 0 to 1 for each word, by its number in the row; drawn here if not given.

    Returns:
        The texts with hidden words, and which tokens are to be found.
    """
    word = text.begins.long().cumsum(1)
    draws = torch.rand(text.ids.shape, device=text.ids.device) if draws is None else draws
    wanted = (draws.gather(1, word.clamp(max=draws.size(1) - 1)) < share) & text.real & (text.types != FRONT)
    fate = torch.rand(text.ids.shape, device=text.ids.device)
    others = torch.randint(vocabulary, text.ids.shape, device=text.ids.device)
    ids = text.ids.masked_fill(wanted & (fate < 0.8), mask_id)
    return text._replace(ids=torch.where(wanted & (fate >= 0.9), others, ids)), wanted


def word_starts(tokenizer: PreTrainedTokenizerFast) -> Bool[Tensor, "v"]:
    """Which tokens start a word: those that include the space before it, or in BERT's vocabulary bear no ``##``."""
    tokens = [str(token) for token in tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))]
    spaced = torch.tensor([token.startswith(("Ġ", "▁")) for token in tokens])
    return spaced if spaced.any() else torch.tensor([not token.startswith("##") for token in tokens])


def train_tokenizer(texts: Sequence[str], size: int) -> PreTrainedTokenizerFast:
    """A byte-pair tokenizer of a catalogue's texts with RoBERTa's special tokens; their order does not matter."""
    tokenizer = Tokenizer(BPE(unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=True)
    tokenizer.decoder = ByteLevelDecoder()
    special = [BEGIN, PADDING, END, UNKNOWN, MASK]
    alphabet = ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        sorted(texts),
        BpeTrainer(vocab_size=size, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    return wrapped(tokenizer)


def wrapped(tokenizer: Tokenizer, names: Mapping[str, str] = NAMES) -> PreTrainedTokenizerFast:
    """A tokenizer with named special tokens."""
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def special_names(tokenizer: PreTrainedTokenizerFast) -> dict[str, str]:
    """Special tokens of a tokenizer by their names."""
    return {name: str(token) for name in NAMES if (token := getattr(tokenizer, name))}
