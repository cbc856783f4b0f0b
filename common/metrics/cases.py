"""The per-case table and its means."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from common.metrics.functional import hit_rate, mrr, ndcg

CUTOFFS = (1, 5, 10, 20)
"""Values of ``K`` to report, each only if there are more than ``K`` candidates."""
COLUMNS = ("case_id", "user", "target", "higher", "equal", "num_candidates")
"""Columns of the per-case table."""


def first_of_each(case_id: Int[Tensor, "n"]) -> Int[Tensor, "m"]:
    """The row where each case comes first, in the order of case ids.

    >>> first_of_each(torch.tensor([7, 2, 7, 2, 5])).tolist()
    [1, 4, 0]
    """
    ids, rows = case_id.sort(stable=True)
    new = torch.ones_like(ids, dtype=torch.bool)
    new[1:] = ids[1:] != ids[:-1]
    return rows[new]


def case_metrics(table: dict[str, Tensor], train_count: Int[Tensor, "i_plus_1"] | None = None) -> dict[str, Tensor]:
    """Means over a per-case table, float64 scalars.

    Args:
        table: Columns ``higher``, ``equal`` and ``num_candidates``, and ``top_items`` for the metrics of top lists.
        train_count: Training events of each item, shape ``(num_items + 1,)``.

    Returns:
        ``hr@K`` and ``ndcg@K`` for each ``K`` below the smallest number of candidates, ``mrr``, ``tie_share`` (share
        of cases in which another candidate ties with the target) and, with top lists, ``coverage@10`` (share of the
        catalogue in any list) and ``mean_popularity@10`` (mean training events of a listed item).
    """
    higher, equal = table["higher"], table["equal"]
    result = {}
    for k in CUTOFFS:
        if k < int(table["num_candidates"].min()):
            result[f"hr@{k}"] = _mean(hit_rate(higher, equal, k))
            result[f"ndcg@{k}"] = _mean(ndcg(higher, equal, k))
    result["mrr"] = _mean(mrr(higher, equal))
    result["tie_share"] = _mean(equal > 0)
    if "top_items" in table and train_count is not None:
        length = table["top_items"].size(1)
        listed = table["top_items"][table["top_items"] > 0].long()
        result[f"coverage@{length}"] = (
            int((torch.bincount(listed) > 0).sum()) / torch.tensor(len(train_count) - 1.0).double()
        )
        result[f"mean_popularity@{length}"] = _mean(train_count.to(listed.device)[listed])
    return result


def _mean(values: Shaped[Tensor, "m"]) -> Float[Tensor, ""]:
    """The mean in float64, the same for any number of threads, among which PyTorch divides long sums."""
    return torch.tensor(values.double().cpu().numpy().mean())
