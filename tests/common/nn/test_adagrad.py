import pytest
import torch
from torch import nn

from common.nn.adagrad import Adagrad


def _rows(*rows: int) -> torch.Tensor:
    """A sparse gradient of ones in the named rows."""
    return torch.sparse_coo_tensor(torch.tensor([rows]), torch.ones(len(rows), 2), (4, 2), check_invariants=True)


def _step(optimiser: Adagrad, weight: nn.Parameter, grad: torch.Tensor) -> None:
    weight.grad = grad
    optimiser.step()


@pytest.mark.parametrize("momentum", [0.0, 0.4])
def test_steps_follow_the_formula(momentum: float) -> None:
    weight = nn.Parameter(torch.tensor([1.0, -2.0]))
    optimiser = Adagrad([weight], lr=0.1, momentum=momentum, eps=1e-3)
    expected, total, velocity = weight.detach().clone(), torch.zeros(2), torch.zeros(2)
    for grad in torch.randn(5, 2):
        total += grad**2
        velocity = momentum * velocity - 0.1 * grad / (total + 1e-3) ** 0.5
        expected += velocity
        _step(optimiser, weight, grad)
    torch.testing.assert_close(weight.detach(), expected)


def test_without_momentum_it_is_pytorchs_but_for_epsilon() -> None:
    ours, theirs = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(4))
    optimiser, reference = Adagrad([ours], lr=0.1, eps=0.0), torch.optim.Adagrad([theirs], lr=0.1, eps=0.0)
    for grad in torch.randn(5, 4):
        _step(optimiser, ours, grad)
        theirs.grad = grad
        reference.step()
    torch.testing.assert_close(ours, theirs)


def test_rows_at_rest_keep_still_and_repeated_rows_add_up() -> None:
    weight = nn.Parameter(torch.zeros(4, 2))
    optimiser = Adagrad([weight], lr=0.1, momentum=0.5, eps=0.0)
    _step(
        optimiser,
        weight,
        _rows(1, 1, 3),
    )
    once = weight.detach().clone()
    assert torch.equal(optimiser.state[weight]["sum"][:, 0], torch.tensor([0.0, 4.0, 0.0, 1.0]))
    _step(optimiser, weight, _rows(3))
    assert torch.equal(weight[:3], once[:3])
    assert bool((weight[3] < once[3]).all())


def test_a_closure_is_evaluated_and_its_loss_returned() -> None:
    weight = nn.Parameter(torch.tensor([3.0]))
    optimiser = Adagrad([weight], lr=0.1)

    def closure() -> torch.Tensor:
        loss = weight.square().sum()
        loss.backward()
        return loss.detach()

    assert optimiser.step(closure) == torch.tensor(9.0)
    assert float(weight.detach()) < 3.0
