"""A short text summary of one run."""

from __future__ import annotations

import math

from benchmarks.leaderboard.rows import SHOWN
from benchmarks.results import metric_of
from benchmarks.runs import Result


def summary_lines(result: Result) -> list[str]:
    """A line about the training of a run, and one line of metrics per protocol."""
    seconds = result.seconds
    training = result.training
    lines = [
        f"{result.dataset} / {result.method}, seed {result.seed}: {training.get('epochs', 0)} epochs, "
        f"stopped by {training.get('stopped', 'evaluation')}, "
        f"{seconds.get('train', 0):.1f} s training, {seconds.get('test', 0):.1f} s test"
        + (", undertrained" if training.get("undertrained") else "")
    ]
    for protocol in result.protocols:
        figures = [
            f"{name} {metric_of(result.metrics, protocol, name):.4f}"
            for name in SHOWN
            if not math.isnan(metric_of(result.metrics, protocol, name))
        ]
        cases = result.cases[f"test/{protocol}/overall"]
        lines.append(f"  {protocol} ({cases:,} cases): " + "  ".join(figures))
    return lines
