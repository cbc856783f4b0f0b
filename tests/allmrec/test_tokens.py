"""Padding, positions, splicing and batches of like length."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from allmrec.tokens import Tokens, like_lengths, padding_share, positions, splice


@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=7), min_size=1, max_size=5))
def test_rows_stand_at_the_right_in_their_order(rows: list[list[int]]) -> None:
    tokens = Tokens.of(rows)
    assert [ids[real].tolist() for ids, real in zip(*tokens, strict=True)] == rows
    assert bool(tokens.real[:, -1].all())
    assert [p[real].tolist() for p, real in zip(positions(tokens.real), tokens.real, strict=True)] == [
        list(range(len(row))) for row in rows
    ]


def test_vectors_fill_slots_row_after_row() -> None:
    slots = torch.tensor([[False, True, True], [True, False, False]])
    embeddings, soft = torch.randn(2, 3, 4), torch.randn(3, 4)
    spliced = splice(embeddings, slots, soft)
    assert torch.equal(spliced[0, 1:], soft[:2])
    assert torch.equal(spliced[1, 0], soft[2])
    assert torch.equal(spliced[~slots], embeddings[~slots])


def test_every_slot_needs_a_vector() -> None:
    with pytest.raises(ValueError, match="1 vectors for 2 slots"):
        splice(torch.zeros(1, 2, 3), torch.ones(1, 2, dtype=torch.bool), torch.zeros(1, 3))


def test_batches_cover_all_rows_and_pad_little() -> None:
    lengths = torch.randint(40, 400, (1003,))
    batches = like_lengths(lengths, 4, torch.Generator().manual_seed(0))
    assert sorted(torch.cat(batches).tolist()) == list(range(1003))
    assert padding_share(lengths, batches) < 0.02
    assert padding_share(lengths, list(torch.split(torch.arange(1003), 4))) > 0.2


def test_batches_change_with_the_generator_and_sorted_ones_start_with_the_longest() -> None:
    lengths = torch.randint(1, 50, (200,))
    first, second = (like_lengths(lengths, 8, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    assert [batch.tolist() for batch in first] != [batch.tolist() for batch in second]
    ordered = lengths[torch.cat(like_lengths(lengths, 8))]
    assert torch.equal(ordered, ordered.sort(descending=True).values)
