from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from common.errors import UserError
from common.models.sasrec import SASRec
from common.models.tisasrec import TiSASRec, TiSASRecVariant, rounded_intervals, smallest_gap
from common.nn.attention import PackedHistory, SASRecBlock
from common.types import SequenceBatch
from tests.common.models import toy
from tests.common.models.cases import SequentialCases

SMALL: dict[str, Any] = {"max_history": toy.MAX_HISTORY, "width": 16, "dropout": 0.1, "time_span": 16}
ALL: list[TiSASRecVariant] = ["original", "lrd"]
DAY = 86_400


class TestOriginal(SequentialCases):
    model = TiSASRec
    steps = 150
    arguments = SMALL


class TestLRD(SequentialCases):
    model = TiSASRec
    steps = 150
    arguments = SMALL | {"variant": "lrd", "num_blocks": 1, "num_heads": 4, "objective": "bpr"}


def build(variant: TiSASRecVariant = "original", **arguments: float) -> TiSASRec:
    options: dict[str, Any] = {"max_history": 6, "width": 8, "time_span": 12, "variant": variant, **arguments}
    model = TiSASRec(9, **options).double().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return model


def batch_of(times: list[int]) -> SequenceBatch:
    count = len(times)
    history = torch.tensor([[0] * (6 - count) + [3, 1, 4, 1, 5, 9][:count], [0, 0, 2, 7, 1, 8]])
    other = [0, 0, 50, 60, 90, 90]
    return {"history": history, "history_time": torch.tensor([[0] * (6 - count) + times, other])}


def first_block(model: TiSASRec) -> SASRecBlock:
    block = model.blocks[0]
    assert isinstance(block, SASRecBlock)
    return block


def naive_span(model: TiSASRec, times: list[int], i: int, j: int) -> int:
    """Interval of two events by the variant's rule."""
    unit = min((b - a for a, b in pairwise(times) if b > a), default=1)
    if model.scale == 1:
        return min(abs(times[i] - times[j]) // unit, model.time_span)
    steps = [round((t - times[0]) / unit) for t in times]
    return min(abs(steps[i] - steps[j]), model.time_span)


def naive(model: TiSASRec, times: list[int], queries: Tensor, memory: Tensor) -> Tensor:
    """What the first block's attention makes of one history, pair by pair."""
    attention, count = first_block(model).attention, len(times)
    weights, biases = attention.in_proj.weight.chunk(3), attention.in_proj.bias.chunk(3)
    q, k, v = (x @ w.T + b for x, w, b in zip((queries, memory, memory), weights, biases, strict=True))
    result = torch.zeros_like(q)
    for i in range(count):
        spans = [naive_span(model, times, i, j) for j in range(i + 1)]
        places = [6 - count + j for j in range(i + 1)]
        keys = k[: i + 1] + model.position_keys.weight[places] + model.interval_keys.weight[spans]
        values = v[: i + 1] + model.position_values.weight[places] + model.interval_values.weight[spans]
        for part in torch.arange(8).chunk(attention.num_heads):
            shares = (keys[:, part] @ q[i, part] / len(part) ** 0.5).softmax(0)
            result[i, part] = shares @ values[:, part]
    return result


@pytest.mark.parametrize("times", [[7], [5, 5, 5], [100, 110, 117, 500, 508, 509]])
@pytest.mark.parametrize(("variant", "heads"), [("original", 1), ("original", 2), ("lrd", 4)])
def test_attention_is_the_naive_loop_over_pairs(variant: TiSASRecVariant, heads: int, times: list[int]) -> None:
    model, batch = build(variant, num_heads=heads), batch_of(times)
    history = PackedHistory(batch["history"], 6, torch.float64)
    memory = model.item_embedding(history.items) * model.scale
    block = first_block(model)
    queries = memory if variant == "lrd" else block.attention_norm(memory)
    found = block.attention(queries, memory, history, model.time_context(batch, history))
    count = len(times)
    torch.testing.assert_close(found[:count], naive(model, times, queries[:count], memory[:count]))
    torch.testing.assert_close(found[count:], naive(model, [50, 60, 90, 90], queries[count:], memory[count:]))


@pytest.mark.parametrize("variant", ALL)
def test_another_clock_does_not_change_scores(variant: TiSASRecVariant) -> None:
    model, times = build(variant), [100, 110, 117, 180, 200, 201]
    scores = model.score_catalogue(batch_of(times))
    for factor, start in [(1, 10**9), (7, 0), (3600, -(10**6))]:
        moved = batch_of([factor * t + start for t in times])
        torch.testing.assert_close(model.score_catalogue(moved)[0], scores[0])


@pytest.mark.parametrize("variant", ALL)
def test_times_matter_unless_the_span_is_zero(variant: TiSASRecVariant) -> None:
    near, far = batch_of([100, 110, 120]), batch_of([100, 110, 180])
    for span, alike in [(12, False), (0, True)]:
        model = build(variant, time_span=span)
        assert torch.equal(model.encode(near), model.encode(far)) is alike


@pytest.mark.parametrize("variant", ALL)
def test_without_time_and_position_vectors_it_is_sasrec(variant: TiSASRecVariant) -> None:
    model, batch = build(variant, num_heads=2), batch_of([100, 110, 180])
    sasrec = SASRec(9, 6, variant, 8, num_heads=2).double().eval()
    ours = sasrec.state_dict()
    sasrec.load_state_dict(ours | {name: w for name, w in model.state_dict().items() if name in ours})
    tables = model.position_keys, model.position_values, model.interval_keys, model.interval_values
    for table in (*tables, sasrec.position_embedding):
        torch.nn.init.zeros_(table.weight)
    torch.testing.assert_close(model.encode(batch), sasrec.encode(batch))


@given(st.lists(st.integers(0, 400), min_size=2, max_size=8), st.integers(1, 10**6), st.integers(-(10**9), 10**9))
def test_rounded_intervals_ignore_unit_and_origin(times: list[int], factor: int, start: int) -> None:
    plain = torch.tensor([sorted(times)])
    moved = plain * factor + start
    assert torch.equal(
        rounded_intervals(plain, smallest_gap(plain), 64), rounded_intervals(moved, smallest_gap(moved), 64)
    )


@given(st.lists(st.integers(0, 2**32), min_size=1, max_size=8), st.integers(1, 10**6))
def test_intervals_are_those_of_steps_rounded_in_double_precision(times: list[int], unit: int) -> None:
    ordered = torch.tensor([sorted(times)])
    steps = ((ordered - ordered[:, :1]).double() / unit).round().long()[0]
    found = rounded_intervals(ordered, torch.tensor([[unit]]), 2**40)[0]
    assert torch.equal(found, (steps[:, None] - steps).abs())


@pytest.mark.parametrize(("since", "steps"), [(1, 0), (3, 2), (5, 2), (7, 4)])
def test_halves_are_rounded_to_the_even_step(since: int, steps: int) -> None:
    assert rounded_intervals(torch.tensor([[0, since]]), torch.tensor([[2]]), 9)[0, 0, 1] == steps


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=8), st.integers(1, 10**5))
def test_smallest_gap_is_the_least_of_all_pairs(times: list[int], largest: int) -> None:
    gaps = [abs(a - b) for a in times for b in times if a != b]
    ordered = torch.tensor([sorted(times)])
    assert smallest_gap(ordered).item() == min(gaps, default=1)
    assert smallest_gap(ordered, largest).item() == min([*gaps, largest])


def test_padding_is_no_event_in_time() -> None:
    model = build()
    batch = batch_of([10 * DAY, 11 * DAY, 13 * DAY])
    history = PackedHistory(batch["history"], 6, torch.float64)
    intervals = model.time_context(batch, history).intervals
    assert intervals[2, -3:].tolist() == [3, 2, 0]
    assert model.units(torch.tensor([[10 * DAY] * 4 + [11 * DAY, 13 * DAY]])).tolist() == [[DAY]]


def test_only_tables_decay() -> None:
    model = TiSASRec(9, max_history=6, width=8, weight_decay=0.1)
    tables, rest = model.configure_optimizers().param_groups  # type: ignore[union-attr]  # is Adam here
    assert (tables["weight_decay"], rest["weight_decay"]) == (0.1, 0.0)
    assert [len(p) for p in tables["params"]] == [10, 6, 6, 257, 257]
    assert len(tables["params"]) + len(rest["params"]) == len(list(model.parameters()))


@pytest.mark.parametrize("variant", ALL)
def test_mixed_precision_comes_near_full_precision(variant: TiSASRecVariant) -> None:
    model, batch = build(variant, dropout=0.0).float().train(), batch_of([100, 110, 180])
    with torch.autocast("cpu", torch.bfloat16):
        mixed = model.encode(batch)
    mixed.sum().backward()
    torch.testing.assert_close(mixed.float(), model.encode(batch), atol=0.1, rtol=0.1)


@pytest.mark.parametrize(("option", "value"), [("max_unit", 0), ("time_span", -1)])
def test_times_without_a_unit_or_a_span_are_refused(option: str, value: int) -> None:
    with pytest.raises(UserError, match=f"{option} is {value}"):
        TiSASRec(9, max_history=6, **{option: value})  # type: ignore[arg-type]  # values of several types
