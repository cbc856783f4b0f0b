"""Ranking objectives as pure functions of scores."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

Objective = Literal["bce", "bpr", "bpr_max", "sampled_softmax", "gbce", "ce"]


def bce_loss(positive: Float[Tensor, "n"], negatives: Float[Tensor, "n k"]) -> Tensor:
    """Binary cross-entropy with one or more negatives: ``softplus(-r₊) + mean_j softplus(r_j)``."""
    return (F.softplus(-positive) + F.softplus(negatives).mean(1)).mean()


def pairwise_loss(
    objective: Objective,
    positive: Float[Tensor, "n"],
    negatives: Float[Tensor, "n k"],
    *,
    num_items: int,
    calibration: float,
    score_penalty: float,
) -> Tensor:
    """The named objective, averaged over rows."""
    if objective == "bce":
        return bce_loss(positive, negatives)
    raise ValueError(f"objective {objective!r} is unknown")


def softmax_loss(logits: Float[Tensor, "n v"], targets: Int[Tensor, "n"]) -> Tensor:
    """Full softmax cross-entropy, averaged over rows."""
    return F.cross_entropy(logits, targets)
