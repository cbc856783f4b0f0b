"""A short text summary of one run."""

from __future__ import annotations

from benchmarks.leaderboard.rows import SHOWN
from benchmarks.results import OVERALL
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
        own = f"test/{protocol}/{OVERALL}"
        keys = {name: f"{own}/{name}" for name in SHOWN}
        figures = [f"{name} {result.metrics[key]:.4f}" for name, key in keys.items() if key in result.metrics]
        cases = result.cases[own]
        lines.append(f"  {protocol} ({cases:,} cases): " + "  ".join(figures))
    return lines
