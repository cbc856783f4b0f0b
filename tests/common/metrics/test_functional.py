import math
from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.metrics.functional import higher_equal, hit_rate, mrr, ndcg, top_k

score_rows = st.lists(st.integers(-2, 2), min_size=1, max_size=6)


def _ranks_over_tie_orders(scores: list[int]) -> list[int]:
    """Rank of candidate 0 for every order of the candidates, sorted stably by score."""
    orders = permutations(range(len(scores)))
    return [sorted(order, key=lambda i: -scores[i]).index(0) + 1 for order in orders]


def _counts(scores: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    return higher_equal(torch.tensor([scores], dtype=torch.float32), torch.tensor([0]))


@settings(max_examples=60, deadline=None)
@given(score_rows, st.integers(1, 6))
def test_metrics_are_means_over_all_orders_of_ties(scores: list[int], k: int) -> None:
    ranks = _ranks_over_tie_orders(scores)
    hits = [rank <= k for rank in ranks]
    gains = [hit / math.log2(rank + 1) for hit, rank in zip(hits, ranks, strict=True)]
    higher, equal = _counts(scores)
    assert hit_rate(higher, equal, k).item() == pytest.approx(sum(hits) / len(ranks), abs=1e-12)
    assert ndcg(higher, equal, k).item() == pytest.approx(sum(gains) / len(ranks), abs=1e-12)
    assert mrr(higher, equal).item() == pytest.approx(sum(1 / rank for rank in ranks) / len(ranks), abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.floats(-4, 4, width=16), min_size=7, max_size=7), min_size=1, max_size=4), st.data())
def test_higher_and_equal_agree_with_a_loop(rows: list[list[float]], data: st.DataObject) -> None:
    target = [data.draw(st.integers(0, 6)) for _ in rows]
    higher, equal = higher_equal(torch.tensor(rows), torch.tensor(target))
    for row, column, above, same in zip(rows, target, higher.tolist(), equal.tolist(), strict=True):
        assert above == sum(score > row[column] for score in row)
        assert same == sum(score == row[column] for score in row) - 1


@pytest.mark.parametrize(
    ("metric", "expected"), [("hr@5", 0.05), ("hr@10", 0.1), ("ndcg@5", 0.0295), ("ndcg@10", 0.0454)]
)
def test_constant_scorer_gets_chance(metric: str, expected: float) -> None:
    higher, equal = higher_equal(torch.zeros(3, 100), torch.tensor([0, 50, 99]))
    name, k = metric.split("@")
    value = {"hr": hit_rate, "ndcg": ndcg}[name](higher, equal, int(k))
    assert [round(v, 4) for v in value.tolist()] == [expected] * 3


def test_half_precision_scores_are_compared_in_fp32() -> None:
    higher, equal = higher_equal(torch.tensor([[1.0, 1.0009765625]], dtype=torch.float16), torch.tensor([0]))
    assert (higher.item(), equal.item()) == (1, 0)


def test_masked_columns_are_no_candidates() -> None:
    scores = torch.tensor([[-torch.inf, 1.0, 2.0, -torch.inf]])
    assert [x.item() for x in higher_equal(scores, torch.tensor([1]))] == [1, 0]


@pytest.mark.parametrize(("bad", "column"), [(torch.nan, 1), (torch.inf, 1), (torch.nan, 0), (-torch.inf, 0)])
def test_scores_that_are_not_finite_are_refused(bad: float, column: int) -> None:
    scores = torch.zeros(2, 3)
    scores[1, column] = bad
    with pytest.raises(ValueError, match="finite"):
        higher_equal(scores, torch.tensor([0, 0]))


def test_metrics_of_no_cases_are_empty() -> None:
    none = torch.zeros(0, dtype=torch.long)
    assert [len(x) for x in (hit_rate(none, none, 5), ndcg(none, none, 5), mrr(none, none))] == [0, 0, 0]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 3), min_size=12, max_size=12), min_size=1, max_size=5), st.integers(1, 12))
def test_top_k_is_the_head_of_one_fixed_order(rows: list[list[int]], k: int) -> None:
    scores = torch.tensor(rows, dtype=torch.float32)
    columns, values = top_k(scores, k)
    tie_order = top_k(torch.zeros(1, 12), 12)[0][0].tolist()
    for row, listed, value in zip(rows, columns.tolist(), values.tolist(), strict=True):
        assert listed == sorted(range(12), key=lambda c: (-row[c], tie_order.index(c)))[:k]
        assert value == [row[c] for c in listed]


def test_tie_order_is_no_order_of_ids_and_survives_new_items() -> None:
    few, many = top_k(torch.zeros(1, 100), 100)[0][0], top_k(torch.zeros(1, 200), 200)[0][0]
    assert torch.equal(many[many < 100], few)
    correlation = torch.corrcoef(torch.stack([few.double(), torch.arange(100).double()]))[0, 1]
    assert abs(float(correlation)) < 0.3
