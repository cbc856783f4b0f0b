"""Suites of runs: their plan, the processes or machines that carry them out, and what happened to each run."""
