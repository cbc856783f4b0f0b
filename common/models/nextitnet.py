"""NextItNet: dilated causal convolutions over the history."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from common.errors import at_least
from common.models.base import SequentialRecommender
from common.nn.embedding import ItemEmbedding
from common.nn.losses import Objective
from common.nn.packing import PackedRows
from common.nn.softmax import softmax_loss
from common.types import PAD, SequenceBatch


class CausalConvolution(nn.Module):
    """A 1-D convolution that sees a position and earlier ones: ``y_t = Σ_j W_j x_{t − (k−1−j) D} + b``.

    Before the first position of a history there are zero vectors. Written as one linear map of the ``k`` shifted inputs
    side by side, which on a CPU is three times as fast as ``nn.Conv1d`` with its transposed layout, and can do without
    padding.

    Args:
        width: Channels in and out.
        kernel_size: ``k``; the weight of the map is ``(width, k · width)``, oldest tap first.
        dilation: ``D``.
    """

    def __init__(self, width: int, kernel_size: int, dilation: int) -> None:
        super().__init__()
        self.linear = nn.Linear(kernel_size * width, width)
        self.shifts = [dilation * tap for tap in reversed(range(kernel_size))]

    def forward(self, rows: Float[Tensor, "n d"], earlier: Int[Tensor, "n"]) -> Float[Tensor, "n d"]:
        """Convolves packed histories.

        Args:
            rows: The positions of all histories, one history after the other.
            earlier: How many positions each one's history has before it.
        """
        padded = F.pad(rows, (0, 0, self.shifts[0], 0))
        taps = [
            padded[self.shifts[0] - shift :][: len(rows)].masked_fill((earlier < shift)[:, None], 0)
            for shift in self.shifts[:-1]
        ]
        result: Tensor = self.linear(torch.cat([*taps, rows], dim=-1))
        return result


class ResidualBlock(nn.Module):
    """``x + ReLU(LN(conv_2D(ReLU(LN(conv_D(x))))))``: the second convolution is dilated twice as far.

    Args:
        width: Channels.
        kernel_size: Taps of each convolution.
        dilation: ``D``.
    """

    def __init__(self, width: int, kernel_size: int, dilation: int) -> None:
        super().__init__()
        self.near = CausalConvolution(width, kernel_size, dilation)
        self.near_norm = nn.LayerNorm(width, eps=1e-8)
        self.far = CausalConvolution(width, kernel_size, 2 * dilation)
        self.far_norm = nn.LayerNorm(width, eps=1e-8)

    def forward(self, rows: Float[Tensor, "n d"], earlier: Int[Tensor, "n"]) -> Float[Tensor, "n d"]:
        """Adds the block's change to packed rows; arguments as in :meth:`CausalConvolution.forward`."""
        near = F.relu(self.near_norm(self.near(rows, earlier)))
        return rows + F.relu(self.far_norm(self.far(near, earlier)))


class NextItNet(SequentialRecommender):
    """Predicts the next item at every position with residual blocks of dilated causal convolutions.

    With kernel ``k`` a state sees the last ``1 + 3 (k − 1) Σ D`` events. F. Yuan, A. Karatzoglou, I. Arapakis,
    J. M. Jose and X. He, "A Simple Convolutional Generative Network for Next Item Recommendation", WSDM 2019
    (https://arxiv.org/abs/1808.05163). Defaults, blocks of type (b) and a separate output table follow the authors'
    code (github.com/fajieyuan/WSDM2019-nextitnet).

    This implementation leaves padding out of the convolutions and the loss, so that scores do not depend on the width
    of a window and short histories are not used to predict padding. ``padding="released"`` restores the authors'
    treatment: padding is an item like any other, with a trained vector that flows through the convolutions, a class
    of the softmax, and (with the objective ``ce``) a target.

    Args:
        num_items: Number of items of the catalogue.
        width: Channels, width of item vectors and states.
        kernel_size: Taps of each convolution.
        dilations: ``D`` of each block; its second convolution has 2D.
        final_relu: Whether a ReLU precedes the output table, as in the authors' code; the PyTorch port that A-LLMRec
            links (github.com/syiswell/NextItNet-Pytorch) has none.
        padding: See above.
        objective: Training loss; the paper's is the full softmax.
        calibration: The ``t`` of gBCE.
        score_penalty: Weight of BPR-max's penalty on negative scores.
        lr: Learning rate of Adam.
        weight_decay: L2 coefficient of Adam.
    """

    def __init__(
        self,
        num_items: int,
        width: int = 100,
        kernel_size: int = 3,
        dilations: tuple[int, ...] = (1, 2, 1, 2, 1, 2),
        final_relu: bool = True,
        padding: Literal["masked", "released"] = "masked",
        objective: Objective = "ce",
        calibration: float = 0.75,
        score_penalty: float = 0.0,
        lr: float = 1e-3,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(num_items, objective, calibration, score_penalty, lr, weight_decay)
        self.save_hyperparameters()
        # A negative dilation would read the future.
        at_least(1, kernel_size=kernel_size, dilations=min(dilations, default=1))
        self.final_relu = final_relu
        self.masked = padding == "masked"
        self.item_embedding = ItemEmbedding(num_items, width, padding_idx=PAD if self.masked else None)
        self.blocks = nn.ModuleList(ResidualBlock(width, kernel_size, dilation) for dilation in dilations)
        self.output_embedding = ItemEmbedding(num_items, width, padding_idx=None)
        self.item_bias = ItemEmbedding(num_items, 1, padding_idx=None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws tables and kernels from N(0, 0.02²) truncated at two standard deviations; biases start at 0."""
        for name, parameter in self.named_parameters():
            if name.endswith("bias") or name.startswith("item_bias"):
                nn.init.zeros_(parameter)
            elif "norm" not in name:
                nn.init.trunc_normal_(parameter, std=0.02, a=-0.04, b=0.04)
        if self.masked:
            nn.init.zeros_(self.item_embedding.weight[PAD])

    def encode(self, batch: SequenceBatch) -> Float[Tensor, "b l d"]:
        """States after each history position, shape ``(b, l, width)``."""
        history = batch["history"]
        real = history != PAD if self.masked else torch.ones_like(history, dtype=torch.bool)
        packed = PackedRows(real)
        rows, earlier = self.item_embedding(packed.pack(history)), packed.earlier
        for block in self.blocks:
            rows = block(rows, earlier)
        return packed.unpack(F.relu(rows) if self.final_relu else rows)

    def output_table(self) -> Float[Tensor, "i_plus_1 d"]:
        """The table that states are compared with, separate from the input table."""
        return self.output_embedding.table()

    def output_bias(self) -> Float[Tensor, "i_plus_1"]:
        """Item biases, shape ``(num_items + 1,)``."""
        return self.item_bias.table().squeeze(1)

    def loss(self, batch: SequenceBatch) -> dict[str, Tensor]:
        """The objective over all positions; released padding is a target and a class as well."""
        if self.masked or self.objective != "ce":
            return super().loss(batch)
        targets = batch["targets"]
        states = self.encode(batch)[:, -targets.size(1) :].flatten(0, 1)
        return {"loss": softmax_loss(states, self.output_table(), targets.flatten(), self.output_bias())}
