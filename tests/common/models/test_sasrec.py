from typing import Any

import pytest
import torch
from torch import Tensor

from common.models.sasrec import VARIANTS, SASRec, SASRecVariant
from common.nn.attention import SASRecBlock
from common.types import SequenceBatch
from tests.common.models import toy
from tests.common.models.cases import SequentialCases

SMALL: dict[str, Any] = {"max_history": toy.MAX_HISTORY, "width": 16, "dropout": 0.1}
ALL: list[SASRecVariant] = list(VARIANTS)


class TestOriginal(SequentialCases):
    model = SASRec
    steps = 150
    arguments = SMALL | {"variant": "original"}


class TestAllmrec(SequentialCases):
    model = SASRec
    steps = 150
    arguments = SMALL | {"variant": "allmrec", "num_heads": 2}


class TestGSASRec(SequentialCases):
    model = SASRec
    steps = 150
    arguments = SMALL | {"variant": "gsasrec", "objective": "gbce"}


class TestLRD(SequentialCases):
    model = SASRec
    steps = 150
    arguments = SMALL | {"variant": "lrd", "num_blocks": 1, "num_heads": 4, "objective": "bpr"}


class TestFullSoftmax(SequentialCases):
    model = SASRec
    steps = 150
    arguments = SMALL | {"objective": "ce"}


def build(variant: SASRecVariant = "original", **arguments: float) -> SASRec:
    options: dict[str, Any] = {"max_history": 6, "width": 8, "variant": variant, **arguments}
    model = SASRec(9, **options).double().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return model


def history_of(*items: int, width: int = 6) -> SequenceBatch:
    return {"history": torch.tensor([[0] * (width - len(items)) + list(items)])}


def naive(model: SASRec, items: list[int]) -> Tensor:
    """Last state of the original and of LRD's SASRec, one event, one query and one head at a time."""
    original = model.scale != 1
    x = [
        model.scale * model.item_embedding.weight[item] + model.position_embedding.weight[6 - len(items) + t]
        for t, item in enumerate(items)
    ]
    for block in model.blocks:
        assert isinstance(block, SASRecBlock)
        first, second = block.attention_norm, block.feed_forward_norm
        maps, biases = block.attention.in_proj.weight.chunk(3), block.attention.in_proj.bias.chunk(3)
        q, k, v = (
            [w @ (first(row) if original and role == 0 else row) + b for row in x]
            for role, (w, b) in enumerate(zip(maps, biases, strict=True))
        )
        mixed = []
        for t in range(len(x)):
            heads = []
            for part in torch.arange(8).chunk(block.attention.num_heads):
                logits = torch.stack([q[t][part] @ k[j][part] / len(part) ** 0.5 for j in range(t + 1)])
                heads.append(sum(a * v[j][part] for j, a in enumerate(logits.softmax(0))))
            mixed.append(torch.cat(heads))
        if original:
            y = [second(first(row) + m) for row, m in zip(x, mixed, strict=True)]
            x = [row + block.feed_forward.outer(block.feed_forward.inner(row).relu()) for row in y]
        else:
            y = [first(row + m) for row, m in zip(x, mixed, strict=True)]
            x = [second(row + block.feed_forward.outer(block.feed_forward.inner(row).relu())) for row in y]
    state: Tensor = model.norm(x[-1])
    return state


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("variant", ["original", "lrd"])
def test_state_is_that_of_the_naive_loop(variant: SASRecVariant, heads: int) -> None:
    model = build(variant, num_heads=heads)
    torch.testing.assert_close(model.encode(history_of(3, 1, 4, 1))[0, -1], naive(model, [3, 1, 4, 1]))


@pytest.mark.parametrize(
    ("variant", "blocks_and_norm"), [("original", 25_900 + 100), ("allmrec", 31_000 + 100), ("gsasrec", 25_900 + 100)]
)
def test_number_of_parameters(variant: SASRecVariant, blocks_and_norm: int) -> None:
    model = SASRec(30, variant=variant, tied=True)
    assert sum(p.numel() for p in model.parameters()) == blocks_and_norm + 2_500 + 50 * 31


@pytest.mark.parametrize("variant", ALL)
def test_narrower_batches_give_the_same_state(variant: SASRecVariant) -> None:
    model = build(variant)
    wide, narrow = history_of(3, 1, 4), history_of(3, 1, 4, width=3)
    torch.testing.assert_close(model.encode(narrow)[:, -1], model.encode(wide)[:, -1])


@pytest.mark.parametrize("variant", ALL)
def test_events_before_the_window_are_not_read(variant: SASRecVariant) -> None:
    model = build(variant, max_history=3)
    long, short = history_of(2, 2, 3, 1, 4), history_of(5, 3, 1, 4)
    assert torch.equal(model.encode(long), model.encode(short))


@pytest.mark.parametrize("variant", ALL)
def test_only_positions_tell_the_order_of_earlier_events(variant: SASRecVariant) -> None:
    model = build(variant, num_blocks=1)
    assert not torch.allclose(model.encode(history_of(3, 1, 4))[0, -1], model.encode(history_of(1, 3, 4))[0, -1])
    torch.nn.init.zeros_(model.position_embedding.weight)
    torch.testing.assert_close(model.encode(history_of(3, 1, 4))[0, -1], model.encode(history_of(1, 3, 4))[0, -1])


@pytest.mark.parametrize("variant", ALL)
def test_empty_history_has_a_finite_score_and_gradient(variant: SASRecVariant) -> None:
    model = build(variant)
    states = model.encode({"history": torch.tensor([[0, 0, 0], [0, 2, 5]])})
    states.sum().backward()
    assert not states[0].any()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("variant", ALL)
def test_length_of_the_window_matters_to_allmrec_alone(variant: SASRecVariant) -> None:
    short, long = build(variant, max_history=6), build(variant, max_history=9)
    weights = long.state_dict()
    positions = {"position_embedding.weight": weights["position_embedding.weight"][-6:]}
    short.load_state_dict(weights | positions)
    first, second = (model.encode(history_of(3, 1, 4))[0, -1] for model in (short, long))
    assert torch.allclose(first, second) is (variant != "allmrec")


@pytest.mark.parametrize("variant", ALL)
def test_tying_follows_the_variant_unless_told(variant: SASRecVariant) -> None:
    shared = [
        model.output_table() is model.item_embedding.table()
        for model in (build(variant), build(variant, tied=True), build(variant, tied=False))
    ]
    assert shared == [variant != "gsasrec", True, False]


def test_scores_are_products_with_unscaled_vectors() -> None:
    model = build()
    batch = history_of(3, 1, 4)
    expected = model.encode(batch)[:, -1] @ model.item_embedding.weight.T
    torch.testing.assert_close(model.score_catalogue(batch), expected)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("variant", ALL)
def test_mixed_precision_comes_near_full_precision(variant: SASRecVariant, training: bool) -> None:
    model = build(variant, dropout=0.0).float().train(training)
    batch = history_of(3, 1, 4)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = model.encode(batch)
    mixed.sum().backward()
    torch.testing.assert_close(mixed.float(), model.encode(batch), atol=0.1, rtol=0.1)
