"""Ranking objectives as pure functions of scores.

All take the score r₊ of each row's target, shape ``(n,)``, and the scores r_1 … r_k of its negatives, shape
``(n, k)``, and return the mean over rows; they differ in how they weigh the scores of a row. The negatives are
averaged, never summed, so that the step size does not depend on how many are drawn.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Objective = Literal["bce", "bpr", "bpr_max", "sampled_softmax", "gbce", "ce"]


def bce_loss(positive: Float[Tensor, "n"], negatives: Float[Tensor, "n k"]) -> Float[Tensor, ""]:
    """Binary cross-entropy: ``softplus(−r₊) + mean_j softplus(r_j)``.

    SASRec's objective with one negative (Kang and McAuley 2018, https://arxiv.org/abs/1808.09781).

    >>> f"{bce_loss(torch.tensor([1.0]), torch.tensor([[0.0]])):.6f}"
    '1.006409'
    """
    return (F.softplus(-positive) + F.softplus(negatives).mean(1)).mean()


def bpr_loss(positive: Float[Tensor, "n"], negatives: Float[Tensor, "n k"]) -> Float[Tensor, ""]:
    """Bayesian personalised ranking: ``−mean_j log σ(r₊ − r_j)`` (https://arxiv.org/abs/1205.2618).

    >>> f"{bpr_loss(torch.tensor([1.0]), torch.tensor([[0.0, -1.0, 2.0]])):.6f}"
    '0.584484'
    """
    return F.softplus(negatives - positive[:, None]).mean()


def bpr_max_loss(
    positive: Float[Tensor, "n"],
    negatives: Float[Tensor, "n k"],
    score_penalty: float = 0.0,
    elu: float | None = None,
) -> Float[Tensor, ""]:
    """BPR-max: ``−log Σ_j s_j σ(r₊ − r_j) + λ Σ_j s_j r_j²`` with ``s`` the softmax over the negatives only.

    Hidasi and Karatzoglou, "Recurrent Neural Networks with Top-k Gains for Session-based Recommendations", CIKM 2018
    (https://arxiv.org/abs/1706.03847). The first term is summed in log space, where the released code adds 1e-24.
    With λ = 0 this is also what ReChorus and the released LRD call BPR.

    Args:
        positive: Scores of the targets.
        negatives: Scores of the negatives.
        score_penalty: λ.
        elu: α of an exponential linear unit applied to all scores first, or ``None`` for none.

    >>> scores = torch.tensor([1.0]), torch.tensor([[0.0, -1.0, 2.0]])
    >>> [f"{bpr_max_loss(*scores, penalty, elu):.6f}" for elu in (None, 0.5) for penalty in (0.0, 1.0)]
    ['1.057229', '4.474418', '1.018420', '4.267906']
    """
    if elu is not None:
        positive, negatives = F.elu(positive, elu), F.elu(negatives, elu)
    log_weights = negatives.log_softmax(1)
    loss = -torch.logsumexp(log_weights + F.logsigmoid(positive[:, None] - negatives), 1)
    if score_penalty:
        loss = loss + score_penalty * (log_weights.exp() * negatives.square()).sum(1)
    return loss.mean()


def sampled_softmax_loss(positive: Float[Tensor, "n"], negatives: Float[Tensor, "n k"]) -> Float[Tensor, ""]:
    """Cross-entropy over the target and its negatives: ``−r₊ + log(e^r₊ + Σ_j e^r_j)``.

    Assumes uniform negatives; for any other distribution, first subtract the log of each item's expected count from
    its score.

    >>> f"{sampled_softmax_loss(torch.tensor([1.0]), torch.tensor([[0.0, -1.0, 2.0]])):.6f}"
    '1.440190'
    """
    scores = torch.cat([positive[:, None], negatives], dim=1)
    return (scores.logsumexp(1) - positive).mean()


def gbce_loss(
    positive: Float[Tensor, "n"], negatives: Float[Tensor, "n k"], num_items: int, calibration: float = 0.75
) -> Float[Tensor, ""]:
    """Generalised binary cross-entropy: ``(β softplus(−r₊) + Σ_j softplus(r_j)) / (k + 1)``.

    With sampling rate α = k / (``num_items`` − 1), β = 1 − t (1 − α): t = 0 is plain BCE over k + 1 scores, t = 1
    undoes the bias of sampling, so that σ(r) estimates the item's probability. Petrov and Macdonald, "gSASRec",
    RecSys 2023 (https://arxiv.org/abs/2308.07192). The released code raises σ(r₊) to −β in float64; taking β out of
    the logarithm is the same loss without the overflow, in any precision.

    Args:
        positive: Scores of the targets.
        negatives: Scores of the negatives, drawn uniformly.
        num_items: Number of items of the catalogue.
        calibration: t, from 0 to 1.

    >>> scores = torch.tensor([1.0]), torch.tensor([[0.0, -1.0, 2.0]])
    >>> [f"{gbce_loss(*scores, num_items=101, calibration=t):.6f}" for t in (0.0, 0.75, 1.0)]
    ['0.861650', '0.804675', '0.785684']
    """
    count = negatives.size(1)
    beta = 1 - calibration * (1 - count / (num_items - 1))
    return ((beta * F.softplus(-positive) + F.softplus(negatives).sum(1)) / (count + 1)).mean()


def pairwise_loss(
    objective: Objective,
    positive: Float[Tensor, "n"],
    negatives: Float[Tensor, "n k"],
    *,
    num_items: int,
    calibration: float,
    score_penalty: float,
    elu: float | None = None,
) -> Float[Tensor, ""]:
    """The named objective on sampled negatives, averaged over rows.

    Args:
        objective: Any objective but ``ce``.
        positive: Scores of the targets.
        negatives: Scores of the negatives.
        num_items: Number of items of the catalogue (gBCE).
        calibration: t of gBCE.
        score_penalty: λ of BPR-max.
        elu: α of BPR-max's exponential linear unit, or ``None``.

    Raises:
        ValueError: If ``objective`` is ``ce``, which needs all scores, or unknown.
    """
    match objective:
        case "bce":
            return bce_loss(positive, negatives)
        case "bpr":
            return bpr_loss(positive, negatives)
        case "bpr_max":
            return bpr_max_loss(positive, negatives, score_penalty, elu)
        case "sampled_softmax":
            return sampled_softmax_loss(positive, negatives)
        case "gbce":
            return gbce_loss(positive, negatives, num_items, calibration)
        case _:
            raise ValueError(f"objective {objective!r} is not a loss on sampled negatives")
