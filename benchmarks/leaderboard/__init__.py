"""From finished runs to tables: rows, verdicts, and output formats."""
