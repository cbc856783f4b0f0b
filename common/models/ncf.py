"""NCF: neural collaborative filtering, with its three forms GMF, MLP and NeuMF."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from common.errors import UserError
from common.models.base import Recommender
from common.models.negatives import drawn_negatives
from common.nn.embedding import ItemEmbedding, UserEmbedding
from common.types import PAD, SequenceBatch

Halves: TypeAlias = tuple[Tensor | None, Tensor | None]
"""What is given to the product and to the tower; ``None`` for the one that a variant lacks."""


class NCF(Recommender):
    """Scores a user-item pair by a product of vectors, a tower of layers, or both, whatever the order of events.

    ``gmf``: ``h · (p_u ⊙ q_i) + b``. ``mlp``: a linear map of ReLU layers over ``[p_u; q_i]``. ``neumf``: a linear map
    of both side by side, each with its own tables. Trained to classify pairs as observed or sampled. X. He, L. Liao,
    H. Zhang, L. Nie, X. Hu and T.-S. Chua, "Neural Collaborative Filtering", WWW 2017
    (https://arxiv.org/abs/1708.05031); defaults of github.com/hexiangnan/neural_collaborative_filtering. Scores are
    logits, since the sigmoid changes no rank. The paper's initialisation of NeuMF from pre-trained halves is left out.

    Users without training events, and the unknown user 0, have the mean user vectors. Train it on
    ``instances: prefix`` with ``min_history`` 0 and ``num_negatives`` 4.

    Args:
        num_items: Number of items of the catalogue.
        num_users: Number of users.
        variant: Form of the model.
        product_width: Width of the vectors that are multiplied.
        layers: Widths of the tower: first the user's and the item's vector together, then each layer.
        optimizer: Optimiser; the authors' is Adam, or SGD after pre-training.
        lr: Learning rate.
        weight_decay: L2 coefficient.

    Raises:
        UserError: If ``layers`` has fewer than two widths or begins with an odd one.
    """

    information_set = frozenset({"user_id"})
    # Working memory is rows x chunk x first layer; a small chunk stays in the processor's cache.
    catalogue_chunk = 256

    def __init__(
        self,
        num_items: int,
        num_users: int,
        variant: Literal["neumf", "gmf", "mlp"] = "neumf",
        product_width: int = 8,
        layers: tuple[int, ...] = (64, 32, 16, 8),
        optimizer: Literal["adam", "sgd"] = "adam",
        lr: float = 1e-3,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(num_items, lr=lr, weight_decay=weight_decay)
        if len(layers) < 2 or layers[0] % 2:
            raise UserError(
                f"layers is {tuple(layers)}", "Give an even width for both vectors, and at least one layer."
            )
        self.save_hyperparameters()
        self.variant = variant
        self.optimizer = optimizer
        if variant != "mlp":
            self.user_product = UserEmbedding(num_users, product_width)
            self.item_product = ItemEmbedding(num_items, product_width)
            self.product_output = nn.Linear(product_width, 1, bias=False)
        if variant != "gmf":
            self.user_tower = UserEmbedding(num_users, layers[0] // 2)
            self.item_tower = ItemEmbedding(num_items, layers[0] // 2)
            self.tower = nn.ModuleList(nn.Linear(width, after) for width, after in pairwise(layers))
            self.tower_output = nn.Linear(layers[-1], 1, bias=False)
        self.bias = nn.Parameter(torch.zeros(1))
        # The output of NeuMF is one linear map of both halves, so LeCun's rule counts both widths.
        output_width = product_width * (variant != "mlp") + layers[-1] * (variant != "gmf")
        self.output_bound = (3 / output_width) ** 0.5
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws tables from N(0, 0.01²), layers by Glorot's and outputs by LeCun's uniform rule."""
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif name.startswith("tower."):
                nn.init.xavier_uniform_(parameter)
            elif name.endswith("output.weight"):
                nn.init.uniform_(parameter, -self.output_bound, self.output_bound)
            else:
                nn.init.normal_(parameter, std=0.01)
                nn.init.zeros_(parameter[PAD])

    def pair(self, users: Int[Tensor, "b"], items: Int[Tensor, "x c"]) -> Float[Tensor, "b c"]:
        """Logits of users with their items, shape ``(b, c)``; ``x`` is ``b``, or 1 for items shared by all users."""
        product = None if self.variant == "mlp" else self.item_product(items)
        tower = None if self.variant == "gmf" else self.item_tower(items)
        return self.match(self.map_users(users), (product, tower))

    def map_users(self, users: Int[Tensor, "b"]) -> Halves:
        """Vectors of users, weighted as the product's output does, and what they add to the tower's first layer."""
        product = None if self.variant == "mlp" else self.user_product(users) * self.product_output.weight
        if self.variant == "gmf":
            return product, None
        # The first layer is linear in [user; item]: each side is mapped once and added for every pair.
        first: nn.Linear = self.tower[0]  # type: ignore[assignment]  # a ModuleList forgets it
        return product, F.linear(self.user_tower(users), first.weight.chunk(2, dim=1)[0], first.bias)

    def match(self, users: Halves, items: Halves) -> Float[Tensor, "b c"]:
        """Logits of mapped users with the vectors of their items, each ``(x, c, d)``, as in :meth:`pair`."""
        logits: Tensor = self.bias
        (weighted, mapped), (vectors, inputs) = users, items
        if weighted is not None and vectors is not None:
            shared = len(vectors) == 1
            logits = logits + (weighted @ vectors[0].T if shared else torch.einsum("bd,bcd->bc", weighted, vectors))
        if mapped is not None and inputs is not None:
            first: nn.Linear = self.tower[0]  # type: ignore[assignment]  # a ModuleList forgets it
            hidden = F.relu(mapped[:, None] + F.linear(inputs, first.weight.chunk(2, dim=1)[1]))
            for layer in list(self.tower)[1:]:
                hidden = F.relu(layer(hidden))
            logits = logits + self.tower_output(hidden).squeeze(2)
        return logits

    def score(self, batch: SequenceBatch) -> Float[Tensor, "b c"]:
        """Logits of the candidates, shape ``(b, c)``."""
        return self.pair(batch["user_id"], batch["candidates"])

    def score_catalogue(self, batch: SequenceBatch) -> Float[Tensor, "b i_plus_1"]:
        """Logits of every item, ``catalogue_chunk`` at a time, each user and each item mapped once per batch."""
        scores = self.bias.new_empty(len(batch["user_id"]), self.num_items + 1)
        users = self.map_users(batch["user_id"])
        product = None if self.variant == "mlp" else self.item_product.table()
        tower = None if self.variant == "gmf" else self.item_tower.table()
        for start in range(0, self.num_items + 1, self.catalogue_chunk):
            rows = slice(start, start + self.catalogue_chunk)
            chunk = None if product is None else product[None, rows], None if tower is None else tower[None, rows]
            scores[:, rows] = self.match(users, chunk)
        return scores

    def loss(self, batch: SequenceBatch) -> dict[str, Tensor]:
        """Mean binary cross-entropy over targets (label 1) and negatives (label 0)."""
        targets = batch["targets"]
        kept = (targets != PAD).nonzero(as_tuple=True)  # Only once, because an accelerator is waited for.
        positive = self.pair(batch["user_id"], targets)[kept]
        negatives = drawn_negatives(batch).expand(-1, targets.size(1), -1)
        negative = self.pair(batch["user_id"], negatives.flatten(1)).view_as(negatives)[kept]
        logits = torch.cat([positive[:, None], negative], dim=1)
        labels = torch.zeros_like(logits)
        labels[:, 0] = 1
        return {"loss": F.binary_cross_entropy_with_logits(logits, labels)}

    def configure_optimizers(self) -> torch.optim.Optimizer | None:
        """Adam or SGD on all parameters."""
        if self.optimizer == "sgd":
            return torch.optim.SGD(self.parameters(), lr=self.lr, weight_decay=self.weight_decay)
        return super().configure_optimizers()
