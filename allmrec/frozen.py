"""A module that is used and never trained: a collaborative filter, a language model."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from torch import Tensor, nn

ModuleT = TypeVar("ModuleT", bound=nn.Module)


class Frozen(nn.Module, Generic[ModuleT]):
    """Holds a module outside the tree of its owner.

    The owner's checkpoints, optimisers, gradient hooks and broadcasts between processes do not see it; it follows the
    owner to a device. So a checkpoint of what was trained on top of a language model of 13 GB has a few MB.

    Args:
        module: What is frozen.
        movable: Whether it follows the owner to a device; not so if its parts lie on several.
        follows_training: Whether it is in training mode while its owner is, with dropout and gradient checkpointing.
    """

    def __init__(self, module: ModuleT, movable: bool = True, follows_training: bool = False) -> None:
        super().__init__()
        # A list hides the module from torch, which registers attributes that are modules.
        self._held = [module.requires_grad_(False).eval()]
        self.movable, self.follows_training = movable, follows_training

    @property
    def module(self) -> ModuleT:
        """What is frozen, in the mode that it is wanted in: Lightning sets modes without calling ``train``."""
        module, mode = self._held[0], self.training and self.follows_training
        return module if module.training == mode else module.train(mode)

    @property
    def num_parameters(self) -> int:
        """Number of frozen parameters; additions that an owner trains, such as LoRA's, are not among them."""
        return sum(_size(parameter) for parameter in self.module.parameters() if not parameter.requires_grad)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Frozen[ModuleT]:
        if self.movable:
            self.module._apply(fn, recurse)  # type: ignore[no-untyped-call]  # `ModuleT` hides that it is torch's
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # `super` hides that it is torch's
        return self

    def forward(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """Calls the frozen module."""
        return self.module(*args, **kwargs)


def _size(parameter: nn.Parameter) -> int:
    """Number of weights, of which bitsandbytes packs two of 4 bits into an element."""
    packed = getattr(parameter, "quant_state", None)
    return parameter.numel() if packed is None else math.prod(packed.shape)


def digest_of(model: nn.Module) -> str:
    """SHA-256 of a model's weights."""
    sha = hashlib.sha256()
    for weights in model.parameters():
        sha.update(weights.detach().cpu().numpy().tobytes())
    return sha.hexdigest()
