"""A short text summary of one run."""

from __future__ import annotations

from benchmarks.leaderboard.rows import SHOWN
from benchmarks.results import ALL_CASES
from benchmarks.runs import Result


def summary_lines(result: Result) -> list[str]:
    """A line about the training of a run, and one line of metrics per protocol."""
    seconds, training = result.seconds, result.training
    how = "closed form"
    # What builds on trained runs may be no floor and yet have nothing to train.
    if not (result.closed_form or training.get("stopped") == "closed_form"):
        epochs = training.get("epochs", 0)
        how = f"{epochs} epoch{'' if epochs == 1 else 's'}, stopped by {training.get('stopped', 'evaluation')}, "
        how += f"{seconds.get('train', 0):.1f} s training"
    late = ", undertrained" if training.get("undertrained") else ""
    place = f"{result.dataset} / {result.method}, seed {result.seed}"
    lines = [f"{place}: {how}, {seconds.get('test', 0):.1f} s test{late}"]
    for protocol in result.protocols:
        own = f"test/{protocol}/{ALL_CASES}"
        keys = {name: f"{own}/{name}" for name in SHOWN}
        figures = [f"{name} {result.metrics[key]:.4f}" for name, key in keys.items() if key in result.metrics]
        cases = result.cases[own]
        lines.append(f"  {protocol} ({cases:,} cases): " + "  ".join(figures))
    return lines
