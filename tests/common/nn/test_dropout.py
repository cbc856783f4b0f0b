import pytest
import torch

from common.errors import UserError
from common.nn.dropout import Dropout


@pytest.mark.parametrize("p", [0.1, 0.2, 0.5, 0.9])
def test_share_of_zeros_and_scale_follow_p(p: float) -> None:
    dropped = Dropout(p)(torch.ones(400, 501))
    kept = dropped[dropped > 0]
    assert float((dropped == 0).double().mean()) == pytest.approx(p, abs=0.005)
    assert torch.equal(kept, kept[:1].expand_as(kept))
    assert float(kept[0]) == pytest.approx(1 / (1 - p), rel=1e-3)


def test_elements_are_dropped_independently() -> None:
    dropped = (Dropout(0.5)(torch.ones(80_000)) == 0).double().view(-1, 4)
    # Four neighbours share one draw: each must be fair, and no two of them may agree more than by chance.
    correlation = torch.corrcoef(torch.cat([dropped, dropped.roll(1, 0)], dim=1).T)
    assert float((correlation - torch.eye(8)).abs().max()) < 0.03
    assert float((dropped.mean(0) - 0.5).abs().max()) < 0.02


@pytest.mark.parametrize("shape", [(0,), (1,), (3, 5), (2, 3, 4, 7)])
def test_any_shape_and_type(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, dtype=torch.float64)
    dropped = Dropout(0.25)(x)
    assert dropped.dtype == x.dtype
    torch.testing.assert_close(dropped, torch.where(dropped == 0, 0.0, x / 0.75))


def test_gradient_passes_where_values_pass() -> None:
    x = torch.ones(100, requires_grad=True)
    dropped = Dropout(0.5)(x)
    dropped.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, dropped.detach())


def test_seed_decides_and_evaluation_drops_nothing() -> None:
    layer, x = Dropout(0.5), torch.randn(50)
    torch.manual_seed(1)
    first = layer(x)
    torch.manual_seed(1)
    assert torch.equal(layer(x), first)
    assert layer.eval()(x) is x


@pytest.mark.parametrize("p", [-0.1, 1.0])
def test_probability_must_leave_something(p: float) -> None:
    with pytest.raises(UserError, match=r"--model\.dropout is .*\nGive a number"):
        Dropout(p)
