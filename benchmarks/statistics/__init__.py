"""Which differences between rows are real: bootstrap, verdicts, and a simulation of their error rates."""
