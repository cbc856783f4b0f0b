"""The learning curves of a run, in its folder."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import rank_zero_only

from benchmarks.runs import read_metrics


class MetricsFile(CSVLogger):
    """Writes ``metrics.csv`` without a second copy of the configuration; a resumed run continues the file.

    Args:
        folder: Run folder.
        resumed: Run folder of the checkpoint that the run continues, if it does.
    """

    def __init__(self, folder: Path, resumed: Path | None = None) -> None:
        self.earlier: list[dict[str, Any]] = [] if resumed is None else list(read_metrics(resumed))
        super().__init__(folder, name="", version="", flush_logs_every_n_steps=1)
        self.begun = False

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:  # noqa: ANN401 (Lightning's writer)
        """The writer of the file, which Lightning deletes first: what was logged is put back at once."""
        writer = super().experiment
        if self.earlier and not self.begun:
            self.begun = True
            self._write_again(self.earlier)
        return writer

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:  # type: ignore[override]  # Lightning declares two types
        """Logs metrics, at first behind what was logged before the step at which the run goes on."""
        if self.earlier and step is not None:
            kept, self.earlier = [row for row in self.earlier if int(row["step"]) < step], []
            self._write_again(kept)
        super().log_metrics(dict(metrics), step)

    def _write_again(self, rows: list[dict[str, Any]]) -> None:
        writer = super().experiment
        Path(writer.metrics_file_path).unlink(missing_ok=True)
        writer.metrics = list(rows)
        writer.save()

    def log_hyperparams(self, params: dict[str, Any] | Namespace | None = None) -> None:
        """Does nothing: they are in ``config.yaml``."""
