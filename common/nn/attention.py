"""Causal self-attention over histories, computed on real positions only.

Everything that looks at one position at a time runs on packed rows, one for each real event; only the products of
queries and keys use the rectangle.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from common.nn.dropout import Dropout
from common.nn.packing import PackedRows
from common.types import PAD


class PackedHistory(PackedRows):
    """A batch of right-aligned histories as packed rows, and which of them may attend to which.

    Attributes:
        items: Item of each row, shape ``(n,)``.
        positions: Index of each row into a table of ``max_history`` positions, shape ``(n,)``; the newest event of
            every history has the last.
        shape: ``(b, l)`` of the rectangle; ``l`` is cut to the longest history of the batch unless ``sees_padding``.
        mask: Added to attention logits, shape ``(b or 1, 1, l, l)``: 0 for keys that a query may attend to, else −∞.

    Args:
        history: Item ids, shape ``(b, l)``, left-padded.
        max_history: Longest history that is read; older events are left out.
        dtype: Type of ``mask``.
        sees_padding: Whether padded keys take part in attention, as in A-LLMRec's SASRec; histories are then padded
            to ``max_history`` slots, so that scores do not depend on the width of the batch.
    """

    def __init__(
        self, history: Int[Tensor, "b l"], max_history: int, dtype: torch.dtype, sees_padding: bool = False
    ) -> None:
        history = history[:, -max_history:]
        if sees_padding:
            history = F.pad(history, (max_history - history.size(1), 0), value=PAD)
        else:
            # The first slot that is real in any history; the first of all where none is.
            history = history[:, int((history != PAD).any(0).int().argmax()) :]
        real, length = history != PAD, history.size(1)
        super().__init__(real)
        self.sees_padding = sees_padding
        self.items = self.pack(history)
        self.positions = self.slots % length + (max_history - length)
        hidden = torch.ones(1, 1, length, length, dtype=torch.bool, device=history.device).triu(1)
        if not sees_padding:
            # A padded query may attend to padded keys: its result is discarded, but a fully masked row would be NaN.
            hidden = hidden | (real[:, None, :, None] & ~real[:, None, None, :])
        self.mask = torch.zeros(hidden.shape, dtype=dtype, device=history.device).masked_fill_(hidden, -torch.inf)


def attend(
    query: Float[Tensor, "b h l e"],
    key: Float[Tensor, "b h l e"],
    value: Float[Tensor, "b h l e"],
    mask: Float[Tensor, "..."],
    dropout: Dropout,
) -> Float[Tensor, "b h l e"]:
    """Scaled dot-product attention: ``dropout(softmax(Q Kᵀ / √e + mask)) V``, shape ``(b, h, l, e)``."""
    if dropout.active and query.device.type == "cpu":
        scores = (query * query.size(-1) ** -0.5) @ key.transpose(-2, -1) + mask
        weights: Tensor = dropout(scores.softmax(-1))
        return weights @ value
    return F.scaled_dot_product_attention(query, key, value, mask, dropout.p if dropout.active else 0.0)


class AttentionMaps(nn.Module):
    """The parts of every attention layer here: maps to queries, keys and values, heads, dropout of weights.

    Args:
        width: Width of rows; heads are contiguous slices of it.
        num_heads: Number of heads.
        dropout: Dropout of attention weights.
        output_map: Whether a linear map with bias follows, as in the Transformer; SASRec has none.

    Raises:
        ValueError: If ``width`` is not a multiple of ``num_heads``.
    """

    def __init__(self, width: int, num_heads: int = 1, dropout: float = 0.0, output_map: bool = False) -> None:
        super().__init__()
        if width % num_heads:
            raise ValueError(f"width {width} cannot be shared by {num_heads} heads")
        self.num_heads = num_heads
        self.in_proj = nn.Linear(width, 3 * width)
        self.out_proj = nn.Linear(width, width) if output_map else nn.Identity()
        self.dropout = Dropout(dropout)

    def project(
        self, query: Float[Tensor, "n d"], memory: Float[Tensor, "n d"]
    ) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n d"], Float[Tensor, "n d"]]:
        """Queries from ``query``, keys and values from ``memory``, each ``(n, d)``."""
        width = query.size(1)
        weight, bias = self.in_proj.weight, self.in_proj.bias
        key, value = F.linear(memory, weight[width:], bias[width:]).chunk(2, dim=1)
        return F.linear(query, weight[:width], bias[:width]), key, value

    def split(self, rows: Float[Tensor, "n d"]) -> Float[Tensor, "n h e"]:
        """Splits the width of packed rows into heads, shape ``(n, h, d / h)``."""
        return rows.reshape(rows.size(0), self.num_heads, rows.size(1) // self.num_heads)

    def heads(self, states: Float[Tensor, "b l d"]) -> Float[Tensor, "b h l e"]:
        """Splits the width of the rectangle into heads, shape ``(b, h, l, d / h)``."""
        batch, length, width = states.shape
        return states.view(batch, length, self.num_heads, width // self.num_heads).transpose(1, 2)


class CausalAttention(AttentionMaps):
    """Scaled dot-product attention; queries may come from other rows than keys and values."""

    def forward(
        self, query: Float[Tensor, "n d"], memory: Float[Tensor, "n d"], history: PackedHistory
    ) -> Float[Tensor, "n d"]:
        """Attends from each row of ``query`` to the rows of ``memory`` up to it in its history, shape ``(n, d)``."""
        rows = self.project(query, memory)
        # The input at a padded slot is zero, so its key and value are the biases of their maps.
        fills = (None, *self.in_proj.bias.chunk(3)[1:]) if history.sees_padding else (None, None, None)
        q, k, v = (self.heads(history.unpack(part, fill)) for part, fill in zip(rows, fills, strict=True))
        mixed = attend(q, k, v, history.mask, self.dropout)
        result: Tensor = self.out_proj(history.pack(mixed.transpose(1, 2).flatten(2)))
        return result


class FeedForward(nn.Module):
    """Two linear maps of equal width with ReLU between and dropout after the first.

    Dropout before or after the ReLU is the same function: ReLU keeps zeros and commutes with positive scaling.
    """

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.inner = nn.Linear(width, width)
        self.outer = nn.Linear(width, width)
        self.dropout = Dropout(dropout)

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Transforms each row, shape ``(n, d)``."""
        result: Tensor = self.outer(self.dropout(self.inner(x).relu()))
        return result


class SASRecBlock(nn.Module):
    """Block of the original SASRec: the residual of attention is the *normed* input, and only queries are normed.

    ``h = norm(x); y = norm(h + attention(h, x)); out = y + dropout(feed_forward(y))``

    Args:
        attention: Called as ``attention(query, memory, *context)`` with the ``context`` of :meth:`forward`.
        width: Width of rows.
        dropout: Dropout inside and after the feed-forward part.
        eps: Added to variances by the norms.
    """

    def __init__(self, attention: AttentionMaps, width: int, dropout: float, eps: float) -> None:
        super().__init__()
        self.attention = attention
        self.attention_norm = nn.LayerNorm(width, eps)
        self.feed_forward = FeedForward(width, dropout)
        self.feed_forward_norm = nn.LayerNorm(width, eps)
        self.dropout = Dropout(dropout)

    def forward(self, x: Float[Tensor, "n d"], *context: object) -> Float[Tensor, "n d"]:
        """Transforms packed rows, shape ``(n, d)``."""
        query = self.attention_norm(x)
        y: Tensor = self.feed_forward_norm(query + self.attention(query, x, *context))
        change: Tensor = self.dropout(self.feed_forward(y))
        return y + change


class PostNormBlock(SASRecBlock):
    """Block of the Transformer as ReChorus and LRD build it, with dropout only on the result of each part.

    ``y = norm(x + dropout(attention(x, x))); out = norm(y + dropout(feed_forward(y)))``
    """

    def __init__(self, attention: AttentionMaps, width: int, dropout: float, eps: float) -> None:
        super().__init__(attention, width, dropout, eps)
        self.feed_forward.dropout = Dropout(0.0)

    def forward(self, x: Float[Tensor, "n d"], *context: object) -> Float[Tensor, "n d"]:
        """Transforms packed rows, shape ``(n, d)``."""
        y = self.attention_norm(x + self.dropout(self.attention(x, x, *context)))
        result: Tensor = self.feed_forward_norm(y + self.dropout(self.feed_forward(y)))
        return result
