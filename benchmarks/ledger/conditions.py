"""What sets our rows apart from a paper's: data, models, settings or answers; and what bars a row from any verdict."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import PurePath
from typing import Any, NamedTuple

from benchmarks.experiments import parse_yaml
from benchmarks.leaderboard.rows import SMALL_SLICE, Row, Table
from benchmarks.leaderboard.sources import Finished
from benchmarks.ledger.reported import Claim, Paper, Place, ReportedFigure
from benchmarks.runs import CHECKPOINT, CONFIG, ORIGIN, Result, flat

UNDERTRAINED = "undertrained"
CAVEATS = (UNDERTRAINED, "selected on", "tuned on", "seeds share", "one of several runs")
"""Prefixes of marks that rule out a verdict: the row is not at its best, or was made under other conditions."""
HEADLINE = {"scorer": "score", "prompt_order": "none"}
"""Protocol fields of a headline result: how its candidates are scored and ordered."""
UNWRITTEN = "ranked by likelihood, where the paper reads written answers"
WHOLE = {"max_steps": (None, -1), "max_time": (None,), "limit_train_batches": (None, 1.0)}
"""Values with which settings of the Trainer leave an epoch whole, and their number to ``max_epochs``."""
OF_A_RUN = ("model", "data", "trainer")
"""What options of a run itself begin with; others begin with the role of a run that it builds on."""
HUB = re.compile(r"[\w-][\w.-]*/[\w.-]+")
"""A model's name on the hub, ``owner/name``; anything else that names a model is a folder."""


class Data(NamedTuple):
    """A copy of a data set, and whether its times are recorded."""

    dataset: str
    recipe: str | None
    time: str = "real"

    @classmethod
    def of(cls, run: Result) -> Data:
        """What a run was made on."""
        time = "imputed" if run.imputed_time else run.data.get("time", "real")
        return cls(run.dataset, run.data.get("recipe"), time)

    def differences(self, dataset: str, recipes: Collection[str]) -> list[str]:
        """What is not as in the paper's copy, made of a data set by one of some recipes."""
        if self.dataset != dataset:
            return [f"other data ({self.dataset})"]
        return [f"other data ({what})" for what in self.made_otherwise(recipes)]

    def made_otherwise(self, recipes: Collection[str]) -> list[str]:
        """What is not as in a copy made by one of some recipes."""
        other = {f"recipe {self.recipe}": self.recipe not in recipes, f"{self.time} times": self.time != "real"}
        return [what for what, holds in other.items() if holds]


class Facing(NamedTuple):
    """Rows of one table to compare with what is printed: one for a figure, two for an ordering."""

    table: Table
    rows: tuple[Row, ...]

    @property
    def seeds(self) -> int:
        """Number of seeds of the row that has the fewest."""
        return min(row.seeds for row in self.rows)

    @property
    def runs(self) -> tuple[str, ...]:
        """Ids of their runs."""
        return tuple(run.run_id for row in self.rows for run in row.runs)

    @property
    def unusual(self) -> list[str]:
        """How candidates were scored and ordered, where it is not as for a headline result."""
        fields = self.rows[0].runs[0].protocols[self.table.protocol]["fields"]
        return [
            f"{name.replace('_', ' ')} {fields[name]}"
            for name, usual in HEADLINE.items()
            if fields.get(name, usual) != usual
        ]

    @property
    def headline(self) -> bool:
        """Whether candidates were scored and checkpoints chosen as for a headline result."""
        return not self.unusual and not any(mark.startswith("selected on") for row in self.rows for mark in row.marks)


class Conditions:
    """Conditions under which rows were made.

    Args:
        found: Finished runs by id, those that others are tests of among them.
    """

    def __init__(self, found: Mapping[str, Finished]) -> None:
        self.found = found
        self._settings: dict[str, dict[str, Any]] = {}

    def differences(self, paper: Paper, reported: ReportedFigure | Claim, one: Facing) -> list[str]:
        """The parts of rows that are not the paper's."""
        differ = ["other cold users (truncated)"] if "truncated" in one.table.scenario else []
        for method, row in zip(methods_of(reported), one.rows, strict=False):
            for run in row.runs:
                differ += [*self._other_data(run, reported.place), *other_models(run, paper)]
                differ += self._other_settings(run, paper.settings_of(method, reported.place.dataset))
            # Orderings are judged case by case, and of written answers only the means are kept.
            if isinstance(reported, ReportedFigure) and answers_of(reported, row) not in {"", *row.metrics}:
                differ.append(UNWRITTEN)
        return list(dict.fromkeys(differ))

    def caveats(self, paper: Paper, one: Facing) -> list[str]:
        """Reasons why rows get no verdict, whatever their figures."""
        marks = []
        for row in one.rows:
            done = self._had_budget(paper, row)
            own = (mark for mark in row.marks if mark.startswith(CAVEATS))
            marks += [mark for mark in own if not (done and mark.startswith(UNDERTRAINED))]
        few = [f"fewer than {SMALL_SLICE} cases"] if one.table.cases < SMALL_SLICE else []
        return list(dict.fromkeys([*marks, *one.unusual, *few]))

    def _other_data(self, run: Result, place: Place) -> list[str]:
        """How the data of a test and, if it was trained on another data set, those of the training differ."""
        differ = Data.of(run).differences(place.dataset, place.recipes)
        if ORIGIN not in run.data:
            return differ
        trained = self._trained(run)
        if trained is None:
            return [*differ, f"unknown training on {run.data[ORIGIN]}"]
        others = Data.of(trained).differences(run.data[ORIGIN], place.recipes)
        return [*differ, *(f"trained on {other}" for other in others)]

    def _other_settings(self, run: Result, printed: Mapping[str, Any]) -> list[str]:
        """The settings of a run, and of those that it builds on as far as they are here, that differ from a paper's."""
        others = []
        trained = self._trained(run)
        for option, value in printed.items():
            role, _, rest = option.partition(".")
            behind = trained.predecessors.get(role, "") if trained else ""
            name = run.run_id if role in OF_A_RUN else behind
            if name in self.found:
                own = self._settings_of(name).get(option if role in OF_A_RUN else rest, "unset")
                others += [f"{option} {own}"] if own != value else []
        return [f"other settings ({', '.join(others)})"] if others else []

    def _settings_of(self, run_id: str) -> dict[str, Any]:
        """The settings of a run by option."""
        if run_id not in self._settings:
            self._settings[run_id] = flat(parse_yaml(self.found[run_id].text(CONFIG)) or {})
        return self._settings[run_id]

    def _trained(self, run: Result) -> Result | None:
        """The run whose weights a run has, if it is known."""
        while CHECKPOINT in run.predecessors:
            if run.predecessors[CHECKPOINT] not in self.found:
                return None
            run = self.found[run.predecessors[CHECKPOINT]].result
        return run

    def _had_budget(self, paper: Paper, row: Row) -> bool:
        """Whether all runs of a row were given the epochs that the paper prints for their method."""
        budget = paper.epochs_of(row.runs[0].method)
        return budget is not None and all(whole_epochs(self.found[run.run_id]) >= budget for run in row.runs)


def methods_of(reported: ReportedFigure | Claim) -> tuple[str, str]:
    """The paper's names of both sides of an ordering, or of a method and of what it is relative to."""
    if isinstance(reported, Claim):
        return reported.better, reported.worse
    return reported.method, reported.place.relative_to


def answers_of(reported: ReportedFigure | Claim, row: Row) -> str:
    """The metric of written answers that faces what is reported; empty for a row without a language model."""
    return reported.answers if row.runs[0].language_model is not None else ""


def other_models(run: Result, paper: Paper) -> list[str]:
    """Models inside a run's method that are not the paper's."""
    models = {
        "language model": (run.language_model, paper.language_models),
        "text encoder": (run.text_encoder, paper.encoders_of(run.method)),
    }
    others = [f"other {kind} ({own})" for kind, (own, papers) in models.items() if own and not named(own, papers)]
    recipe = run.data.get("recipe")
    # A file holds a vector per item by number alone, and the numbers depend on the recipe.
    misplaced = (run.text_encoder or "").startswith("file:") and recipe not in paper.file_recipes.get(
        run.dataset, [recipe]
    )
    return [*others, *([f"vectors in another order of items (recipe {recipe})"] if misplaced else [])]


def whole_epochs(run: Finished) -> int:
    """Epochs that a training was given, 0 if something else could end or shorten it."""
    trainer = (parse_yaml(run.text(CONFIG)) or {}).get("trainer", {})
    whole = all(trainer.get(name) in usual for name, usual in WHOLE.items())
    return int(trainer.get("max_epochs") or 0) if whole else 0


def named(name: str, patterns: Iterable[str]) -> bool:
    """Whether a model matches a pattern by its name or, if it is a local folder, by its base name.

    A relative path of two parts is taken for a name on the hub.

    >>> named("/models/opt-6.7b", ["facebook/opt-6.7b"]), named("file:/x/feat.GPT", ["file:*feat.GPT*"])
    (True, True)
    >>> named("someone/opt-6.7b", ["facebook/opt-6.7b"])
    False
    """
    own = name.removeprefix("sbert:")
    base = "" if ":" in own or HUB.fullmatch(own) else PurePath(own).name
    return any(
        fnmatchcase(name, pattern) or fnmatchcase(own, pattern) or base == PurePath(pattern).name
        for pattern in patterns
    )
