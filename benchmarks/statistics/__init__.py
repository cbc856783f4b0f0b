"""Which differences between rows are real: bootstrap, verdicts, and what verdicts do on invented data."""
