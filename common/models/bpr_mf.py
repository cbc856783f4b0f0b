"""BPR-MF: matrix factorisation for ranking."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from common.models.base import SequentialRecommender
from common.nn.embedding import ItemEmbedding, UserEmbedding
from common.nn.losses import Objective
from common.types import PAD, SequenceBatch


class BPRMF(SequentialRecommender):
    """Scores an item by the dot product of the user's and the item's vector, whatever the order of events.

    ``r(u, i) = p_u · q_i + b_i``, trained to minimise ``-ln σ(r(u, i) - r(u, j))`` for an item ``i`` of the user and
    a sampled item ``j``.

    Rendle, Freudenthaler, Gantner, Schmidt-Thieme: "BPR: Bayesian Personalized Ranking from Implicit Feedback",
    UAI 2009, https://arxiv.org/abs/1205.2618.

    The original draws triples with replacement and takes plain SGD steps; this implementation passes over shuffled
    events with Adam, as later benchmarks do, and applies L2 as Adam's weight decay to whole tables rather than to the
    rows of the triple. Users without training events, and unknown users, have the mean user vector. Train it on
    ``prefix`` instances with ``min_history`` 0, so that each user's first event is a target too.

    Args:
        num_items: Number of items.
        num_users: Number of users.
        width: Width of the vectors.
        use_bias: Whether items have a bias ``b_i``.
        objective: Training loss.
        calibration: The ``t`` of gBCE.
        score_penalty: Weight of BPR-max's penalty on negative scores.
        lr: Learning rate of Adam.
        weight_decay: L2 coefficient (the paper's λ).
    """

    information_set = frozenset({"user_id"})

    def __init__(
        self,
        num_items: int,
        num_users: int,
        width: int = 64,
        use_bias: bool = False,
        objective: Objective = "bpr",
        calibration: float = 0.75,
        score_penalty: float = 0.0,
        lr: float = 1e-3,
        weight_decay: float = 1e-6,
    ) -> None:
        super().__init__(num_items, objective, calibration, score_penalty, lr=lr, weight_decay=weight_decay)
        self.save_hyperparameters()
        self.user_embedding = UserEmbedding(num_users, width)
        self.item_embedding = ItemEmbedding(num_items, width)
        self.item_bias = ItemEmbedding(num_items, 1) if use_bias else None
        for table in (self.user_embedding, self.item_embedding):
            nn.init.normal_(table.weight, std=0.01)
            nn.init.zeros_(table.weight[PAD])
        if self.item_bias is not None:
            nn.init.zeros_(self.item_bias.weight)

    def encode(self, batch: SequenceBatch) -> Float[Tensor, "b 1 d"]:
        """The user's vector as the only state, shape ``(b, 1, width)``."""
        states: Tensor = self.user_embedding(batch["user_id"])
        return states[:, None]

    def output_bias(self) -> Float[Tensor, "i_plus_1"] | None:
        """Item biases, shape ``(num_items + 1,)``."""
        return None if self.item_bias is None else self.item_bias.table().squeeze(1)
