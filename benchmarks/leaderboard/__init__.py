"""From finished runs to tables: rows, verdicts, and output formats."""

from benchmarks.leaderboard.rows import Cell, Row, Standing, Table, build_table, build_tables

__all__ = ("Cell", "Row", "Standing", "Table", "build_table", "build_tables")
