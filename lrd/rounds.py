"""Rounds of attention across relations without gradients, in memory that is made once."""

from __future__ import annotations

import threading
from math import ceil

import torch
from jaxtyping import Float
from torch import Tensor, nn

_here = threading.local()
_ALIGNMENT = 16
"""Candidates come in multiples of this, so that every row of a buffer is one of whole vectors of the processor."""


class Rounds:
    """Working memory of :class:`~lrd.aggregation.RelationEncoder` for ``n`` candidates of ``r`` relations.

    Candidates lie in the innermost dimension: attention over a dozen relations is too small for one kernel per
    candidate, but not for elementwise products over all candidates at once. Every operation writes into a buffer, and
    the views it needs are made here, since at this size an allocation or a view costs as much as the arithmetic.

    Args:
        candidates: ``n``, a multiple of 16.
        relations: ``r``.
        width: Width ``d`` of a summary.
        heads: Attention heads.
        like: Tensor whose type and device the buffers have.
    """

    def __init__(self, candidates: int, relations: int, width: int, heads: int, like: Tensor) -> None:
        columns, part = relations * candidates, width // heads
        self.x, self.mixed = like.new_empty(2, width, columns).unbind(0)
        self.summaries = self.x.view(width, relations, candidates)
        self.query_key_value = like.new_empty(3 * width, columns)
        # Queries are read for the last time before the next two are written, and what is written stays in cache.
        self.hidden = self.square = self.query_key_value[:width]
        query, key, value = self.query_key_value.view(3, heads, part, relations, candidates).unbind(0)
        self.scores, self.weights = like.new_empty(2, heads, relations, relations, candidates).unbind(0)
        self.mixed_heads = self.mixed.view(heads, part, relations, candidates)
        self.products = [(query[:, i, :, None], key[:, i, None]) for i in range(part)]
        self.shares = [(self.weights[:, None, :, j], value[:, :, None, j]) for j in range(relations)]
        self.mean = like.new_empty(1, columns)
        self.average = like.new_full((1, width), 1 / width)
        self.scale = float(part**-0.5)

    @classmethod
    def of_thread(cls, candidates: int, relations: int, width: int, heads: int, like: Tensor) -> Rounds:
        """The memory of the calling thread for at least ``candidates``, allocated again when the sizes change."""
        candidates = ceil(candidates / _ALIGNMENT) * _ALIGNMENT
        # Tensors made in inference mode serve only there.
        key = candidates, relations, width, heads, like.dtype, like.device, torch.is_inference_mode_enabled()
        if getattr(_here, "key", None) != key:
            _here.key, _here.rounds = key, cls(candidates, relations, width, heads, like)
        rounds: Rounds = _here.rounds
        return rounds

    def run(
        self,
        x: Float[Tensor, "n r d"],
        rounds: int,
        query_key_value: nn.Linear,
        expand: nn.Linear,
        contract: nn.Linear,
        norm: nn.LayerNorm,
    ) -> Float[Tensor, "n r d"]:
        """Applies the block ``rounds`` times to the ``r`` summaries of each of ``n`` candidates."""
        summaries = self.summaries[..., : len(x)].copy_(x.permute(2, 1, 0))
        weight = query_key_value.weight.clone()
        weight[: len(self.x)] *= self.scale
        expand_bias, contract_bias = expand.bias[:, None], contract.bias[:, None]
        for _ in range(rounds):
            torch.mm(weight, self.x, out=self.query_key_value)
            self._attend()
            torch.addmm(expand_bias, expand.weight, self.mixed, out=self.hidden).relu_()
            self.x.add_(contract_bias).addmm_(contract.weight, self.hidden)
            self._normalise(norm)
        return summaries.permute(2, 1, 0).clone()

    def _attend(self) -> None:
        """``mixed = softmax(query · key) value`` per head and candidate, the scale being in the query."""
        _sum_of_products(self.products, self.scores)
        torch.softmax(self.scores, 2, out=self.weights)
        _sum_of_products(self.shares, self.mixed_heads)

    def _normalise(self, norm: nn.LayerNorm) -> None:
        """Layer norm of each column of ``x`` in place."""
        self.x.sub_(torch.mm(self.average, self.x, out=self.mean))
        torch.mm(self.average, torch.mul(self.x, self.x, out=self.square), out=self.mean)
        self.x.mul_(self.mean.add_(norm.eps).rsqrt_())
        # Two operations with one broadcast vector each: PyTorch has no vector instructions for one with both.
        self.x.mul_(norm.weight[:, None]).add_(norm.bias[:, None])


def _sum_of_products(pairs: list[tuple[Tensor, Tensor]], out: Tensor) -> None:
    (first, second), *others = pairs
    torch.mul(first, second, out=out)
    for left, right in others:
        out.addcmul_(left, right)
