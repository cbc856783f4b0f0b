"""Per-case ranks, gathered over processes and aggregated in one order."""

from __future__ import annotations

from torch import Tensor
from torchmetrics import Metric


class CaseRanks(Metric):
    """Collects per-case results; see DESIGN."""

    def update(
        self,
        case_id: Tensor,
        user: Tensor,
        target: Tensor,
        *,
        higher: Tensor,
        equal: Tensor,
        num_candidates: Tensor,
        top_items: Tensor | None = None,
    ) -> None:
        """Adds a batch of cases."""

    def compute(self) -> dict[str, Tensor]:
        """Cases of all processes, each once, by case id."""
        return {}

    def metrics(self) -> dict[str, Tensor]:
        """Metrics in float64."""
        return {}
