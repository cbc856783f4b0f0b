"""RecFormer's texts, against loops, and what is hidden in them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from allmrec.baselines.recformer_text import (
    FRONT,
    KEY,
    PADDED,
    VALUE,
    Layout,
    Pieces,
    item_attributes,
    joined,
    lay_out,
    masked,
    pieces,
    train_tokenizer,
    word_starts,
)
from common.errors import DataError, UserError

ROWS = [
    [],
    [(5, KEY), (6, VALUE), (7, VALUE)],
    [(5, KEY), (8, VALUE)],
    [],
    [(5, KEY), (9, VALUE), (10, VALUE), (11, KEY)],
]
TITLES = ["", "red wolf", "blue sea", "", "old road to the city"]
WORDS = {"brand": ["", "Acme", "", "", "Bolt"]}


def known() -> Pieces:
    return joined(ROWS, torch.zeros(20, dtype=torch.bool))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 4), min_size=4, max_size=4), min_size=1, max_size=4),
    st.integers(1, 3),
    st.integers(2, 12),
    st.integers(1, 5),
)
def test_text_is_that_of_the_naive_loop(histories: list[list[int]], items: int, tokens: int, multiple: int) -> None:
    text = lay_out(torch.tensor(histories), known(), Layout(0, 1, items, tokens, multiple))
    wanted = []
    for history in histories:
        row = [(0, FRONT, 0)]
        newest = [item for item in reversed(history) if item][:items]
        row += [(token, kind, place) for place, item in enumerate(newest, 1) for token, kind in ROWS[item]]
        wanted.append(row[:tokens])
    longest = max(map(len, wanted))
    width = -(-longest // multiple) * multiple
    padded = [row + [(1, PADDED, items)] * (width - len(row)) for row in wanted]
    assert torch.stack([text.ids, text.types, text.places], dim=2).tolist() == [
        [list(t) for t in row] for row in padded
    ]
    assert text.real.sum(1).tolist() == [len(row) for row in wanted]


def test_order_of_events_changes_the_text() -> None:
    layout = Layout(0, 1)
    first, second = (lay_out(torch.tensor([row]), known(), layout) for row in ([1, 2], [2, 1]))
    assert not torch.equal(first.ids, second.ids)


def test_attributes_keep_their_order_and_leave_out_what_is_unknown() -> None:
    rows = item_attributes(TITLES, WORDS, ["brand", "title"])
    assert rows[1] == [("brand", "Acme"), ("title", "red wolf")]
    assert rows[2:4] == [[("title", "blue sea")], []]


def test_unknown_attributes_are_named_with_those_there_are() -> None:
    with pytest.raises(UserError, match="'colour'") as mistake:
        item_attributes(TITLES, WORDS, ["title", "colour"])
    assert "title, brand" in str(mistake.value)


def test_an_attribute_that_no_item_has_is_refused_by_name() -> None:
    with pytest.raises(DataError, match="no item of the data set has a category") as mistake:
        item_attributes(TITLES, WORDS | {"category": [" "] * 5}, ["title", "category"])
    assert "title, brand" in str(mistake.value)
    with pytest.raises(UserError, match="no attribute to read"):
        item_attributes(TITLES, WORDS, [])


def test_pieces_are_what_the_tokenizer_makes_of_names_and_values() -> None:
    tokenizer = train_tokenizer(["title", "brand", *TITLES, *WORDS["brand"]], 300)
    made = pieces(item_attributes(TITLES, WORDS, ["title", "brand"]), tokenizer)
    row = slice(int(made.offsets[4]), int(made.offsets[5]))
    assert str(tokenizer.decode(made.ids[row])).split() == [
        "title",
        "old",
        "road",
        "to",
        "the",
        "city",
        "brand",
        "Bolt",
    ]
    parts = ["title", "old road to the city", "brand", "Bolt"]
    lengths = [len(tokenizer(part, add_special_tokens=False)["input_ids"]) for part in parts]
    kinds = [kind for kind, count in zip((KEY, VALUE, KEY, VALUE), lengths, strict=True) for _ in range(count)]
    assert made.types[row].tolist() == kinds
    assert made.offsets[3] == made.offsets[4]


def test_attributes_are_cut_with_their_names() -> None:
    tokenizer = train_tokenizer([*TITLES, "title"], 300)
    rows = item_attributes(TITLES, WORDS, ["title", "brand"])
    titles = item_attributes(TITLES, WORDS, ["title"])
    whole, cut = pieces(rows, tokenizer), pieces(titles, tokenizer, max_attribute_tokens=3)
    assert cut.offsets.diff().tolist() == [0, 3, 3, 0, 3]
    assert torch.equal(cut.ids[:3], whole.ids[:3])


def test_only_the_first_attributes_are_read() -> None:
    tokenizer, row = train_tokenizer([*TITLES, "title"], 300), [("title", "city"), ("brand", "Bolt")] * 2
    all_of_them, first = (pieces([[], row[:count]], tokenizer) for count in (4, 3))
    assert torch.equal(all_of_them.ids, first.ids)


def test_whole_words_are_hidden_and_the_front_never() -> None:
    tokenizer = train_tokenizer(["aa bb aa bb", "title"], 265)
    rows = item_attributes(["", "aab bba abab"], {}, ["title"])
    text = lay_out(torch.tensor([[1]]), pieces(rows, tokenizer), Layout(0, 1))
    word = text.begins.long().cumsum(1)
    draws = torch.ones(text.ids.shape).index_fill(1, torch.tensor([0, 2]), 0.0)
    _, wanted = masked(text, 4, len(tokenizer), 0.5, draws)
    assert torch.equal(wanted, word == 2)
    assert int(wanted.sum()) > 1


def test_hidden_tokens_are_mostly_masks() -> None:
    rows = [[], [(5 + i % 10, VALUE) for i in range(4000)]]
    text = lay_out(torch.tensor([[1]]), joined(rows, torch.ones(20, dtype=torch.bool)), Layout(0, 1, max_tokens=5000))
    torch.manual_seed(0)
    hidden, wanted = masked(text, 4, 20, 0.15)
    assert abs(float(wanted.float().mean()) - 0.15) < 0.02
    assert abs(float((hidden.ids[wanted] == 4).float().mean()) - 0.8) < 0.06
    assert torch.equal(hidden.ids[~wanted], text.ids[~wanted])


def test_words_begin_where_the_vocabulary_carries_a_space() -> None:
    tokenizer = train_tokenizer(["red wolf", "red sea"], 300)
    starts = word_starts(tokenizer)
    ids = tokenizer(" red wolf", add_special_tokens=False)["input_ids"]
    assert int(starts[ids].sum()) == 2


def test_the_same_texts_give_the_same_tokenizer() -> None:
    first, second = (train_tokenizer(texts, 300) for texts in (TITLES, TITLES[::-1]))
    assert first.get_vocab() == second.get_vocab()
