"""TiSASRec: self-attention that reads the time between events."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from common.errors import at_least
from common.models.base import SequentialRecommender
from common.nn.attention import AttentionMaps, PackedHistory, PostNormBlock, SASRecBlock
from common.nn.decay import biases_apart
from common.nn.dropout import Dropout
from common.nn.embedding import ItemEmbedding
from common.nn.initial import initialise_weights
from common.nn.losses import Objective
from common.types import PAD, SequenceBatch

TiSASRecVariant = Literal["original", "lrd"]


def smallest_gap(times: Int[Tensor, "b l"], largest: int | None = None) -> Int[Tensor, "b 1"]:
    """Smallest non-zero gap between consecutive events, in seconds, shape ``(b, 1)``.

    Args:
        times: Event times, oldest first, shape ``(b, l)``; padded slots repeat the oldest time.
        largest: Upper limit of the result, and the result for a history without a gap (1 if there is no limit).

    >>> smallest_gap(torch.tensor([[1000, 1000, 1060, 1060, 1240], [7, 7, 7, 7, 7]])).tolist()
    [[60], [1]]
    """
    none = torch.iinfo(times.dtype).max if largest is None else largest
    gaps = times.diff(dim=1)
    gaps = torch.cat([gaps.masked_fill(gaps <= 0, none), gaps.new_full((len(gaps), 1), none)], dim=1)
    smallest = gaps.amin(1, keepdim=True)
    return smallest if largest is not None else smallest.masked_fill(smallest == none, 1)


def rounded_intervals(times: Int[Tensor, "b l"], unit: Int[Tensor, "b 1"], time_span: int) -> Int[Tensor, "b l l"]:
    """``min(time_span, |s_i − s_j|)``, where ``s`` is the time since the oldest event rounded to whole units.

    >>> rounded_intervals(torch.tensor([[1000, 1060, 1060, 1240]]), torch.tensor([[60]]), 256)[0].tolist()
    [[0, 1, 1, 4], [1, 0, 0, 3], [1, 0, 0, 3], [4, 3, 3, 0]]
    """
    # In integers, so that a change of time unit changes nothing; halves go to the even one, as in the released code.
    since = times - times[:, :1]
    steps = since.div(unit, rounding_mode="floor")
    steps += 2 * (since - steps * unit) + (steps & 1) > unit
    return (steps[:, :, None] - steps[:, None, :]).abs_().clamp_(max=time_span)


def floored_intervals(times: Int[Tensor, "b l"], unit: Int[Tensor, "b 1"], time_span: int) -> Int[Tensor, "b l l"]:
    """``min(time_span, ⌊|t_i − t_j| / unit⌋)``.

    >>> floored_intervals(torch.tensor([[0, 86_400, 345_600]]), torch.tensor([[65_535]]), 512)[0].tolist()
    [[0, 1, 5], [1, 0, 3], [5, 3, 0]]
    """
    distances = (times[:, :, None] - times[:, None, :]).abs_()
    return distances.div_(unit[:, :, None], rounding_mode="floor").clamp_(max=time_span)


class TimeContext(NamedTuple):
    """What the blocks of one forward pass share besides the history."""

    intervals: Int[Tensor, "n l"]
    """Interval from each packed event to each slot of its history."""
    position_keys: Float[Tensor, "n d"]
    position_values: Float[Tensor, "n d"]
    interval_keys: Float[Tensor, "r d"]
    interval_values: Float[Tensor, "r d"]


class IntervalAttention(AttentionMaps):
    """Attention with a key and a value for each position and each time interval.

    Logits are ``q_i · (k_j + P^K_j + T^K_{r_ij}) / √e``, results ``Σ_j a_ij (v_j + P^V_j + T^V_{r_ij})``. No vector
    is looked up per pair of events: queries are multiplied by the whole table ``T^K`` and the products gathered by
    interval; attention weights are summed by interval and multiplied by ``T^V``. Memory is ``l · (l + time_span)``
    per head, where the released code holds ``l² d`` twice.
    """

    def forward(
        self, query: Float[Tensor, "n d"], memory: Float[Tensor, "n d"], history: PackedHistory, time: TimeContext
    ) -> Float[Tensor, "n d"]:
        """Attends from each row of ``query`` to the rows of ``memory`` up to it, shape ``(n, d)``."""
        queries, keys, values = self.project(query, memory)
        queries = queries * (queries.size(1) // self.num_heads) ** -0.5
        rows = (queries, keys + time.position_keys, values + time.position_values)
        q, k, v = (self.heads(history.unpack(part)) for part in rows)
        near = torch.einsum("nhe,rhe->nhr", self.split(queries), self.split(time.interval_keys))
        index = time.intervals[:, None].expand(-1, self.num_heads, -1)
        by_interval = self.heads(history.unpack(near.gather(2, index).flatten(1)))
        weights = self.dropout((q @ k.transpose(2, 3) + by_interval + history.mask).softmax(-1))
        shares = self.split(history.pack(weights.transpose(1, 2).flatten(2)))
        sums = shares.new_zeros(near.shape).scatter_add(2, index, shares)
        far = torch.einsum("nhr,rhe->nhe", sums, self.split(time.interval_values))
        mixed = history.pack((weights @ v).transpose(1, 2).flatten(2)) + far.flatten(1)
        result: Tensor = self.out_proj(mixed)
        return result


class TiSASRec(SequentialRecommender):
    """SASRec whose attention also reads the time between every two events, in units of the user's own pace.

    The unit is the user's smallest non-zero gap; intervals are clipped at ``time_span``; positions and intervals have
    tables for keys and for values that all blocks share (:class:`IntervalAttention`). Blocks, norms and scores are
    SASRec's. J. Li, Y. Wang and J. McAuley, "Time Interval Aware Self-Attention for Sequential Recommendation",
    WSDM 2020 (https://doi.org/10.1145/3336191.3371786).

    Both variants depart from the authors' code (github.com/JiachengLi1995/TiSASRec):

    * The unit comes from the events that the model sees. The released code takes it from the user's whole sequence,
      test event included.
    * Dropout of interval vectors acts on rows of their tables, drawn once per step, not on each pair of events.
    * L2 (``weight_decay``) applies to the tables only, as released, but Adam adds its gradient, which is equivalent.

    ``lrd`` follows github.com/ysh-1998/LRD (after ReChorus) instead in these points: post-norm blocks; no √d, no
    final norm, no dropout except on the results of a block's parts; the distance of each pair is divided by the unit
    and rounded down; weights start from N(0, 0.01²). LRD's unit never exceeds 65,535 seconds, so on data with a
    resolution of days all users share that unit: pass ``max_unit=65_535`` for parity, and ``betas`` (0.9, 0.999). L2
    covers everything but biases.

    Args:
        num_items: Number of items of the catalogue.
        max_history: Longest history that is read.
        variant: Implementation to follow.
        width: d, width of vectors and states.
        num_blocks: Number of blocks.
        num_heads: Attention heads of a block.
        time_span: Largest interval, in units.
        max_unit: Largest unit, in seconds, and the unit of a history without a gap; ``None`` for no limit.
        dropout: Dropout of embeddings, attention weights and feed-forward maps.
        objective: Training loss; the paper's is ``bce`` with one negative.
        calibration: The ``t`` of gBCE.
        score_penalty: Weight of BPR-max's penalty on negative scores.
        lr: Learning rate of Adam.
        weight_decay: L2 coefficient, of the tables or as in LRD.
        betas: Decay rates of Adam's moments.
    """

    information_set = frozenset({"order", "event_times"})

    def __init__(
        self,
        num_items: int,
        max_history: int = 50,
        variant: TiSASRecVariant = "original",
        width: int = 50,
        num_blocks: int = 2,
        num_heads: int = 1,
        time_span: int = 256,
        max_unit: int | None = None,
        dropout: float = 0.2,
        objective: Objective = "bce",
        calibration: float = 0.75,
        score_penalty: float = 0.0,
        lr: float = 1e-3,
        weight_decay: float = 5e-5,
        betas: tuple[float, float] = (0.9, 0.98),
    ) -> None:
        at_least(0, time_span=time_span)
        at_least(1, max_unit=max_unit)
        super().__init__(num_items, objective, calibration, score_penalty, lr, weight_decay, betas)
        self.save_hyperparameters()
        self.max_history, self.time_span, self.max_unit = max_history, time_span, max_unit
        self.original = original = variant == "original"
        self.item_embedding = ItemEmbedding(num_items, width)
        self.position_keys = nn.Embedding(max_history, width)
        self.position_values = nn.Embedding(max_history, width)
        self.interval_keys = nn.Embedding(time_span + 1, width)
        self.interval_values = nn.Embedding(time_span + 1, width)
        self.scale = width**0.5 if original else 1.0
        self.intervals = rounded_intervals if original else floored_intervals
        block, eps, inner_dropout = (SASRecBlock, 1e-8, dropout) if original else (PostNormBlock, 1e-5, 0.0)
        self.dropout = Dropout(inner_dropout)
        self.blocks = nn.ModuleList(
            block(IntervalAttention(width, num_heads, inner_dropout), width, dropout, eps) for _ in range(num_blocks)
        )
        self.norm = nn.LayerNorm(width, eps) if original else nn.Identity()
        initialise_weights(self, "xavier_uniform" if original else "normal")

    def encode(self, batch: SequenceBatch) -> Float[Tensor, "b p d"]:
        """States after each event, shape ``(b, p, d)`` with ``p`` the longest history of the batch."""
        history = PackedHistory(batch["history"], self.max_history, self.item_embedding.weight.dtype)
        time = self.time_context(batch, history)
        states = self.dropout(self.item_embedding(history.items) * self.scale)
        for block in self.blocks:
            states = block(states, history, time)
        return history.unpack(self.norm(states))

    def time_context(self, batch: SequenceBatch, history: PackedHistory) -> TimeContext:
        """Intervals of all pairs of events, and the vectors of positions and intervals."""
        length = history.shape[1]
        times, padded = batch["history_time"][:, -length:], batch["history"][:, -length:] == PAD
        oldest = times.masked_fill(padded, torch.iinfo(times.dtype).max).amin(1, keepdim=True)
        times = torch.where(padded, oldest, times)
        intervals = self.intervals(times, self.units(times), self.time_span)
        return TimeContext(
            history.pack(intervals),
            self.dropout(self.position_keys.weight[history.positions]),
            self.dropout(self.position_values.weight[history.positions]),
            self.dropout(self.interval_keys.weight),
            self.dropout(self.interval_values.weight),
        )

    def units(self, times: Int[Tensor, "b l"]) -> Int[Tensor, "b 1"]:
        """Length of one interval for each user, in seconds, shape ``(b, 1)``."""
        return smallest_gap(times, self.max_unit)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Embedding tables with L2, all other parameters without; in ``lrd`` biases without."""
        if not self.original:
            return biases_apart(self)
        tables = [module.weight for module in self.modules() if isinstance(module, nn.Embedding)]
        ids = {id(table) for table in tables}
        rest = [parameter for parameter in self.parameters() if id(parameter) not in ids]
        return [{"params": tables}, {"params": rest, "weight_decay": 0.0}]
