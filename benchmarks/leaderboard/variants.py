"""What tells tables of one data set and protocol apart: fields of the protocol in which their results differ."""

from __future__ import annotations

import re
from collections.abc import Sequence

from benchmarks.runs import Result
from common.data.views import OVERALL

HASH = re.compile("[0-9a-f]{13,}")
"""A value of which the first 12 letters are enough, as in the names of stores."""

IMPLIED = {"cases": "test_users", "drawn_users": "test_users", "candidates": "data"}
"""Fields of a protocol that follow from another: the cases from the number of users, and candidates from the data."""


def variant_of(own: Result, alike: Sequence[Result], protocol: str) -> str:
    """The fields in which a protocol differs from those of the same scenario, with its own values."""

    def fields(result: Result) -> dict[str, str]:
        values = {"scenario": OVERALL} | result.protocols[protocol]["fields"]
        return {name: str(value) for name, value in values.items()}

    mine = fields(own)
    others = [other for other in map(fields, alike) if other["scenario"] == mine["scenario"]]
    differing = [name for name, value in mine.items() if any(other.get(name) != value for other in others)]
    shown = [name for name in sorted(differing) if IMPLIED.get(name) not in differing]
    recipe = str(own.data.get("recipe", ""))
    return ", ".join(
        f"recipe {recipe}" if name == "data" and recipe else f"{name.replace('_', ' ')} {_shown(mine[name])}"
        for name in shown
    )


def difference(one: Result, other: Result, protocol: str) -> str:
    """The fields of a protocol in which two results differ, with both values."""
    a, b = ({"scenario": OVERALL} | result.protocols[protocol]["fields"] for result in (one, other))
    names = {name for name in a.keys() | b.keys() if a.get(name) != b.get(name)}
    shown = sorted(name for name in names if IMPLIED.get(name) not in names)
    values = [(name.replace("_", " "), *(_shown(fields.get(name, "none")) for fields in (a, b))) for name in shown]
    return "differs in " + ", ".join(f"{name}: {mine} | {theirs}" for name, mine, theirs in values)


def _shown(value: object) -> str:
    text = str(value)
    return text[:12] if HASH.fullmatch(text) else text
