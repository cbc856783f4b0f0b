"""Text tables with aligned columns."""

from __future__ import annotations

from collections.abc import Sequence


def aligned(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """The cells of a table, each padded to the width of its column.

    >>> aligned([("a", "b"), ("long", "")])
    [['a   ', 'b'], ['long', ' ']]
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table that is also readable as plain text.

    >>> for line in markdown(["method", "hr"], [["knn", "0.1"]]):
    ...     print(line)
    | method | hr  |
    | ------ | --- |
    | knn    | 0.1 |
    """
    first, *others = aligned([head, *rows])
    return ["| " + " | ".join(cells) + " |" for cells in (first, ["-" * len(cell) for cell in first], *others)]
