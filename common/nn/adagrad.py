"""Adagrad with momentum, for dense and sparse gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn


class Adagrad(torch.optim.Optimizer):
    """Adagrad with momentum: ``v ← μ v − lr · g / √(Σ g² + ε)``, ``w ← w + v``.

    GRU4Rec's optimiser (https://arxiv.org/abs/1706.03847). ``torch.optim.Adagrad`` has no momentum and adds ε
    outside the root. With sparse gradients only the rows that were looked up change; the ``v`` of other rows is kept
    but not applied.

    Args:
        params: Parameters to optimise.
        lr: Learning rate.
        momentum: μ.
        eps: ε.
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float, momentum: float = 0.0, eps: float = 1e-6) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:  # type: ignore[override]  # the parent overloads it
        """Takes one step; Lightning passes a ``closure`` that re-evaluates the loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, weight.grad, **{name: group[name] for name in ("lr", "momentum", "eps")})
        return loss

    def _update(self, weight: Tensor, grad: Tensor, lr: float, momentum: float, eps: float) -> None:
        state = self.state[weight]
        if not state:
            state["sum"] = torch.zeros_like(weight)
            if momentum:
                state["velocity"] = torch.zeros_like(weight)
        rows: Tensor | slice = slice(None)
        if grad.is_sparse:
            grad = grad.coalesce()
            rows, grad = grad.indices()[0], grad.values()
        total = state["sum"][rows] + grad.square()
        state["sum"][rows] = total
        change = -lr * grad / (total + eps).sqrt()
        if momentum:
            change = change + momentum * state["velocity"][rows]
            state["velocity"][rows] = change
        weight[rows] += change
