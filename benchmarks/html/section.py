"""What all pages share: their templates, the time they were made, and headed tables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from html import escape
from pathlib import Path

ASSETS = Path(__file__).parent / "assets"


def filled(template: str, parts: Mapping[str, str]) -> str:
    """A page.

    Args:
        template: Name of its template among the assets.
        parts: What replaces each ``{{name}}`` in it.
    """
    # In one pass, because what is filled in may itself contain such names.
    return re.sub(r"{{(\w+)}}", lambda place: parts[place[1]], (ASSETS / template).read_text("utf-8"))


def now() -> str:
    """The time at which a page is made."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def section(title: str, about: str, columns: Mapping[str, bool], body: str) -> str:
    """A section of a page with one table.

    Args:
        title: Heading, as text.
        about: What stands beside it, as HTML.
        columns: Name of each column, as HTML, and whether it is aligned to the left.
        body: The rows, as HTML.
    """
    head = "".join(
        f'<th scope="col"{alignment(left)} style="padding:.55rem .7rem">{name}</th>' for name, left in columns.items()
    )
    return (
        f'<section><div class="heading"><h2>{escape(title)}</h2><p>{about}</p></div>'
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(title)}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div></section>"
    )


def alignment(left: bool) -> str:
    """The attribute of a cell of a column."""
    return ' class="left"' if left else ""
