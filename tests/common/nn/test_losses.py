import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from common.nn.losses import (
    Objective,
    bce_loss,
    bpr_loss,
    bpr_max_loss,
    gbce_loss,
    pairwise_loss,
    sampled_softmax_loss,
)

SAMPLED: tuple[Objective, ...] = ("bce", "bpr", "bpr_max", "sampled_softmax", "gbce")
scores = st.lists(st.floats(-8, 8), min_size=2, max_size=7)


def split(values: list[float]) -> tuple[Tensor, Tensor]:
    row = torch.tensor(values, dtype=torch.float64)
    return row[:1], row[None, 1:]


def named(objective: Objective) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda positive, negatives: pairwise_loss(
        objective, positive, negatives, num_items=101, calibration=0.75, score_penalty=0.0
    )


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_worked_values_of_all_objectives() -> None:
    row = split([1.0, 0.0, -1.0, 2.0])
    expected = {
        "bpr": 0.584484,
        "bpr_max": 1.057229,
        "sampled_softmax": 1.440190,
        "gbce": 0.804675,
    }
    for objective in SAMPLED[1:]:
        assert named(objective)(*row).item() == pytest.approx(expected[objective], abs=1e-6)


@given(scores)
def test_equations_hold_term_by_term(values: list[float]) -> None:
    plus, rest = values[0], values[1:]
    total = sum(math.exp(r) for r in rest)
    weights = [math.exp(r) / total for r in rest]
    bpr_max = -math.log(sum(s * sigmoid(plus - r) for s, r in zip(weights, rest, strict=True)))
    penalty = sum(s * r * r for s, r in zip(weights, rest, strict=True))
    row = split(values)
    assert bpr_max_loss(*row, score_penalty=0.5).item() == pytest.approx(bpr_max + 0.5 * penalty, rel=1e-8)
    assert bpr_loss(*row).item() == pytest.approx(-sum(math.log(sigmoid(plus - r)) for r in rest) / len(rest))
    bce = -math.log(sigmoid(plus)) - sum(math.log(sigmoid(-r)) for r in rest) / len(rest)
    assert bce_loss(*row).item() == pytest.approx(bce)


@given(st.floats(-8, 8), st.floats(-8, 8))
def test_with_one_negative_all_differences_are_bpr(plus: float, minus: float) -> None:
    row = split([plus, minus])
    values = [bpr_loss(*row), bpr_max_loss(*row), sampled_softmax_loss(*row)]
    torch.testing.assert_close(torch.stack(values), values[0].expand(3))


@given(scores)
def test_uncalibrated_gbce_is_bce_over_all_columns(values: list[float]) -> None:
    row = split(values)
    columns = torch.tensor([-values[0], *values[1:]], dtype=torch.float64)
    expected = torch.nn.functional.softplus(columns).mean()
    torch.testing.assert_close(gbce_loss(*row, num_items=101, calibration=0.0), expected)


@given(scores, st.floats(0.5, 5))
def test_only_losses_of_differences_ignore_a_shift(values: list[float], shift: float) -> None:
    plain, moved = split(values), split([v + shift for v in values])
    for objective in ("bpr", "bpr_max", "sampled_softmax"):
        torch.testing.assert_close(named(objective)(*plain), named(objective)(*moved))
    assert not torch.isclose(bce_loss(*split([0.0, 0.0])), bce_loss(*split([shift, shift])))


@pytest.mark.parametrize("objective", ["bpr_max", "sampled_softmax"])
def test_hopeless_negatives_drop_out_of_weighted_losses(objective: Objective) -> None:
    with_it, without = split([1.0, 0.5, -torch.inf]), split([1.0, 0.5])
    torch.testing.assert_close(named(objective)(*with_it), named(objective)(*without))


@pytest.mark.parametrize("objective", ["bpr", "bce"])
def test_hopeless_negatives_still_count_in_means(objective: Objective) -> None:
    near, far = named(objective)(*split([1.0, 0.5])), named(objective)(*split([1.0, 0.5, -1e9]))
    fixed = torch.nn.functional.softplus(torch.tensor(-1.0, dtype=torch.float64)) if objective == "bce" else 0.0
    torch.testing.assert_close(far - fixed, (near - fixed) / 2)


@pytest.mark.parametrize("objective", SAMPLED)
def test_extreme_float32_scores_give_finite_losses_and_gradients(objective: Objective) -> None:
    positive = torch.tensor([-300.0, 300.0], requires_grad=True)
    negatives = torch.tensor([[300.0, -300.0], [-300.0, 300.0]], requires_grad=True)
    loss = named(objective)(positive, negatives)
    loss.backward()
    assert loss.isfinite()
    assert positive.grad is not None
    assert positive.grad.isfinite().all()


@pytest.mark.parametrize(("calibration", "biased"), [(1.0, False), (0.0, True)])
def test_fully_calibrated_gbce_is_least_at_the_true_probabilities(calibration: float, biased: bool) -> None:
    probability = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    logits = probability.logit().requires_grad_()
    expected = torch.stack(
        [
            probability[i] / 3 * gbce_loss(logits[i : i + 1], logits[None, j : j + 1], 4, calibration)
            for i in range(4)
            for j in range(4)
            if i != j
        ]
    ).sum()
    (slope,) = torch.autograd.grad(expected, logits)
    # A negative slope wants every score higher: probabilities come out inflated.
    assert bool((slope < -1e-3).all()) is biased
    assert bool((slope.abs() < 1e-12).all()) is not biased


def test_rows_are_averaged() -> None:
    rows = torch.tensor([0.3, -1.2]), torch.tensor([[0.5, 0.1], [2.0, -0.4]])
    for objective in SAMPLED:
        single = [named(objective)(rows[0][i : i + 1], rows[1][i : i + 1]) for i in range(2)]
        torch.testing.assert_close(named(objective)(*rows), torch.stack(single).mean())


def test_full_softmax_is_no_pairwise_loss() -> None:
    with pytest.raises(ValueError, match="'ce' is not a loss on sampled negatives"):
        named("ce")(*split([1.0, 0.0]))
