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
    r"""Lines of a Markdown table that is also readable as plain text, whatever its cells contain.

    >>> for line in markdown(["method", "hr"], [["knn", "0.1"]]):
    ...     print(line)
    | method | hr  |
    | ------ | --- |
    | knn    | 0.1 |
    >>> markdown(["a|b"], [["c\nd"]])
    ['| a\\|b |', '| ---- |', '| c d  |']
    """
    first, *others = aligned([[_cell(text) for text in row] for row in (head, *rows)])
    return ["| " + " | ".join(cells) + " |" for cells in (first, ["-" * len(cell) for cell in first], *others)]


def _cell(text: str) -> str:
    """Text that neither ends its cell nor its line; a backslash would undo the escape of a bar behind it."""
    return " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|")
