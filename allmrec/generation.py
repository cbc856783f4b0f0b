"""Written answers and prompts: which candidate an answer names, and what a test owes to the length of texts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchmetrics import Metric

from common.data.candidates import normalise_title
from common.metrics.cases import first_of_each
from common.nn.exact import float64_device


class Verdict(NamedTuple):
    """What an answer is worth."""

    hit: float
    """1 / m if the answer names m candidates of one title and the target is among them, else 0."""
    empty: bool
    ambiguous: bool
    """Whether it names several candidates."""
    out_of_list: bool
    """Whether it says something, but names no candidate."""


def named(answer: str) -> str:
    """The title that an answer names: what stands between its first and last quotation mark, or all of it.

    >>> named(' "red wolf" '), named('"red wolf'), named("red wolf")
    ('red wolf', 'red wolf', 'red wolf')
    """
    first, last = answer.find('"'), answer.rfind('"')
    return answer[first + 1 : last if last > first else None].strip()


def judge(answer: str, candidates: Sequence[str], target: int) -> Verdict:
    """Compares an answer with the candidates' titles: equal after normalisation, or no candidate at all.

    Args:
        answer: What the language model wrote.
        candidates: Titles.
        target: Place of the right one.

    >>> judge('"Red  Wolf"', ["red wolf", "sea", "red wolf"], target=2)
    Verdict(hit=0.5, empty=False, ambiguous=True, out_of_list=False)
    """
    title = normalise_title(named(answer))
    matches = [i for i, candidate in enumerate(candidates) if normalise_title(candidate) == title and title]
    hit = 1 / len(matches) if target in matches else 0.0
    return Verdict(hit, not title, len(matches) > 1, bool(title) and not matches)


def legacy_hit(answer: str, title: str) -> bool:
    """The released rule: the lower-cased true title is a part of what stands between the outermost quotation marks.

    It also counts answers that name another, longer title. Here text without quotation marks is taken whole.

    >>> legacy_hit('"Red Wolf Two"', "red wolf")
    True
    """
    return title.lower() in named(answer).lower()


def verdicts(answers: Sequence[str], titles: Sequence[Sequence[str]]) -> Float[Tensor, "b 5"]:
    """A row for each answer: its :class:`Verdict`, and that of the released rule.

    Args:
        answers: What the language model wrote.
        titles: Titles of each row's candidates, the target's first.
    """
    rows = [
        [*judge(answer, shown, target=0), legacy_hit(answer, shown[0])]
        for answer, shown in zip(answers, titles, strict=True)
    ]
    return torch.tensor(rows, dtype=torch.float64)


def owed_to_lengths(
    scores: Float[Tensor, "b c"], tokens: Int[Tensor, "b c"], shortened: Sequence[bool]
) -> Float[Tensor, "b 4"]:
    """A row for each case: the terms of a correlation of scores with lengths, and whether its prompt was shortened.

    Args:
        scores: Score of each candidate.
        tokens: Tokens of its title.
        shortened: Whether the history had to be shortened.
    """
    device = float64_device(scores.device)
    exact = (values.to(device).double() for values in (tokens, scores))
    x, y = (values - values.mean(1, keepdim=True) for values in exact)
    cut = torch.tensor(shortened, dtype=torch.float64, device=device)
    return torch.stack([(x * y).sum(1), x.square().sum(1), y.square().sum(1), cut], dim=1)


class CaseRates(Metric, ABC):
    """Figures over all test cases of one protocol, each case a row of numbers.

    Like ranks, the cases of all processes are gathered and each counts once, so that no figure depends on the number of
    processes or on the padding of the last batch.
    """

    is_differentiable = False
    higher_is_better = None
    full_state_update = False
    cases: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("cases", [], dist_reduce_fx="cat")

    def update(self, case_id: Int[Tensor, "b"], rows: Float[Tensor, "b r"]) -> None:
        """Takes in a batch.

        Args:
            case_id: Index of each case in its stored split.
            rows: What is known of each case.
        """
        device = float64_device(rows.device)
        self.cases.append(torch.cat([case_id[:, None].to(device).double(), rows.to(device)], dim=1))

    def compute(self) -> Float[Tensor, "m r_plus_1"]:
        """The cases of all processes, each once and by id: the id, then what is known of it."""
        cases = torch.cat(self.cases) if isinstance(self.cases, list) else self.cases
        return cases[first_of_each(cases[:, 0].long())]

    def rows(self) -> Float[Tensor, "m r"]:
        """What is known of each case, by case id."""
        return self.compute()[:, 1:]

    @abstractmethod
    def figures(self) -> dict[str, Tensor]:
        """Each figure by its name."""


class AnswerRates(CaseRates):
    """Means of :func:`verdicts`."""

    def figures(self) -> dict[str, Tensor]:
        """``hr@1`` of the answers, rates ``empty``, ``ambiguous`` and ``out_of_list``, and ``legacy_hr@1``."""
        means = self.rows().mean(0)
        return dict(zip(("hr@1", "empty", "ambiguous", "out_of_list", "legacy_hr@1"), means, strict=True))

    def hits(self) -> dict[str, Float[Tensor, "m"]]:
        """What each case's answer is worth by either rule, by case id: ``hr@1`` and ``legacy_hr@1``."""
        rows = self.rows().cpu()
        return {"hr@1": rows[:, 0], "legacy_hr@1": rows[:, -1]}


class PromptRates(CaseRates):
    """What the scores and prompts of a test owe to the length of texts, from rows of :func:`owed_to_lengths`.

    ``length_correlation`` is that of a candidate's score with the tokens of its title, within each case's list: summed
    likelihood favours short titles. ``shortened`` is the share of prompts whose history was shortened.
    """

    def figures(self) -> dict[str, Tensor]:
        """Both figures; the first is 0 where all titles or all scores are alike."""
        cases = self.rows()
        xy, xx, yy, shortened = cases.sum(0)
        correlation = xy / (xx * yy).sqrt() if xx * yy > 0 else torch.zeros_like(xy)
        return {"length_correlation": correlation, "shortened": shortened / len(cases)}


class ShortenedRate(CaseRates):
    """The share of prompts whose history was shortened, from rows of one number."""

    def figures(self) -> dict[str, Tensor]:
        """``shortened``."""
        return {"shortened": self.rows()[:, 0].mean()}
