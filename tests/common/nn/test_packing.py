"""Packed rows against a loop over histories."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from common.nn.packing import PackedRows

LENGTHS = st.lists(st.integers(0, 5), min_size=1, max_size=6)


def _real(lengths: list[int], width: int = 5) -> torch.Tensor:
    return torch.arange(width).expand(len(lengths), -1) >= width - torch.tensor(lengths)[:, None]


@given(LENGTHS)
def test_rows_are_the_real_positions_of_one_history_after_the_other(lengths: list[int]) -> None:
    packed, states = PackedRows(_real(lengths)), torch.randn(len(lengths), 5, 3)
    expected = [states[user, 5 - length :] for user, length in enumerate(lengths)]
    assert torch.equal(packed.pack(states), torch.cat(expected))
    assert packed.earlier.tolist() == [place for length in lengths for place in range(length)]


@given(LENGTHS)
def test_unpacking_restores_the_rectangle_and_fills_the_rest(lengths: list[int]) -> None:
    real = _real(lengths)
    packed, states, fill = PackedRows(real), torch.randn(len(lengths), 5, 3), torch.randn(3)
    for filled, filling in ((None, torch.zeros(3)), (fill, fill)):
        restored = packed.unpack(packed.pack(states), filled)
        assert torch.equal(restored, torch.where(real[..., None], states, filling))
