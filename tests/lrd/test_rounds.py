"""Rounds in memory made once: the same as with gradients, whatever was computed there before."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
import torch

from lrd.aggregation import RelationEncoder


@pytest.fixture
def encoder() -> RelationEncoder:
    """A small encoder in double precision, its weights far from zero."""
    encoder = RelationEncoder(16, rounds=3, heads=4).double().eval()
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter)
    return encoder


@pytest.mark.parametrize("sets", [1, 7, 16, 33])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_rounds_without_gradient_are_those_with_it(
    encoder: RelationEncoder, mode: Callable[[], AbstractContextManager[None]], sets: int
) -> None:
    x = torch.randn(sets, 5, 16, dtype=torch.float64)
    with mode():
        without = encoder(x)
    torch.testing.assert_close(without, encoder(x).detach(), rtol=1e-12, atol=1e-12)


def test_a_later_call_leaves_earlier_results_alone(encoder: RelationEncoder) -> None:
    first, second = torch.randn(2, 6, 5, 16, dtype=torch.float64).unbind(0)
    with torch.no_grad():
        kept = encoder(first)
        copy = kept.clone()
        other = encoder(second)
    assert torch.equal(kept, copy)
    assert not torch.equal(kept, other)


def test_memory_follows_weights_shapes_and_modes(encoder: RelationEncoder) -> None:
    x = torch.randn(6, 5, 16, dtype=torch.float64)
    with torch.inference_mode():
        before = encoder(x)
    with torch.no_grad():
        torch.testing.assert_close(encoder(x), before, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(encoder(x[:2, :3]), encoder(x[:, :3])[:2], rtol=1e-12, atol=1e-12)
        encoder.contract.weight.mul_(2)
        after = encoder(x)
    torch.testing.assert_close(after, encoder(x).detach(), rtol=1e-12, atol=1e-12)
    assert not torch.allclose(after, before)
