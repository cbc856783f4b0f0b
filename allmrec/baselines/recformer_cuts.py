"""What RecFormer's training draws from sequences, and the contrastive loss of its pre-training."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from common.types import PAD


def cut(
    history: Int[Tensor, "b l"], targets: Int[Tensor, "b p"], count: int, later_half: bool
) -> tuple[Int[Tensor, "n l"], Int[Tensor, "n"]]:
    """Random targets of each sequence, and the histories before them.

    Args:
        history: Items, oldest first.
        targets: The next item after each of the last ``p``.
        count: Targets per sequence, at different positions; a sequence with fewer has all of them drawn.
        later_half: Whether they come only from the second half.
    """
    real = targets != PAD
    if later_half:
        real &= 2 * real.long().cumsum(1) >= real.sum(1, keepdim=True)
    draws = torch.rand(real.shape, device=real.device).masked_fill(~real, -1.0)
    values, places = draws.topk(min(count, real.size(1)), dim=1)
    row, drawn = (values >= 0).nonzero(as_tuple=True)
    place = places[row, drawn]
    column = place + history.size(1) - targets.size(1)
    later = torch.arange(history.size(1), device=history.device) > column[:, None]
    return history[row].masked_fill(later, PAD), targets[row, place]


def contrastive_loss(
    a: Float[Tensor, "b d"], b: Float[Tensor, "b d"], temperature: float, items: Int[Tensor, "b"] | None = None
) -> Float[Tensor, ""]:
    """Item-item contrast: cross-entropy of each history's next item among those of all rows, by ``cos / τ``.

    Only histories look for items, as in the released code, and not the other way round.

    Args:
        a: Vectors of histories.
        b: Vectors of their next items.
        temperature: τ.
        items: Their ids; rows with the same next item are not negatives of each other.
    """
    scores = F.normalize(a, dim=1) @ F.normalize(b, dim=1).T / temperature
    own = torch.arange(len(a), device=a.device)
    if items is not None:
        same = (items[:, None] == items) & (own[:, None] != own)
        scores = scores.masked_fill(same, -torch.inf)
    return F.cross_entropy(scores, own)
