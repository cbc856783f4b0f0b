"""The full softmax over a catalogue, without a matrix of all its scores."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK = {"cpu": 2**21}
"""Scores at a time: on a CPU as many as stay in its cache."""
ANY_BLOCK = 2**26


def softmax_loss(
    states: Float[Tensor, "n d"],
    vectors: Float[Tensor, "v d"],
    targets: Int[Tensor, "n"],
    bias: Float[Tensor, "v"] | None = None,
) -> Float[Tensor, ""]:
    """Cross-entropy of a softmax over all rows of a table: ``−r₊ + log Σ_v e^r_v``, ``r = states · vectors + bias``.

    A block of scores is turned into its part of the loss and of the gradients at once and then forgotten: a third of
    the time of :func:`torch.nn.functional.cross_entropy` on a CPU, and memory that does not grow with the number of
    states. Gradients are computed with the loss, and cannot be differentiated in turn.

    Args:
        states: What scores.
        vectors: What is scored.
        targets: Rows of ``vectors``.
        bias: Added to the scores of each row of ``vectors``.

    >>> loss = softmax_loss(torch.eye(2), torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 2.0]]), torch.tensor([0, 2]))
    >>> f"{loss:.6f}"
    '0.407606'
    """
    loss: Tensor = _SoftmaxLoss.apply(states, vectors, targets, bias)  # type: ignore[no-untyped-call]  # PyTorch's
    return loss


class _SoftmaxLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 (PyTorch's)
        states: Tensor,
        vectors: Tensor,
        targets: Tensor,
        bias: Tensor | None,
    ) -> Tensor:
        """The loss; the gradients are computed on the way, since scores are not kept."""
        kind = states.device.type
        # Loss and gradients are added up in 32 bits at least.
        exact = torch.promote_types(states.dtype, torch.float32)
        fast = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else states.dtype
        if fast == torch.float16:
            fast = exact  # Most probabilities are too small for it.
        loss = torch.zeros((), dtype=exact, device=states.device)
        by_state = torch.zeros_like(states, dtype=exact)
        by_vector = torch.zeros_like(vectors, dtype=exact)
        by_bias = None if bias is None else torch.zeros_like(bias, dtype=exact)
        table = vectors.to(fast)
        rows = max(1, BLOCK.get(kind, ANY_BLOCK) // len(vectors))
        with torch.autocast(kind, enabled=False):
            for start in range(0, len(states), rows):
                block, chosen = states[start : start + rows].to(fast), targets[start : start + rows, None]
                scores = (block @ table.T).to(exact)
                if bias is not None:
                    scores += bias
                true, most = scores.gather(1, chosen), scores.amax(1, keepdim=True)
                weights = scores.sub_(most).exp_()
                total = weights.sum(1, keepdim=True)
                loss += (most + total.log() - true).sum()
                if not any(ctx.needs_input_grad):
                    continue
                error = weights.div_(total)  # What the softmax says, less what is true.
                error.scatter_(1, chosen, error.gather(1, chosen) - 1)
                if by_bias is not None:
                    by_bias += error.sum(0)
                error = error.to(fast)
                by_state[start : start + rows] = error @ table
                by_vector += error.T @ block
        ctx.save_for_backward(by_state, by_vector, by_bias)
        return loss / len(states)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 (PyTorch's)
        by_state, by_vector, by_bias = ctx.saved_tensors
        share = above / len(by_state)
        return by_state * share, by_vector * share, None, None if by_bias is None else by_bias * share
