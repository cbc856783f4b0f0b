"""The learning curves of a run, in its folder."""

from __future__ import annotations

import csv
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import rank_zero_only

from benchmarks.runs import METRICS


class MetricsFile(CSVLogger):
    """Writes ``metrics.csv`` without a second copy of the configuration; a resumed run continues the file.

    Args:
        folder: Run folder.
        resumed: Whether the run continues an earlier one.
    """

    def __init__(self, folder: Path, resumed: bool) -> None:
        self.earlier: list[dict[str, Any]] = []
        if resumed and (folder / METRICS).is_file():
            with (folder / METRICS).open(newline="") as stream:
                # Lightning deletes the file.
                self.earlier = [{key: value for key, value in row.items() if value} for row in csv.DictReader(stream)]
        super().__init__(folder, name="", version="", flush_logs_every_n_steps=1)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:  # type: ignore[override]  # Lightning declares two types
        """Logs metrics, at first behind what was logged before the step at which the run goes on."""
        kept = [row for row in self.earlier if step is not None and int(row["step"]) < step]
        self.experiment.metrics += kept
        self.earlier = []
        super().log_metrics(dict(metrics), step)

    def log_hyperparams(self, params: dict[str, Any] | Namespace | None = None) -> None:
        """Does nothing: they are in ``config.yaml``."""
