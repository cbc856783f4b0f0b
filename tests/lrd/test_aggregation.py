"""Attention, decay and pooling against loops written from the equations."""

import math
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UserError
from lrd.aggregation import FourierDecay, Pooling, RelationEncoder, RelationPooling, relational_attention
from lrd.backbones.kda import KDA


def test_attention_equals_a_loop_over_candidates_and_relations() -> None:
    queries, history = torch.randn(2, 3, 4, 5), torch.randn(2, 6, 5)
    mask = torch.tensor([[False, False, True, True, True, True], [True] * 6])
    decay = torch.rand(2, 4, 6)
    summary = relational_attention(queries, history, mask, decay)
    for b in range(2):
        for c in range(3):
            for r in range(4):
                logits = torch.stack([queries[b, c, r] @ history[b, i] for i in range(6) if mask[b, i]])
                weights = logits.softmax(0) * decay[b, r][mask[b]]
                torch.testing.assert_close(summary[b, c, r], weights @ history[b][mask[b]])


def test_history_without_events_gives_zeros() -> None:
    summary = relational_attention(torch.randn(1, 2, 3, 4), torch.randn(1, 5, 4), torch.zeros(1, 5, dtype=torch.bool))
    assert torch.equal(summary, torch.zeros(1, 2, 3, 4))


def test_attention_ignores_padding_and_the_order_of_events() -> None:
    queries, history = torch.randn(1, 2, 3, 4), torch.randn(1, 5, 4)
    mask = torch.ones(1, 5, dtype=torch.bool)
    summary = relational_attention(queries, history, mask)
    padded = torch.cat([torch.randn(1, 2, 4), history.flip(1)], dim=1)
    longer = torch.cat([torch.zeros(1, 2, dtype=torch.bool), mask], dim=1)
    torch.testing.assert_close(relational_attention(queries, padded, longer), summary)


@given(st.integers(0, 2**32 - 1), st.sampled_from([8, 64]))
@settings(deadline=None, max_examples=20)
def test_decay_is_the_clamped_inverse_transform_over_conjugate_pairs(seed: int, points: int) -> None:
    random = np.random.default_rng(seed)
    curves = FourierDecay(1, points).double()
    spectrum = random.normal(size=points // 2 + 1) * 3 + 1j * random.normal(size=points // 2 + 1)
    with torch.no_grad():
        curves.real.copy_(torch.from_numpy(spectrum.real[None]))
        curves.imaginary.copy_(torch.from_numpy(spectrum.imag[None]))
    age = random.uniform(0, 30)
    both = np.concatenate([spectrum, spectrum.conj()])
    frequency = np.arange(points // 2 + 1) / points
    waves = both * np.exp(2j * np.pi * np.concatenate([frequency, -frequency]) * age)
    expected = min(max(waves.mean().real / 2 * 1, 0.0), 1.0)
    assert math.isclose(
        curves(torch.tensor([[age]], dtype=torch.float64)).item(), expected, rel_tol=1e-9, abs_tol=1e-12
    )


def test_decay_in_half_precision_is_near_the_exact_one() -> None:
    curves = FourierDecay(3)
    torch.nn.init.normal_(curves.real, std=2.0)
    torch.nn.init.normal_(curves.imaginary, std=2.0)
    age = 30 * torch.rand(4, 50)
    exact = curves(age)
    half = curves.bfloat16()(age)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), exact, atol=0.01, rtol=0)


def test_rounds_share_their_weights_and_equal_a_naive_block() -> None:
    encoder = RelationEncoder(width=8, rounds=2, heads=2).eval()
    x = torch.randn(3, 4, 8)
    once = RelationEncoder(width=8, rounds=1, heads=2).eval()
    once.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(encoder(x), once(once(x)))
    query, key, value = encoder.query_key_value(x).split(8, dim=-1)
    heads = [slice(0, 4), slice(4, 8)]
    mixed = [(query[..., h] @ key[..., h].transpose(1, 2) / 2).softmax(-1) @ value[..., h] for h in heads]  # √4 = 2
    block = encoder.contract(encoder.expand(torch.cat(mixed, -1)).relu())
    torch.testing.assert_close(once(x), encoder.norm(x + block))


@pytest.mark.parametrize("rounds", [0, 1])
def test_parameters_ask_for_a_gradient_if_they_get_one(rounds: int) -> None:
    encoder, x = RelationEncoder(width=8, rounds=rounds), torch.randn(3, 4, 8, requires_grad=True)
    encoder(x).sum().backward()
    for parameter in encoder.parameters():
        assert parameter.requires_grad == (parameter.grad is not None) == bool(rounds)


@pytest.mark.parametrize(
    ("name", "value"),
    [("heads", 3), ("heads", 0), ("width", 0), ("rounds", -1), ("dropout", -0.1), ("dropout", 1.0), ("num_points", 1)],
)
def test_arguments_out_of_range_are_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(UserError, match=f"--model.backbone.{name} is {value}"):
        KDA(**{"width": 8, name: value}).build(1, 2, 3, 1)  # type: ignore[arg-type]  # values of several types


@pytest.mark.parametrize("pooling", ["max", "attention"])
def test_pooling_is_that_of_a_loop(pooling: Pooling) -> None:
    pool = RelationPooling(6, pooling)
    x, user = torch.randn(2, 3, 5, 6), torch.randn(2, 6)
    pooled = pool(x, user)
    for b in range(2):
        for c in range(3):
            views = list(x[b, c])
            if pooling == "max":
                expected = torch.tensor([max(float(view[d]) for view in views) for d in range(6)])
            else:
                logits = [pool.weigh(torch.tanh(pool.project(view * user[b]))) for view in views]
                weights = [logit.exp() / sum(other.exp() for other in logits) for logit in logits]
                expected = torch.stack([weight * view for weight, view in zip(weights, views, strict=True)]).sum(0)
            torch.testing.assert_close(pooled[b, c], expected)


@pytest.mark.parametrize("pooling", get_args(Pooling))
def test_pooling_does_not_depend_on_the_order_of_relations(pooling: Pooling) -> None:
    pool = RelationPooling(6, pooling)
    x, user = torch.randn(2, 3, 5, 6), torch.randn(2, 6)
    torch.testing.assert_close(pool(x[:, :, torch.randperm(5)], user), pool(x, user))
    torch.testing.assert_close(pool(x[:, :, :1].expand(-1, -1, 5, -1), user), x[:, :, 0])
