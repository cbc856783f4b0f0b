"""What a candidate sees of the history through each relation, and how relations are mixed into one vector."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from common.errors import UserError, at_least
from lrd.rounds import Rounds

Pooling = Literal["mean", "max", "attention"]
BACKBONE = "model.backbone"
"""Where the arguments of a backbone stand on the command line."""


def relational_attention(
    queries: Float[Tensor, "b c r d"],
    history: Float[Tensor, "b l d"],
    mask: Bool[Tensor, "b l"],
    decay: Float[Tensor, "b r l"] | None = None,
) -> Float[Tensor, "b c r d"]:
    """Summarises the history once per relation, weighted by how well it fits the candidate through that relation.

    ``s_r = Σ_i ω_r(i) v_i`` with ``ω_r = softmax_i φ(v_i, v_c, r)``, times the decay where there is one (without
    renormalisation). Only ``(b, c, r, l)`` weights are formed, never their product with the width.

    Args:
        queries: Relation vectors times candidate vectors, so that a dot product with a history vector is DistMult.
        history: Vectors of the history.
        mask: Whether a history slot holds an event; a row without any yields zeros.
        decay: Factor of each relation for each event, by the age of the event.

    Returns:
        Shape ``(b, c, r, d)``.
    """
    b, c, r, d = queries.shape
    logits = torch.bmm(queries.reshape(b, c * r, d), history.transpose(1, 2))
    logits = logits.masked_fill(~mask[:, None], torch.finfo(logits.dtype).min)
    weights = logits.softmax(-1) * mask[:, None]
    if decay is not None:
        weights = (weights.view(b, c, r, -1) * decay[:, None]).view(b, c * r, -1)
    return torch.bmm(weights, history).view(b, c, r, d)


class FourierDecay(nn.Module):
    """Learnt weight of an event by its age, one curve per relation (KDA).

    ``f_r(τ) = clamp₀¹(1/(2K) Σ_k Re_rk cos 2πkτ/n - Im_rk sin 2πkτ/n)`` over ``K = n/2 + 1`` frequencies, with the
    age ``τ = max(0, log₂(Δt / 60 s))``.

    Source: C. Wang et al., "Toward Dynamic User Intention", TOIS 2021, https://doi.org/10.1145/3432244. The paper
    writes the inverse transform over all conjugate pairs; the sum above is the same number with half the terms.

    Args:
        num_relations: Number of curves.
        num_points: Length ``n`` of the transform.

    Raises:
        UserError: If that is less than 2.
    """

    steps: Tensor

    def __init__(self, num_relations: int, num_points: int = 64) -> None:
        super().__init__()
        at_least(2, BACKBONE, num_points=num_points)
        self.num_points = num_points
        self.real = nn.Parameter(torch.empty(num_relations, num_points // 2 + 1))
        self.imaginary = nn.Parameter(torch.empty(num_relations, num_points // 2 + 1))
        # Whole numbers, which no change of the module's type rounds.
        self.register_buffer("steps", torch.arange(num_points // 2 + 1), persistent=False)

    def forward(self, age: Float[Tensor, "b l"]) -> Float[Tensor, "b r l"]:
        """Decay factors in [0, 1] at logarithmic ages, shape ``(b, r, l)``; phases have at least single precision."""
        kind = self.real.dtype
        steps = self.steps.to(torch.promote_types(kind, torch.float32))
        phase = age[..., None] * (2 * math.pi / self.num_points * steps)
        wave = phase.cos().to(kind) @ self.real.T - phase.sin().to(kind) @ self.imaginary.T
        return (wave / (2 * self.real.size(1))).clamp(0, 1).transpose(1, 2)


class RelationEncoder(nn.Module):
    """Rounds of multi-head self-attention across the relations of a candidate, all with the same weights.

    A round is ``x ← LayerNorm(x + W₂ relu(W₁ attention(x)))``; keys, queries and values have no bias, heads are
    concatenated without an output map.

    Args:
        width: Width of a relation's summary.
        rounds: How often the one block is applied.
        heads: Attention heads; must divide ``width``.
        dropout: Rate on each round's output.

    Raises:
        UserError: If a number is out of range.
    """

    def __init__(self, width: int, rounds: int = 5, heads: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        at_least(1, BACKBONE, width=width, heads=heads)
        at_least(0, BACKBONE, rounds=rounds)
        if width % heads:
            raise UserError(f"--{BACKBONE}.heads is {heads}", f"Give a divisor of the width {width}.")
        if not 0 <= dropout < 1:
            raise UserError(f"--{BACKBONE}.dropout is {dropout}", "Give 0 or more, and less than 1.")
        self.rounds = rounds
        self.heads = heads
        self.query_key_value = nn.Linear(width, 3 * width, bias=False)
        self.expand = nn.Linear(width, width)
        self.contract = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(width)
        # Under several processes every parameter that asks for a gradient must get one.
        self.requires_grad_(rounds > 0)

    def forward(self, x: Float[Tensor, "n r d"]) -> Float[Tensor, "n r d"]:
        """Mixes the ``r`` summaries of each of ``n`` candidates, shape ``(n, r, d)``."""
        # Buffers have the type of ``x``, which autocast would change midway.
        if not (torch.is_grad_enabled() or self.training or x.is_cuda or torch.is_autocast_enabled(x.device.type)):
            return self._without_gradients(x)
        n, r, d = x.shape
        # Apart, because the gradients of parts of one product would be copied into one tensor.
        weights, by_head = self.query_key_value.weight.split(d), (n, r, self.heads, d // self.heads)
        for _ in range(self.rounds):
            query, key, value = (F.linear(x, weight).view(by_head).transpose(1, 2) for weight in weights)
            mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(n, r, d)
            x = self.norm(x + self.dropout(self.contract(self.expand(mixed).relu())))
        return x

    @torch.no_grad()
    def _without_gradients(self, x: Float[Tensor, "n r d"]) -> Float[Tensor, "n r d"]:
        n, r, d = x.shape
        memory = Rounds.of_thread(n, r, d, self.heads, x)
        return memory.run(x, self.rounds, self.query_key_value, self.expand, self.contract, self.norm)


class RelationPooling(nn.Module):
    """Pools the relations of a candidate into one vector.

    Args:
        width: Width of a summary.
        pooling: Mean, maximum, or attention with weights ``softmax_r aᵀ tanh(A (s_r ⊙ u) + b)`` that read the user;
            ``A`` has 10 rows.
    """

    def __init__(self, width: int, pooling: Pooling = "mean") -> None:
        super().__init__()
        self.pooling = pooling
        if pooling == "attention":
            self.project = nn.Linear(width, 10)
            self.weigh = nn.Linear(10, 1, bias=False)

    def forward(self, x: Float[Tensor, "b c r d"], user: Float[Tensor, "b d"]) -> Float[Tensor, "b c d"]:
        """Pools over ``r``, shape ``(b, c, d)``."""
        if self.pooling == "mean":
            return x.mean(2)
        if self.pooling == "max":
            return x.amax(2)
        weights: Tensor = self.weigh(self.project(x * user[:, None, None]).tanh()).softmax(2)
        return (weights * x).sum(2)
