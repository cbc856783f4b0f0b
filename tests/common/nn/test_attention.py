import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from common.nn.attention import (
    CausalAttention,
    FeedForward,
    PackedHistory,
    PostNormBlock,
    SASRecBlock,
    attend,
)
from common.nn.dropout import Dropout

HISTORY = torch.tensor([[0, 0, 0, 3, 1], [0, 2, 2, 5, 4], [0, 0, 0, 0, 0]])


def packed(history: Tensor = HISTORY, max_history: int = 6, sees_padding: bool = False) -> PackedHistory:
    return PackedHistory(history, max_history, torch.float64, sees_padding)


def rows_of(history: PackedHistory, width: int) -> Tensor:
    return torch.randn(len(history.items), width, dtype=torch.float64)


def naive(attention: CausalAttention, query: Tensor, memory: Tensor, history: PackedHistory) -> Tensor:
    """The same attention, one query and one head at a time; what padding adds is the bias of its key and value."""
    width, heads = query.size(1), attention.num_heads
    q_map, k_map, v_map = attention.in_proj.weight.chunk(3)
    q_bias, k_bias, v_bias = attention.in_proj.bias.chunk(3)
    users = history.slots // history.shape[1]
    result = torch.zeros_like(query)
    for row in range(len(query)):
        visible = [j for j in range(row + 1) if users[j] == users[row]]
        keys, values = memory[visible] @ k_map.T + k_bias, memory[visible] @ v_map.T + v_bias
        if history.sees_padding:
            pads = int(history.slots[row] % history.shape[1]) + 1 - len(visible)
            keys = torch.cat([k_bias.expand(pads, -1), keys])
            values = torch.cat([v_bias.expand(pads, -1), values])
        for part in torch.arange(width).chunk(heads):
            logits = keys[:, part] @ (q_map @ query[row] + q_bias)[part] / len(part) ** 0.5
            result[row, part] = logits.softmax(0) @ values[:, part]
    projected: Tensor = attention.out_proj(result)
    return projected


@pytest.mark.parametrize("sees_padding", [False, True])
@pytest.mark.parametrize(("heads", "output_map"), [(1, True), (2, False), (4, False)])
def test_attention_is_the_naive_loop(heads: int, output_map: bool, sees_padding: bool) -> None:
    attention = CausalAttention(8, heads, output_map=output_map).double()
    history = packed(sees_padding=sees_padding)
    query, memory = rows_of(history, 8), rows_of(history, 8)
    expected = naive(attention, query, memory, history)
    torch.testing.assert_close(attention(query, memory, history), expected)


def test_both_kernels_are_the_same_function() -> None:
    q, k, v = torch.randn(3, 2, 2, 4, 4, dtype=torch.float64)
    mask = packed().mask[:2]
    # So small a probability rounds to never dropping, but takes the path of training.
    hardly = Dropout(1e-9).train()
    torch.testing.assert_close(attend(q, k, v, mask, hardly), attend(q, k, v, mask, Dropout(0.0)))


def test_attention_weights_are_dropped_in_training() -> None:
    attention = CausalAttention(8, dropout=0.5).double()
    history = packed()
    rows = rows_of(history, 8)
    assert not torch.equal(attention(rows, rows, history), attention(rows, rows, history))
    attention.eval()
    assert torch.equal(attention(rows, rows, history), attention(rows, rows, history))


def test_padding_gives_zeros_and_finite_gradients() -> None:
    attention = CausalAttention(4).double()
    history = packed()
    rows = rows_of(history, 4).requires_grad_()
    states = history.unpack(attention(rows, rows, history))
    states.sum().backward()
    assert torch.equal(states[HISTORY[:, -states.size(1) :] == 0], torch.zeros(6, 4, dtype=torch.float64))
    assert all(p.grad is not None and p.grad.isfinite().all() for p in attention.parameters())
    assert rows.grad is not None
    assert rows.grad.isfinite().all()


def test_batch_of_empty_histories_has_no_rows() -> None:
    history = packed(torch.zeros(2, 3, dtype=torch.long))
    rows = torch.zeros(0, 4, dtype=torch.float64)
    assert torch.equal(
        history.unpack(CausalAttention(4).double()(rows, rows, history)), torch.zeros(2, 3, 4, dtype=torch.float64)
    )


@given(st.lists(st.integers(0, 7), min_size=1, max_size=5), st.integers(3, 9))
def test_rows_are_the_newest_events_and_find_their_way_back(lengths: list[int], max_history: int) -> None:
    given_rows = [list(range(1, length + 1)) for length in lengths]
    history = packed(torch.tensor([[0] * (7 - len(row)) + row for row in given_rows]), max_history)
    kept = [row[-max_history:] for row in given_rows]
    assert history.items.tolist() == [item for row in kept for item in row]
    assert history.positions.tolist() == [p for row in kept for p in range(max_history - len(row), max_history)]
    rows = rows_of(history, 3)
    assert torch.equal(history.pack(history.unpack(rows)), rows)


def test_rectangle_is_no_wider_than_the_longest_history() -> None:
    assert packed().shape == (3, 4)
    assert packed(sees_padding=True).shape == (3, 6)


def test_fill_goes_into_padded_slots_alone() -> None:
    history, fill = packed(), torch.tensor([1.0, 2.0], dtype=torch.float64)
    states = history.unpack(torch.zeros(len(history.items), 2, dtype=torch.float64), fill)
    assert torch.equal(states.any(-1), HISTORY[:, 1:] == 0)


def test_original_block_without_weights_norms_twice() -> None:
    block = SASRecBlock(CausalAttention(4), 4, 0.0, 1e-8).double()
    for module in (block.attention, block.feed_forward):
        for parameter in module.parameters():
            torch.nn.init.zeros_(parameter)
    history = packed()
    x = rows_of(history, 4)
    torch.testing.assert_close(block(x, history), F.layer_norm(F.layer_norm(x, (4,), eps=1e-8), (4,), eps=1e-8))


@pytest.mark.parametrize(("kind", "normed"), [(SASRecBlock, False), (PostNormBlock, True)])
def test_only_post_norm_ends_with_a_norm(kind: type[SASRecBlock], normed: bool) -> None:
    history = packed()
    states = kind(CausalAttention(4), 4, 0.0, 1e-8).double()(rows_of(history, 4) * 9, history)
    variances = states.var(1, unbiased=False)
    assert torch.allclose(variances, torch.ones_like(variances), atol=1e-5) is normed


def test_dropout_commutes_with_relu() -> None:
    layer, x = FeedForward(6, 0.5).train(), torch.randn(10, 6)
    torch.manual_seed(3)
    after = layer(x)
    torch.manual_seed(3)
    before = layer.outer(layer.dropout(layer.inner(x)).relu())
    assert torch.equal(before, after)


def test_heads_must_share_the_width() -> None:
    with pytest.raises(ValueError, match="width 10 cannot be shared by 4 heads"):
        CausalAttention(10, 4)
