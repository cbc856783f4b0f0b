"""Times as papers print them: of training with all that a run is made from, of a batch, and relative to a method."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from benchmarks.experiments import parse_yaml
from benchmarks.leaderboard.rows import Cell, Row, users_per_second
from benchmarks.leaderboard.sources import Finished
from benchmarks.runs import CHECKPOINT, CONFIG, Result
from benchmarks.standins import STANDIN

RATIOS = {"train_ratio": "train_minutes", "inference_ratio": "case_seconds"}
"""Metrics relative to another method, and the time they are the ratio of."""
MACHINE = ("processor", "cores", "gpus")
"""What two machines must have in common for times on them to be compared."""
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
        """How many times as long as another row a row takes, over the seeds that both have."""
        pairs = self._pairs(row, other, RATIOS[metric])
        return Cell.of([own / usual for own, usual in pairs]) if pairs and all(usual for _, usual in pairs) else None

    def lead(self, row: Row, other: Row, metric: str) -> Cell | None:
        """How much longer a row takes than another, over the seeds that both have."""
        pairs = self._pairs(row, other, metric)
        return Cell.of([own - usual for own, usual in pairs]) if pairs else None

    def differences(self, metric: str, rows: Sequence[Row], gpus: Sequence[str]) -> list[str]:
        """Why times of rows may not be compared: those of one with what is printed, those of two with each other.

        Args:
            metric: What is compared.
            rows: One row, or two.
            gpus: The GPUs behind what is printed, as patterns; empty if they do not matter.
        """
        if metric not in {*self.measures, *RATIOS}:
            return []
        trained = "train_minutes" in (metric, RATIOS.get(metric))
        known = [self._behind(run) if trained else [run] for row in rows for run in row.runs]
        machines = [one.environment.get("hardware", {}) for runs in known for one in runs or []]
        if not all(machines):
            return ["unknown hardware"]
        if len(rows) > 1:
            several = len({str([machine.get(part) for part in MACHINE]) for machine in machines}) > 1
            return ["times on several machines"] if several else []
        return [f"other hardware ({_named(one)})" for one in machines if gpus and not _has(one.get("gpus", []), gpus)]

    def train_minutes(self, run: Result) -> float | None:
        """Minutes of training of a run and of every run that it is made from, a stand-in language model aside."""
        runs = self._behind(run)
        if runs is None or not all("train" in one.seconds for one in runs):
            return None
        return sum(one.seconds["train"] for one in runs) / 60

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

    def _behind(self, run: Result) -> list[Result] | None:
        """The trainings that a run is made of, that of a stand-in language model aside; ``None`` if one is not here."""
        needed, runs = [run.run_id], dict[str, Result]()
        while needed:
            one = self.found.get(needed.pop())
            if one is None:
                return None
            made_from = one.result.predecessors
            if CHECKPOINT in made_from:
                needed.append(made_from[CHECKPOINT])
            else:
                runs[one.result.run_id] = one.result
                needed += [name for role, name in made_from.items() if role != STANDIN and name not in runs]
        return list(runs.values())

    def _pairs(self, row: Row, other: Row, metric: str) -> list[tuple[float, float]]:
        """Times of two rows by seed, for the seeds that both have."""
        own, others = ({run.seed: self.measures[metric](run) for run in one.runs} for one in (row, other))
        pairs = [(time, others[seed]) for seed, time in own.items() if seed in others]
        return [(time, usual) for time, usual in pairs if time is not None and usual is not None]


def _has(gpus: Sequence[str], patterns: Sequence[str]) -> bool:
    """Whether there are as many GPUs as patterns, each of its own."""
    return len(gpus) == len(patterns) and all(map(fnmatchcase, sorted(gpus), sorted(patterns)))


def _named(machine: Mapping[str, Any]) -> str:
    return ", ".join(machine.get("gpus", [])) or str(machine.get("processor", "no GPU"))
