"""Knowledge-graph embedding: DistMult scores and the pairwise loss over triplets."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def distmult(
    heads: Float[Tensor, "*n d"], relations: Float[Tensor, "*n d"], tails: Float[Tensor, "*n d"]
) -> Float[Tensor, "*n"]:
    """Scores triplets by ``φ(h, r, t) = hᵀ diag(r) t``, shape ``(*n,)``.

    Source: B. Yang et al., "Embedding Entities and Relations for Learning and Inference in Knowledge Bases",
    ICLR 2015, https://arxiv.org/abs/1412.6575.
    """
    return (heads * relations * tails).sum(-1)


def kge_loss(scores: Float[Tensor, "n k"]) -> Float[Tensor, ""]:
    """Mean of ``-log σ(φ₊ - φ₋)`` over corrupted triplets.

    The released code weighs the corruptions of a triplet by the softmax of their scores; with one it is the same.

    Args:
        scores: Scores of the true triplet in column 0 and of its corruptions behind it, shape ``(n, k)``.
    """
    return -F.logsigmoid(scores[:, :1] - scores[:, 1:]).mean()
