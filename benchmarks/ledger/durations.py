"""Times as papers print them: of training with all that a run is made from, of a batch, and relative to a method."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from benchmarks.experiments import parse_yaml
from benchmarks.leaderboard.rows import Cell, Row, users_per_second
from benchmarks.leaderboard.sources import Finished
from benchmarks.runs import CHECKPOINT, CONFIG, Result
from benchmarks.standins import STANDIN

RATIOS = {"train_ratio": "train_minutes", "inference_ratio": "case_seconds"}
"""Metrics relative to another method, and the time they are the ratio of."""
Duration = Callable[[Result], float | None]


class Durations:
    """Times of runs.

    Args:
        found: Finished runs by id, those that others are made from among them.
    """

    def __init__(self, found: Mapping[str, Finished]) -> None:
        self.found = found
        self.measures: dict[str, Duration] = {
            "train_minutes": self.train_minutes,
            "inference_seconds": self.inference_seconds,
            "case_seconds": self.case_seconds,
        }

    def cell(self, row: Row, metric: str) -> Cell | None:
        """A row's time; ``None`` if that of one of its runs is unknown."""
        values = [self.measures[metric](run) for run in row.runs]
        return None if None in values else Cell.of([value for value in values if value is not None])

    def ratio(self, row: Row, other: Row, metric: str) -> Cell | None:
        """How many times as long as another row a row takes: the ratio of their mean times."""
        own, usual = (self.cell(one, RATIOS[metric]) for one in (row, other))
        if own is None or usual is None or not usual.mean:
            return None
        return Cell(own.mean / usual.mean, None, min(own.n, usual.n))

    def train_minutes(self, run: Result) -> float | None:
        """Minutes of training of a run and of every run that it is made from, a stand-in language model aside."""
        needed, seconds = [run.run_id], dict[str, float]()
        while needed:
            one = self.found.get(needed.pop())
            if one is None:
                return None
            made_from = one.result.predecessors
            if CHECKPOINT in made_from:
                needed.append(made_from[CHECKPOINT])
            elif "train" not in one.result.seconds:
                return None
            else:
                seconds[one.result.run_id] = one.result.seconds["train"]
                needed += [name for role, name in made_from.items() if role != STANDIN and name not in seconds]
        return sum(seconds.values()) / 60

    def inference_seconds(self, run: Result) -> float | None:
        """Seconds of the test per batch of ``eval_batch_size`` cases."""
        config = parse_yaml(self.found[run.run_id].text(CONFIG)) or {}
        size = config.get("data", {}).get("init_args", {}).get("eval_batch_size")
        speed = users_per_second(run)
        return None if size is None or not speed else size / speed

    def case_seconds(self, run: Result) -> float | None:
        """Seconds of the test per case."""
        speed = users_per_second(run)
        return 1 / speed if speed else None
