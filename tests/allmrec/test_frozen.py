"""A frozen module outside its owner's tree."""

import torch
from torch import nn

from allmrec.frozen import Frozen


class Owner(nn.Module):
    def __init__(self, inner: nn.Module, movable: bool = True, follows_training: bool = False) -> None:
        super().__init__()
        self.inner = Frozen(inner, movable, follows_training)


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


def test_only_what_shall_train_follows_its_owner_s_mode() -> None:
    still, following = Owner(nn.Dropout()), Owner(nn.Dropout(), follows_training=True)
    for mode in (True, False, True):
        # As Lightning sets modes after a validation, which calls no `train`.
        for module in (*still.modules(), *following.modules()):
            module.training = mode
        assert not still.inner.module.training
        assert following.inner.module.training == mode


def test_gradients_pass_through_and_leave_it_alone() -> None:
    layer, x = nn.Linear(3, 2), torch.randn(1, 3, requires_grad=True)
    Frozen(layer)(x).sum().backward()
    assert x.grad is not None
    assert layer.weight.grad is None
