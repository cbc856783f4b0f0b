"""Padding, positions, splicing and batches of similar length."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from allmrec.tokens import Tokens, in_batches, padding_share, positions, similar_lengths, splice


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
    batches = similar_lengths(lengths, 4, torch.Generator().manual_seed(0))
    assert sorted(torch.cat(batches).tolist()) == list(range(1003))
    assert padding_share([lengths[rows] for rows in batches]) < 0.02
    assert padding_share(torch.split(lengths, 4)) > 0.2


def test_batches_change_with_the_generator_and_sorted_ones_start_with_the_longest() -> None:
    lengths = torch.randint(1, 50, (200,))
    first, second = (similar_lengths(lengths, 8, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    assert [batch.tolist() for batch in first] != [batch.tolist() for batch in second]
    ordered = lengths[torch.cat(similar_lengths(lengths, 8))]
    assert torch.equal(ordered, ordered.sort(descending=True).values)


def test_results_of_batches_come_back_in_the_order_of_the_rows() -> None:
    lengths, sizes = torch.randint(1, 50, (23,)), []

    def step(rows: Tensor) -> Tensor:
        sizes.append(len(rows))
        return torch.stack([rows, lengths[rows]], dim=1).double()

    wanted = torch.stack([torch.arange(23), lengths], dim=1).double()
    assert torch.equal(in_batches(lengths, 5, step), wanted)
    assert sizes == [5, 5, 5, 5, 3]
