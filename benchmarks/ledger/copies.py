"""Data sets that stand for a paper's, or were made in another way."""

from __future__ import annotations

from functools import cache

from benchmarks.ledger.conditions import Data
from benchmarks.ledger.reported import REPORTED, Paper, paper_names, read_paper
from benchmarks.runs import Result


def difference_from_papers(run: Result) -> str:
    """How the data of a run differ from the copies of the papers that report on them, or on what they stand for.

    Empty if they do not differ from that of one paper, or no paper reports on them.
    """
    data = Data(run.dataset, run.data.get("recipe"), run.data.get("time", "real"))
    reasons = []
    for paper in _papers():
        replaced = [key for key, copies in paper.copies.items() if data.dataset in copies]
        # A claim may be about data for which the paper has no recipe of its own.
        own = {place.dataset for place in paper.places if not set(place.recipes).isdisjoint(paper.recipes)}
        if data.dataset in own:
            other = data.made_otherwise(paper.recipes)
            if not other:
                return ""
            reasons.append(f"not {paper.name}'s copy: {', '.join(other)}")
        elif replaced:
            reasons.append(f"not {paper.name}'s data, which are {replaced[0]}")
    return "; ".join(reasons)


@cache
def _papers() -> list[Paper]:
    return [read_paper(REPORTED / f"{name}.yaml") for name in paper_names()]
