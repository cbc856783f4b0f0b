"""The full softmax in blocks is PyTorch's cross-entropy, in value and gradients, without the matrix of scores."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from common.nn import softmax
from common.nn.softmax import softmax_loss

STATES, ROWS, WIDTH = 23, 40, 6


class Sizes(TorchDispatchMode):
    """Notes how many numbers each new tensor has."""

    def __init__(self, sizes: list[int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # PyTorch's
        self.sizes = sizes

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        result = func(*args, **kwargs or {})
        if isinstance(result, Tensor):
            self.sizes.append(result.numel())
        return result


def draw(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    states, vectors = (torch.randn(n, WIDTH, generator=generator, dtype=torch.float64) for n in (STATES, ROWS))
    bias = torch.randn(ROWS, generator=generator, dtype=torch.float64)
    targets = torch.randint(ROWS, (STATES,), generator=generator)
    return (
        states.to(dtype).requires_grad_(),
        vectors.to(dtype).requires_grad_(),
        targets,
        bias.to(dtype).requires_grad_(),
    )


@pytest.mark.parametrize("rows_at_a_time", [1, 5, 23, 1000])
@pytest.mark.parametrize("biased", [True, False])
def test_equals_cross_entropy_whatever_the_block(
    rows_at_a_time: int, biased: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(softmax.BLOCK, "cpu", rows_at_a_time * ROWS)
    states, vectors, targets, bias = draw()
    inputs = [states, vectors, *([bias] if biased else [])]
    expected = F.cross_entropy(F.linear(states, vectors, bias if biased else None), targets)
    loss = softmax_loss(states, vectors, targets, bias if biased else None)
    torch.testing.assert_close(loss, expected)
    theirs = torch.autograd.grad(3 * expected, inputs)
    torch.testing.assert_close(torch.autograd.grad(3 * loss, inputs), theirs)


def test_large_scores_do_not_overflow() -> None:
    states, vectors, targets, _ = draw(torch.float32)
    expected = F.cross_entropy(1e3 * states @ vectors.T, targets)
    torch.testing.assert_close(softmax_loss(1e3 * states, vectors, targets), expected)


def test_what_is_fixed_gets_no_gradient() -> None:
    states, vectors, targets, bias = draw()
    softmax_loss(states, vectors.detach(), targets, bias.detach()).backward()
    expected = torch.autograd.grad(F.cross_entropy(F.linear(states, vectors, bias), targets), states)
    torch.testing.assert_close(states.grad, expected[0])
    with torch.no_grad():
        assert not softmax_loss(states, vectors, targets).requires_grad


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.05), (torch.float16, 1e-5)])
def test_under_autocast_sums_are_exact(dtype: torch.dtype, tolerance: float) -> None:
    states, vectors, targets, bias = draw(torch.float32)
    expected = F.cross_entropy(F.linear(states, vectors, bias), targets)
    theirs = torch.autograd.grad(expected, [states, vectors, bias])
    with torch.autocast("cpu", dtype):
        loss = softmax_loss(states, vectors, targets, bias)
    own = torch.autograd.grad(loss, [states, vectors, bias])
    assert {loss.dtype, *(gradient.dtype for gradient in own)} == {torch.float32}
    torch.testing.assert_close((loss, *own), (expected, *theirs), rtol=tolerance, atol=tolerance)


def test_weights_of_half_the_bits_get_gradients_of_their_own_type() -> None:
    states, vectors, targets, _ = draw(torch.bfloat16)
    softmax_loss(states, vectors, targets).backward()
    assert states.grad is not None
    assert vectors.grad is not None
    assert states.grad.dtype == vectors.grad.dtype == torch.bfloat16


def test_memory_does_not_grow_with_the_number_of_states(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(softmax.BLOCK, "cpu", 10 * ROWS)
    states, vectors, targets, _ = draw()
    sizes: list[int] = []
    with Sizes(sizes):
        softmax_loss(states.repeat(50, 1), vectors, targets.repeat(50)).backward()
    assert max(sizes) == 50 * STATES * WIDTH < 50 * STATES * ROWS
