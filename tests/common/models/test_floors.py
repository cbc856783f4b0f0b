import csv
import json
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Float
from lightning.pytorch.plugins import HalfPrecision
from torch import Tensor

from common.errors import UserError
from common.metrics.ranking import CaseRanks
from common.models.closed_form import ClosedFormRecommender
from common.models.floors import DAY, DecayPopularity, EventLog, NewestFirst, Popularity, RecentPopularity
from common.types import Catalogue, SequenceBatch
from tests.common.models import toy
from tests.common.models.cases import ModelCases


class TestPopularity(ModelCases):
    model = Popularity


class TestRecentPopularity(ModelCases):
    model = RecentPopularity
    arguments = {"days": 5.0}
    exceptions = {"test_scores_need_no_float64": "windows begin on the CPU, whatever the device"}


class TestDecayPopularity(ModelCases):
    model = DecayPopularity
    arguments = {"half_life": 2.0, "clock": "last_event"}
    exceptions = {"test_scores_need_no_float64": "ages are weighted on the CPU, whatever the device"}


class TestNewestFirst(ModelCases):
    model = NewestFirst


events = st.lists(st.tuples(st.integers(1, 4), st.integers(0, 12)), min_size=1, max_size=20)
NEVER = torch.iinfo(torch.long).min
queries = st.lists(st.integers(-1, 14), min_size=1, max_size=6)


def _catalogue(pairs: list[tuple[int, int]]) -> Catalogue:
    items, times = torch.tensor(pairs).T
    return {
        "num_items": 4,
        "num_users": 1,
        "train": {"offsets": torch.tensor([0, 0, len(pairs)]), "items": items, "times": times * DAY},
        "train_count": torch.bincount(items, minlength=5),
    }


def _batch(days: list[int]) -> SequenceBatch:
    times = torch.tensor(days) * DAY
    history = torch.zeros(len(days), 2, dtype=torch.long)
    return {"target_time": times, "history": history, "history_time": torch.stack([times * 0, times - DAY], dim=1)}


def _scores(model: ClosedFormRecommender, pairs: list[tuple[int, int]], days: list[int]) -> list[list[float]]:
    model.attach(_catalogue(pairs))
    rows: list[list[float]] = model.score_catalogue(_batch(days))[:, 1:].tolist()
    return rows


def _loop(pairs: list[tuple[int, int]], days: list[int], weight: Callable[[int], float]) -> list[list[float]]:
    """Sum of ``weight(age in days)`` over the events of each item before each query."""
    return [[sum(weight(q - t) for i, t in pairs if i == item and t < q) for item in range(1, 5)] for q in days]


@settings(max_examples=40, deadline=None)
@given(events, queries, st.integers(1, 8).map(float) | st.just(float("inf")))
def test_recent_popularity_agrees_with_a_loop(pairs: list[tuple[int, int]], days: list[int], window: float) -> None:
    expected = _loop(pairs, days, lambda age: age <= window)
    assert _scores(RecentPopularity(4, days=window), pairs, days) == expected


@settings(max_examples=40, deadline=None)
@given(events, queries, st.floats(0.5, 20))
def test_decay_popularity_agrees_with_a_loop(pairs: list[tuple[int, int]], days: list[int], half_life: float) -> None:
    expected = torch.tensor(_loop(pairs, days, lambda age: 0.5 ** (age / half_life)))
    torch.testing.assert_close(torch.tensor(_scores(DecayPopularity(4, half_life), pairs, days)), expected.float())


@settings(max_examples=40, deadline=None)
@given(events, queries)
def test_newest_first_orders_by_first_event_known_at_the_query(pairs: list[tuple[int, int]], days: list[int]) -> None:
    scores = _scores(NewestFirst(4), pairs, days)
    for query, row in zip(days, scores, strict=True):
        first = [min((t for i, t in pairs if i == item), default=99) for item in range(1, 5)]
        known = [time if time <= query else -1 for time in first]
        for a in range(4):
            for b in range(4):
                assert (row[a] > row[b]) == (known[a] > known[b])


@settings(max_examples=20, deadline=None)
@given(events, queries)
def test_last_times_agree_with_a_loop(pairs: list[tuple[int, int]], days: list[int]) -> None:
    found = EventLog(_catalogue(pairs)).last_times(torch.tensor(days) * DAY)
    for query, row in zip(days, found.tolist(), strict=True):
        assert row[1:] == [
            max((t * DAY for i, t in pairs if i == item and t < query), default=NEVER) for item in range(1, 5)
        ]


def test_last_times_may_lie_before_1970() -> None:
    found = EventLog(_catalogue([(1, -9), (2, -7), (1, -8), (2, -5)])).last_times(torch.tensor([-6 * DAY]))
    assert found[0, 1:].tolist() == [-8 * DAY, -7 * DAY, NEVER, NEVER]


@pytest.mark.parametrize("model", [RecentPopularity(4, clock="last_event"), NewestFirst(4, clock="last_event")])
def test_last_event_clock_does_not_read_the_query_time(model: ClosedFormRecommender) -> None:
    model.attach(_catalogue([(1, 3), (2, 5), (3, 7)]))
    early, late = _batch([6]), _batch([6])
    late["target_time"] = late["target_time"] + 100 * DAY
    assert torch.equal(model.score_catalogue(early), model.score_catalogue(late))
    assert model.information_set == {"event_times"}


@pytest.mark.parametrize(("model", "value"), [("days", -5.0), ("days", 0.0), ("half_life", -1.0), ("half_life", 0.0)])
def test_windows_that_look_ahead_are_refused(model: str, value: float) -> None:
    with pytest.raises(UserError, match=rf"--model.{model} is {value}"):
        RecentPopularity(3, days=value) if model == "days" else DecayPopularity(3, half_life=value)


def test_decay_underflows_to_nothing_over_many_half_lives_and_never_overflows() -> None:
    scores = _scores(DecayPopularity(4, half_life=1.0), [(1, 0), (2, 0), (2, 0), (1, 4999)], [0, 1, 5000])
    assert scores[0] == [0, 0, 0, 0]
    assert scores[1] == [2**-1.0, 2 * 2**-1.0, 0, 0]
    assert scores[2] == [2**-1.0, 0, 0, 0]


@pytest.mark.parametrize(
    "model", [Popularity(4), RecentPopularity(4, days=600.0), DecayPopularity(4, half_life=900.0), NewestFirst(4)]
)
def test_a_trainer_in_half_precision_does_not_round_counts(model: ClosedFormRecommender) -> None:
    pairs = [(1 + day % 4, day) for day in range(1030)]
    exact = _scores(model, pairs, [1100, 700])
    precision = HalfPrecision("bf16-true")
    model.attach(_catalogue(pairs))
    precision.convert_module(model)
    with precision.test_step_context():
        found = model.score_catalogue(_batch([1100, 700]))
    assert found[:, 1:].tolist() == exact


def test_events_of_the_1950s_fade_like_those_of_today() -> None:
    long_ago = -20 * 365
    pairs = [(1 + day % 4, long_ago + day) for day in range(12)]
    days = [long_ago - 400, long_ago + 3, long_ago + 9, long_ago + 12, 0, 400]
    expected = torch.tensor(_loop(pairs, days, lambda age: 0.5**age)).float()
    assert expected[1:4].sum(1).min() > 0.5
    torch.testing.assert_close(torch.tensor(_scores(DecayPopularity(4, half_life=1.0), pairs, days)), expected)


def test_states_within_the_log_agree_with_a_loop() -> None:
    known = toy.catalogue(returning=True)
    times, items = known["train"]["times"], known["train"]["items"]
    log, moments = EventLog(known), torch.cat([times, times + 1])[torch.randperm(2 * len(times))]
    assert len(log.marks) == 5
    earlier = [items[times < moment] for moment in moments]
    expected = torch.stack([torch.bincount(part, minlength=toy.NUM_ITEMS + 1) for part in earlier])
    assert torch.equal(log.counts(moments), expected.float())
    latest = torch.full_like(expected, NEVER)
    for row, moment in zip(latest, moments, strict=True):
        for item, time in zip(items.tolist(), times.tolist(), strict=True):
            row[item] = max(int(row[item]), time) if time < moment else row[item]
    assert torch.equal(log.last_times(moments), latest)


def test_decay_of_a_row_does_not_depend_on_the_rest_of_the_batch() -> None:
    log, moments = EventLog(toy.catalogue(), half_life=2.0 * DAY), torch.tensor([1010, 1030, 1005, 990]) * DAY
    together = log.counts(moments)
    assert torch.equal(together, torch.cat([log.counts(moment[None]) for moment in moments]))
    assert together[:3].sum(1).min() > 0


class StaticScores(ClosedFormRecommender):
    """The same given scores for every user."""

    def __init__(self, scores: Tensor) -> None:
        super().__init__(len(scores) - 1)
        self.scores = scores.float()

    def score_catalogue(self, batch: SequenceBatch) -> Float[Tensor, "b i_plus_1"]:
        return self.scores.repeat(len(batch["history"]), 1)


def _office(folder: Path, phase: str) -> tuple[SequenceBatch, Tensor]:
    """Cases with their shipped negatives, and the items of training events in file order."""
    with (folder / "train.csv").open() as file:
        train = torch.tensor([int(row["item_id"]) for row in csv.DictReader(file, delimiter="\t")])
    with (folder / f"{phase}.csv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    candidates = torch.tensor([[int(row["item_id"]), *json.loads(row["neg_items"])] for row in rows])
    ids = torch.arange(len(rows))
    none = torch.zeros(len(rows), 1, dtype=torch.long)
    batch: SequenceBatch = {"user_id": ids, "history": none, "protocol": "sampled-99", "case_id": ids}
    return {**batch, "target": candidates[:, 0], "candidates": candidates}, train


def _office_scores(name: str, train: Tensor) -> Tensor:
    if name == "constant":
        return torch.zeros(2421)
    if name == "popularity":
        return torch.bincount(train, minlength=2421)
    if name == "item id":
        return torch.arange(2421)
    # Item 0 takes no part; later assignments lose, so that the first position stays.
    first = torch.full((2421,), -1)
    first[train.flip(0)] = torch.arange(len(train)).flip(0)
    return first


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "phase", "expected"),
    [
        ("constant", "test", (0.0500, 0.1000, 0.0295, 0.0454)),
        ("popularity", "test", (0.0627, 0.1511, 0.0349, 0.0630)),
        ("popularity", "dev", (0.1011, 0.2149, 0.0581, 0.0942)),
        ("newest first", "test", (0.2720, 0.3859, 0.1772, 0.2142)),
        ("newest first", "dev", (0.1690, 0.2842, 0.0982, 0.1355)),
        ("item id", "test", (0.2697, 0.3825, 0.1742, 0.2109)),
    ],
)
def test_office_figures(real_data: Path, name: str, phase: str, expected: tuple[float, ...]) -> None:
    batch, train = _office(real_data / "rechorus" / "Office", phase)
    model, ranks = StaticScores(_office_scores(name, train)), CaseRanks()
    ranks.update(batch["case_id"], batch["user_id"], batch["target"], **model.rank(batch))
    metrics = ranks.metrics()
    assert tuple(round(metrics[key].item(), 4) for key in ("hr@5", "hr@10", "ndcg@5", "ndcg@10")) == expected


def test_windows_begin_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = RecentPopularity(toy.NUM_ITEMS, days=5.0), toy.full_batch()
    model.attach(toy.catalogue())
    expected = model.score_catalogue(batch)
    elsewhere = Mock(spec=["cpu"], cpu=lambda: batch["target_time"])
    monkeypatch.setattr("common.models.floors.query_time", lambda *_: elsewhere)
    assert torch.equal(model.score_catalogue(batch), expected)
