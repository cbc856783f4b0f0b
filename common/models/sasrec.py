"""SASRec: self-attentive sequential recommendation, in four published variants."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from common.models.base import SequentialRecommender
from common.nn.attention import CausalAttention, PackedHistory, PostNormBlock, SASRecBlock
from common.nn.decay import biases_apart
from common.nn.dropout import Dropout
from common.nn.embedding import ItemEmbedding
from common.nn.initial import Initial, initialise_weights
from common.nn.losses import Objective
from common.types import SequenceBatch

SASRecVariant = Literal["original", "allmrec", "gsasrec", "lrd"]


class SASRecSwitches(NamedTuple):
    """What the variants differ in."""

    scaled: bool = True
    """Item vectors are multiplied by √d on the way in."""
    post_norm: bool = False
    """Post-norm blocks without embedding dropout, attention dropout and final norm."""
    sees_padding: bool = False
    """Padded keys take part in attention."""
    output_map: bool = False
    """A linear map follows attention."""
    tied: bool = True
    """Items are scored with the table that they are read from."""
    eps: float = 1e-8
    """Added to variances by layer norms."""
    initial: Initial = "xavier_uniform"
    """How weights start."""
    biases_decay: bool = True
    """L2 covers biases."""


VARIANTS: dict[SASRecVariant, SASRecSwitches] = {
    "original": SASRecSwitches(),
    "allmrec": SASRecSwitches(sees_padding=True, output_map=True, initial="xavier_normal"),
    "gsasrec": SASRecSwitches(scaled=False, tied=False, eps=1e-5, initial="pytorch"),
    "lrd": SASRecSwitches(scaled=False, post_norm=True, eps=1e-5, initial="normal", biases_decay=False),
}


class SASRec(SequentialRecommender):
    """Reads a history with causal self-attention; the state after each event predicts the next one.

    ``x_t = √d · item_t + position_t``, blocks of attention and feed-forward maps (:class:`SASRecBlock`), a final layer
    norm, and ``score(i) = state · item_i`` with the same item table. W.-C. Kang and J. McAuley, "Self-Attentive
    Sequential Recommendation", ICDM 2018 (https://arxiv.org/abs/1808.09781).

    Positions are counted from the newest event, which has the last row of the table. For the originals' fixed window
    this equals their numbering by slot, and it keeps scores independent of padding.

    ``variant`` selects an implementation. Each entry lists its departures from ``original``, the authors' TensorFlow
    code (github.com/kang205/SASRec); training settings belong to the configuration:

    * ``allmrec`` (github.com/ghdtjr/A-LLMRec): a linear map follows attention; padded keys take part in attention;
      weight matrices start from Xavier's normal distribution. Its dropout before ReLU is the same function. Its
      padding row starts random but is never read; here that row stays zero.
    * ``gsasrec`` (github.com/asash/gSASRec-pytorch): no √d; a separate output table; PyTorch's initial values and
      layer-norm epsilon. Train it with ``objective="gbce"`` and 256 negatives: A. Petrov and C. Macdonald, "gSASRec",
      RecSys 2023 (https://arxiv.org/abs/2308.07192).
    * ``lrd`` (github.com/ysh-1998/LRD, after ReChorus): post-norm blocks; no √d, no final norm, no dropout on
      embeddings and attention weights; weights start from N(0, 0.01²); no L2 on biases. Its right-padded histories with
      positions counted backwards are the same function of the events. Train it on prefixes with BPR, ``betas`` (0.9,
      0.999).

    Args:
        num_items: Number of items of the catalogue.
        max_history: Longest history that is read.
        variant: Implementation to follow.
        width: d, width of vectors and states.
        num_blocks: Number of blocks.
        num_heads: Attention heads of a block.
        dropout: Dropout of embeddings, attention weights and feed-forward maps.
        tied: Whether items are scored with the input table; ``None`` for the variant's choice.
        objective: Training loss; the paper's is ``bce`` with one negative.
        calibration: The ``t`` of gBCE.
        score_penalty: Weight of BPR-max's penalty on negative scores.
        lr: Learning rate of Adam.
        weight_decay: L2 coefficient of Adam.
        betas: Decay rates of Adam's moments.
    """

    def __init__(
        self,
        num_items: int,
        max_history: int = 50,
        variant: SASRecVariant = "original",
        width: int = 50,
        num_blocks: int = 2,
        num_heads: int = 1,
        dropout: float = 0.5,
        tied: bool | None = None,
        objective: Objective = "bce",
        calibration: float = 0.75,
        score_penalty: float = 0.0,
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.98),
    ) -> None:
        super().__init__(num_items, objective, calibration, score_penalty, lr, weight_decay, betas)
        self.save_hyperparameters()
        self.max_history = max_history
        self.switches = switches = VARIANTS[variant]
        self.item_embedding = ItemEmbedding(num_items, width)
        own_output = not (switches.tied if tied is None else tied)
        self.output_embedding = ItemEmbedding(num_items, width) if own_output else None
        self.position_embedding = nn.Embedding(max_history, width)
        self.scale = width**0.5 if switches.scaled else 1.0
        block = PostNormBlock if switches.post_norm else SASRecBlock
        inner_dropout = 0.0 if switches.post_norm else dropout
        self.dropout = Dropout(inner_dropout)
        self.blocks = nn.ModuleList(
            block(CausalAttention(width, num_heads, inner_dropout, switches.output_map), width, dropout, switches.eps)
            for _ in range(num_blocks)
        )
        self.norm = nn.Identity() if switches.post_norm else nn.LayerNorm(width, switches.eps)
        initialise_weights(self, switches.initial)

    def encode(self, batch: SequenceBatch) -> Float[Tensor, "b p d"]:
        """States after each event, shape ``(b, p, d)`` with ``p`` the longest history of the batch."""
        weights = self.position_embedding.weight
        history = PackedHistory(batch["history"], self.max_history, weights.dtype, self.switches.sees_padding)
        states = self.dropout(self.item_embedding(history.items) * self.scale + weights[history.positions])
        for block in self.blocks:
            states = block(states, history)
        return history.unpack(self.norm(states))

    def output_table(self) -> Float[Tensor, "i_plus_1 d"]:
        """Vectors that states are compared with: the input table where tied."""
        return (self.output_embedding or self.item_embedding).table()

    def parameter_groups(self) -> list[dict[str, Any]]:
        """All parameters, in ``lrd`` with biases apart."""
        return super().parameter_groups() if self.switches.biases_decay else biases_apart(self)
