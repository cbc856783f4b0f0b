"""A frozen module outside its owner's tree."""

import torch
from torch import nn

from allmrec.frozen import Frozen


class Owner(nn.Module):
    def __init__(self, inner: nn.Module, movable: bool = True, training: bool = False) -> None:
        super().__init__()
        self.inner = Frozen(inner, movable, training)


def test_owner_does_not_list_it() -> None:
    owner = Owner(nn.Linear(3, 2))
    assert not list(owner.parameters())
    assert not owner.state_dict()
    assert owner.inner.num_parameters == 8


def test_it_follows_the_owner_unless_it_must_stay() -> None:
    moving, staying = nn.Linear(3, 2), nn.Linear(3, 2)
    Owner(moving).to(torch.float64)
    Owner(staying, movable=False).to(torch.float64)
    assert (moving.weight.dtype, staying.weight.dtype) == (torch.float64, torch.float32)


def test_its_mode_is_its_own() -> None:
    off, on = nn.Dropout(), nn.Dropout()
    Owner(off).train()
    Owner(on, training=True).eval()
    assert (off.training, on.training) == (False, True)


def test_gradients_pass_through_and_leave_it_alone() -> None:
    layer, x = nn.Linear(3, 2), torch.randn(1, 3, requires_grad=True)
    Frozen(layer)(x).sum().backward()
    assert x.grad is not None
    assert layer.weight.grad is None
