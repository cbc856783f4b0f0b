"""Double precision, which Apple's GPUs do not have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Float64(TorchDispatchMode):
    """Notes what makes float64 on a kind of device.

    Args:
        kind: Type of the device.
    """

    def __init__(self, kind: str = "cpu") -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # PyTorch's
        self.kind = kind
        self.found: list[str] = []
        """The operations that make it."""

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: Any,  # noqa: ANN401 (PyTorch's)
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 (whatever the operation returns)
        made = func(*args, **(kwargs or {}))
        tensors = [value for value in tree_leaves(made) if isinstance(value, Tensor)]
        if any(value.dtype == torch.float64 and value.device.type == self.kind for value in tensors):
            self.found.append(str(func))
        return made
