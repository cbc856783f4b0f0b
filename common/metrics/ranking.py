"""Per-case ranks, gathered from all processes and aggregated in a fixed order."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor
from torchmetrics import Metric

from common.metrics.cases import COLUMNS, case_metrics, first_of_each


class CaseRanks(Metric):
    """Ranks of all test cases of one protocol; every metric derives from them.

    The cases of all processes are gathered, deduplicated, sorted by id and only then aggregated in float64, so that no
    metric depends on the number of processes or on the batches that are repeated to make their shares equal.

    Args:
        train_count: Training events of each item, shape ``(num_items + 1,)``, for the metrics of top lists.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    cases: list[Tensor]
    lists: list[Tensor]

    def __init__(self, train_count: Int[Tensor, "i_plus_1"] | None = None) -> None:
        super().__init__()
        self.train_count = train_count
        self.add_state("cases", [], dist_reduce_fx="cat")
        self.add_state("lists", [], dist_reduce_fx="cat")

    def update(
        self,
        case_id: Int[Tensor, "b"],
        user: Int[Tensor, "b"],
        target: Int[Tensor, "b"],
        *,
        higher: Int[Tensor, "b"],
        equal: Int[Tensor, "b"],
        num_candidates: Int[Tensor, "b"],
        top_items: Int[Tensor, "b k"] | None = None,
    ) -> None:
        """Adds a batch of cases.

        Args:
            case_id: Index of each case in its stored split.
            user: User of each case.
            target: Target item of each case.
            higher: Candidates scored above the target.
            equal: Other candidates scored the same.
            num_candidates: Number of candidates, the target included.
            top_items: Best items of each case, ``PAD`` where there are fewer; under full ranking only.
        """
        columns = (case_id, user, target, higher, equal, num_candidates)
        rows = torch.stack([column.long() for column in columns], dim=1)
        self.cases = [_extended(self.cases, rows)]
        self.lists = [_extended(self.lists, rows[:, :0] if top_items is None else top_items.long())]

    def compute(self) -> dict[str, Tensor]:
        """The columns of :mod:`common.metrics.cases` for the cases of all processes, each once and by id, on the CPU.

        ``top_items``, shape ``(m, k)``, is a further column under full ranking.
        """
        cases, lists = _joined(self.cases).cpu(), _joined(self.lists).cpu()
        rows = first_of_each(cases[:, 0])
        table = {name: cases[rows, column] for column, name in enumerate(COLUMNS)}
        return table | ({"top_items": lists[rows]} if lists.size(1) else {})

    def table(self) -> dict[str, Tensor]:
        """:meth:`compute` with one row per case even for a single case, whose columns torchmetrics makes scalars."""
        table = self.compute()
        rows = table["case_id"].numel()
        return {name: column.reshape((rows, -1) if name == "top_items" else rows) for name, column in table.items()}

    def metrics(self) -> dict[str, Tensor]:
        """Metrics in float64: ``hr@K``, ``ndcg@K``, ``mrr``, ``tie_share``, and those of top lists if there are any."""
        return case_metrics(self.table(), self.train_count)


def _joined(parts: list[Tensor] | Tensor) -> Tensor:
    return parts if isinstance(parts, Tensor) else torch.cat(parts)


def _extended(parts: list[Tensor], rows: Tensor) -> Tensor:
    """Appends rows to those so far in one storage, which doubles when it is full.

    One small tensor per batch would fragment the memory that the scores of a batch leave free, so that the scores of
    the next find no gap large enough: memory would grow by megabytes per batch.
    """
    held = parts[0] if parts else rows.new_empty(0, rows.size(1))
    total, width = len(held) + len(rows), rows.size(1)
    if total * width * held.element_size() <= held.untyped_storage().nbytes():
        longer = held.as_strided((total, width), (width, 1), 0)
    else:
        longer = rows.new_empty(2 * total, width)[:total]
        longer[: len(held)] = held
    longer[len(held) :] = rows
    return longer
