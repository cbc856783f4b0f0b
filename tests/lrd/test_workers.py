"""Pieces on threads: each once, in the caller's modes, with its errors."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

import pytest
import torch

from lrd.workers import in_threads

CPU = torch.device("cpu")


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_each_piece_is_taken_once_in_the_modes_of_the_caller(
    threads: int, mode: Callable[[], AbstractContextManager[None]]
) -> None:
    taken: Counter[int] = Counter()
    modes = set()

    def step(piece: int) -> None:
        taken[piece] += 1
        modes.add((torch.is_grad_enabled(), torch.is_inference_mode_enabled()))

    with mode():
        expected = {(torch.is_grad_enabled(), torch.is_inference_mode_enabled())}
        in_threads(step, range(20), CPU)
    assert taken == Counter(range(20))
    assert modes == expected
    assert torch.get_num_threads() == threads
    with ThreadPoolExecutor() as pool:
        assert pool.submit(torch.get_num_threads).result() == threads


@torch.no_grad()
def test_the_first_error_is_raised(threads: int) -> None:
    def step(piece: int) -> None:
        if piece == 3:
            raise RuntimeError("piece 3")

    with pytest.raises(RuntimeError, match="piece 3"):
        in_threads(step, range(9), CPU)
