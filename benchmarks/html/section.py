"""A headed table, as the ledger and the page about relations show it."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape


def section(title: str, about: str, columns: Mapping[str, bool], body: str) -> str:
    """A section of a page with one table.

    Args:
        title: Heading, as text.
        about: What stands beside it, as HTML.
        columns: Name of each column, as HTML, and whether it is aligned to the left.
        body: The rows, as HTML.
    """
    head = "".join(
        f'<th scope="col"{aligned(left)} style="padding:.55rem .7rem">{name}</th>' for name, left in columns.items()
    )
    return (
        f'<section><div class="heading"><h2>{escape(title)}</h2><p>{about}</p></div>'
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(title)}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div></section>"
    )


def aligned(left: bool) -> str:
    """The attribute of a cell of a column."""
    return ' class="left"' if left else ""
