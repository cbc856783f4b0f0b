"""What does not fit into memory is halved until it does."""

import pytest
import torch

from common.errors import UserError
from common.memory import halving


@pytest.mark.parametrize(("room", "sizes"), [(32, [32]), (9, [32, 16, 8]), (1, [32, 16, 8, 4, 2, 1])])
def test_what_does_not_fit_is_halved_until_it_does(room: int, sizes: list[int]) -> None:
    tried = []

    def make(size: int) -> int:
        tried.append(size)
        if size > room:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return size

    assert halving(make, 32, UserError("Out of memory.", "Free some.")) == (sizes[-1], sizes[-1])
    assert tried == sizes


@pytest.mark.parametrize(("message", "error"), [("CUDA out of memory.", UserError), ("shapes differ", RuntimeError)])
def test_a_size_of_1_and_other_errors_are_not_tried_again(message: str, error: type[Exception]) -> None:
    tried = []

    def make(size: int) -> None:
        tried.append(size)
        raise RuntimeError(message)

    with pytest.raises(error):
        halving(make, 1, UserError("Out of memory.", "Free some."))
    assert tried == [1]
