"""Caser: convolutions over the last items as if they were an image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from common.errors import UserError, at_least
from common.models.base import SequentialRecommender
from common.nn.decay import biases_apart
from common.nn.dropout import Dropout
from common.nn.embedding import ItemEmbedding, UserEmbedding
from common.nn.initial import initialise_weights
from common.nn.losses import Objective
from common.types import PAD, SequenceBatch

Activation = Literal["relu", "identity", "tanh", "sigmoid"]

ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "identity": nn.Identity(),
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}


class Caser(SequentialRecommender):
    """Reads the last ``L`` items with vertical and horizontal convolutions and joins the result with a user vector.

    The item vectors of the window form an image ``E`` of ``L × d``. A vertical filter is a weighted sum of its rows
    (no activation); a horizontal filter of height ``h`` scores every run of ``h`` items and keeps the highest score. A
    linear map turns all features into ``z``, and ``r_i = [z; p_u] · w_i + b_i``. J. Tang and K. Wang, "Personalized
    Top-N Sequential Recommendation via Convolutional Sequence Embedding", WSDM 2018
    (https://arxiv.org/abs/1809.07426).

    * ``window``: follows the authors' code (github.com/graytowne/caser_pytorch) and its defaults: a separate output
      table of width 2d, item biases, and windows of ``T`` targets that share one state. Train it on ``instances:
      window`` with ``num_targets`` 3 and ``num_negatives`` 3: the objective ``bce`` is then the authors' sum of a mean
      over targets and a mean over the window's negatives. For users with fewer events than a window, the authors'
      code trains on padding as a target; here such targets are left out.
    * ``prefix``: follows ReChorus (github.com/THUwangcy/ReChorus), as LRD's baselines do: a linear map from 2d to d,
      the input table as output table, no item bias, one target per history, no dropout, no L2 on biases; tables and
      linear maps start from N(0, 0.01²). ReChorus pads the window on the right, this implementation on the left. Train
      it on ``instances: prefix`` with the objective ``bpr``, ``max_history`` 20, ``max_height`` 5, and ``padding``
      masked, since ReChorus trains no padding row.

    Users without training events, and the unknown user 0, have the mean user vector.

    Args:
        num_items: Number of items of the catalogue.
        num_users: Number of users.
        max_history: ``L``, the window; shorter histories are padded on the left.
        variant: See above.
        width: ``d``.
        num_vertical: Number of vertical filters.
        num_horizontal: Number of horizontal filters of each height.
        max_height: Largest height; there are filters of every height up to it. ``None`` for ``L``.
        dropout: Dropout before the linear map (``window``).
        conv_activation: Activation of the horizontal filters.
        hidden_activation: Activation of ``z``.
        padding: ``row``: padding is an item like any other, with a trained vector, as in the authors' code. ``masked``:
            its vector is zero and windows that touch it are left out of the maximum.
        objective: Training loss.
        calibration: The ``t`` of gBCE.
        score_penalty: Weight of BPR-max's penalty on negative scores.
        lr: Learning rate of Adam.
        weight_decay: L2 coefficient of Adam.

    Raises:
        UserError: If it is trained on whole sequences, whose histories contain their targets.
    """

    information_set = frozenset({"order", "user_id"})

    def __init__(
        self,
        num_items: int,
        num_users: int,
        max_history: int = 5,
        variant: Literal["window", "prefix"] = "window",
        width: int = 50,
        num_vertical: int = 4,
        num_horizontal: int = 16,
        max_height: int | None = None,
        dropout: float = 0.5,
        conv_activation: Activation = "relu",
        hidden_activation: Activation = "relu",
        padding: Literal["row", "masked"] = "row",
        objective: Objective = "bce",
        calibration: float = 0.75,
        score_penalty: float = 0.0,
        lr: float = 1e-3,
        weight_decay: float = 1e-6,
    ) -> None:
        at_least(1, max_height=max_height)
        super().__init__(num_items, objective, calibration, score_penalty, lr, weight_decay)
        self.save_hyperparameters()
        self.max_history = max_history
        self.masked = padding == "masked"
        self.conv_activation = ACTIVATIONS[conv_activation]
        self.hidden_activation = ACTIVATIONS[hidden_activation]
        heights = range(1, min(max_history if max_height is None else max_height, max_history) + 1)
        self.item_embedding = ItemEmbedding(num_items, width, padding_idx=PAD if self.masked else None)
        self.user_embedding = UserEmbedding(num_users, width)
        self.vertical = nn.Linear(max_history, num_vertical)
        # A run of h vectors is one long vector, so a horizontal filter is a row of a linear map.
        self.horizontal = nn.ModuleList(nn.Linear(height * width, num_horizontal) for height in heights)
        self.hidden = nn.Linear(num_vertical * width + num_horizontal * len(heights), width)
        self.dropout = Dropout(dropout if variant == "window" else 0.0)
        self.project = nn.Linear(2 * width, width) if variant == "prefix" else None
        own_output = variant == "window"
        self.output_embedding = ItemEmbedding(num_items, 2 * width, None) if own_output else self.item_embedding
        self.item_bias = ItemEmbedding(num_items, 1, None) if own_output else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws each table of width ``w`` from N(0, 1/w²) and zeroes item biases; ``prefix`` draws as ReChorus does.

        Maps that are not mentioned, convolutions among them, keep PyTorch's values.
        """
        if self.project is not None:
            for part in (self.item_embedding, self.user_embedding, self.hidden, self.project):
                initialise_weights(part, "normal")
            return
        for table in (self.item_embedding, self.user_embedding, self.output_embedding):
            nn.init.normal_(table.weight, std=1 / table.embedding_dim)
            if table.padding_idx is not None:
                nn.init.zeros_(table.weight[PAD])
        if self.item_bias is not None:
            nn.init.zeros_(self.item_bias.weight)

    def convolve(self, history: Int[Tensor, "b l"]) -> Float[Tensor, "b f"]:
        """Vertical features, filter by filter, then horizontal features by increasing height."""
        window = F.pad(history, (max(0, self.max_history - history.size(1)), 0))[:, -self.max_history :]
        image = self.item_embedding(window)
        vertical = self.vertical(image.transpose(1, 2)).transpose(1, 2).flatten(1)
        horizontal = []
        for height, filters in enumerate(self.horizontal, start=1):
            runs = image.flatten(1).unfold(1, height * image.size(2), image.size(2))
            features = self.conv_activation(filters(runs))
            if self.masked:
                whole = (window != PAD)[:, : runs.size(1), None]
                features = features.masked_fill(~whole, -torch.inf)
                horizontal.append(features.amax(1).masked_fill(~whole.any(1), 0.0))
            else:
                horizontal.append(features.amax(1))
        return torch.cat([vertical, *horizontal], dim=1)

    def encode(self, batch: SequenceBatch) -> Float[Tensor, "b p d"]:
        """The state of the window, shape ``(b, p, d)``, repeated for its ``p`` targets in training (else ``p = 1``)."""
        features = self.dropout(self.convolve(batch["history"]))
        hidden = self.hidden_activation(self.hidden(features))
        state = torch.cat([hidden, self.user_embedding(batch["user_id"])], dim=1)
        if self.project is not None:
            state = self.project(state)
        return state[:, None].expand(-1, batch["targets"].size(1) if "targets" in batch else 1, -1)

    def output_table(self) -> Float[Tensor, "i_plus_1 w"]:
        """The table that states are compared with."""
        return self.output_embedding.table()

    def output_bias(self) -> Float[Tensor, "i_plus_1"] | None:
        """Item biases, shape ``(num_items + 1,)``; ``prefix`` has none."""
        return None if self.item_bias is None else self.item_bias.table().squeeze(1)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """All parameters, in ``prefix`` with biases apart."""
        return super().parameter_groups() if self.project is None else biases_apart(self)

    def loss(self, batch: SequenceBatch) -> dict[str, Tensor]:
        """The objective over the targets of all windows, each against the negatives of its window."""
        history, targets = batch["history"], batch["targets"]
        # A few windows of users who return to items may look like whole sequences, but have one draw of negatives.
        drawn = batch["negatives"].size(1) if "negatives" in batch else targets.size(1)
        alike = targets.shape == history.shape and torch.equal(history[:, 1:], targets[:, :-1])
        if alike and targets.size(1) > 1 and drawn > 1:
            raise UserError(
                "Caser was given whole sequences, whose histories contain their targets",
                "Set data.instances to window (or to prefix, with model.variant prefix).",
            )
        return super().loss(batch)
