"""Ranking metrics of one relevant item, as expectations over the orders of ties.

Two counts describe a case: ``higher``, candidates scored above the target, and ``equal``, others scored the same. With
ties in random order, the target's rank is uniform over ``higher + 1 … higher + equal + 1``.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from common.hashing import GOLDEN_GAMMA, multiply_rounds

_EXACT = 1 << 24
"""Integers up to here are exact in fp32."""
_CACHED = 1 << 18
"""Scores that are compared at a time."""


def higher_equal(scores: Float[Tensor, "b c"], target: Int[Tensor, "b"]) -> tuple[Int[Tensor, "b"], Int[Tensor, "b"]]:
    """Counts candidates scored above the target, and others scored the same; both ``int64`` of shape ``(b,)``.

    Args:
        scores: Raw scores, compared in fp32; ``-inf`` for columns that are not candidates.
        target: Column of the target.

    Raises:
        ValueError: If a score is NaN or ``+inf``, the target's is not finite, or there are more than ``2^24`` columns.

    >>> higher_equal(torch.tensor([[2.0, 3.0, 2.0, 1.0]]), torch.tensor([0]))
    (tensor([1]), tensor([1]))
    """
    scores = scores.detach().float()
    own = scores.gather(1, target.long()[:, None])
    # The maximum is NaN if any score is, so one cheap pass finds NaN and +inf.
    if not bool(torch.isfinite(scores.amax(1)).all() & torch.isfinite(own).all()):
        raise ValueError("scores must be finite: found NaN or an infinity among candidates")
    if scores.size(1) > _EXACT:
        raise ValueError(f"at most {_EXACT} candidates can be counted exactly in fp32. Got {scores.size(1)}")
    counts = [_count(block, border) for block, border in _row_blocks(scores, own)]
    higher, equal = torch.cat(counts).unbind(1) if counts else target.new_zeros(2, 0).long()
    return higher, equal - 1


def _row_blocks(scores: Tensor, own: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows with their targets' scores, as many at a time as fit into a core's cache."""
    rows = max(1, _CACHED // max(1, scores.size(1))) if scores.device.type == "cpu" else max(1, len(scores))
    return zip(torch.split(scores, rows), torch.split(own, rows), strict=True)


def _count(scores: Float[Tensor, "b c"], own: Float[Tensor, "b 1"]) -> Int[Tensor, "b 2"]:
    """Counts the candidates above the target, and those equal to it, the target included."""
    # Comparing into fp32 and summing is ten times as fast as summing booleans.
    mask = torch.gt(scores, own, out=torch.empty_like(scores))
    higher = mask.sum(1)
    return torch.stack([higher, torch.eq(scores, own, out=mask).sum(1)], dim=1).long()


def hit_rate(higher: Int[Tensor, "b"], equal: Int[Tensor, "b"], k: int) -> Float[Tensor, "b"]:
    """Probability that the target is among the first ``k``, float64 of shape ``(b,)``.

    >>> hit_rate(torch.tensor([0, 4]), torch.tensor([99, 1]), 5)
    tensor([0.0500, 0.5000], dtype=torch.float64)
    """
    return ((k - higher).double() / (equal + 1)).clamp(0, 1)


def ndcg(higher: Int[Tensor, "b"], equal: Int[Tensor, "b"], k: int) -> Float[Tensor, "b"]:
    """Expected gain ``1 / log2(rank + 1)`` where the rank is at most ``k``, float64 of shape ``(b,)``.

    With one relevant item the ideal gain is 1, so the gain equals nDCG@k.

    >>> ndcg(torch.tensor([0, 1]), torch.tensor([99, 0]), 10)
    tensor([0.0454, 0.6309], dtype=torch.float64)
    """
    ranks = torch.arange(1, k + 1, dtype=torch.float64, device=higher.device)
    return _mean_gain(1 / torch.log2(ranks + 1), higher, equal)


def mrr(higher: Int[Tensor, "b"], equal: Int[Tensor, "b"]) -> Float[Tensor, "b"]:
    """Expected reciprocal rank, float64 of shape ``(b,)``.

    >>> mrr(torch.tensor([0, 1]), torch.tensor([1, 0]))
    tensor([0.7500, 0.5000], dtype=torch.float64)
    """
    last = int((higher + equal).max()) + 1 if len(higher) else 0
    return _mean_gain(1 / torch.arange(1, last + 1, dtype=torch.float64, device=higher.device), higher, equal)


def top_k(scores: Float[Tensor, "b c"], k: int) -> tuple[Int[Tensor, "b k"], Float[Tensor, "b k"]]:
    """Columns and scores of the ``k`` best, best first; a fixed hash of the column breaks ties.

    The order within a tie depends only on the columns, not on the batch, the device or the process.

    Args:
        scores: Scores without NaN.
        k: Length of the lists, at most the number of columns.
    """
    best = scores.topk(min(k + 1, scores.size(1)), dim=1)
    tied = (best.values[:, 1:] == best.values[:, :-1]).any(1).nonzero().squeeze(1)
    columns, values = best.indices[:, :k].clone(), best.values[:, :k].clone()
    if len(tied):
        columns[tied] = _break_ties(scores[tied], best.values[tied, k - 1], k)
        values[tied] = scores[tied].gather(1, columns[tied])
    return columns, values


def _mean_gain(gains: Float[Tensor, "k"], higher: Int[Tensor, "b"], equal: Int[Tensor, "b"]) -> Float[Tensor, "b"]:
    """Mean of ``gains`` over positions ``higher + 1 … higher + equal + 1``, 0 past the last one."""
    total = torch.cat([gains.new_zeros(1), gains.cumsum(0)])
    last = len(gains)
    return (total[(higher + equal + 1).clamp(max=last)] - total[higher.clamp(max=last)]) / (equal + 1)


def _break_ties(scores: Float[Tensor, "b c"], border: Float[Tensor, "b"], k: int) -> Int[Tensor, "b k"]:
    """The ``k`` best columns of rows with ties: all above ``border``, then those equal to it in hash order."""
    priority = _tie_priority(scores.size(1), scores.device)
    key = torch.where(scores == border[:, None], priority, -torch.inf)
    columns = key.masked_fill_(scores > border[:, None], torch.inf).topk(k, dim=1).indices
    by_hash = columns.gather(1, priority[columns].argsort(dim=1, descending=True))
    order = scores.gather(1, by_hash).argsort(dim=1, descending=True, stable=True)
    return by_hash.gather(1, order)


@lru_cache(maxsize=4)
def _tie_priority(columns: int, device: torch.device) -> Float[Tensor, "c"]:
    """A fixed permutation of ``0 … columns - 1``; more columns leave the relative order of the others unchanged."""
    key = multiply_rounds(torch.arange(columns) * GOLDEN_GAMMA)
    rank = torch.empty(columns, dtype=torch.float32 if columns <= _EXACT else torch.float64)
    rank[key.argsort()] = torch.arange(columns, dtype=rank.dtype)
    return rank.to(device)
