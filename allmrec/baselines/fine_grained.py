"""CTRL's alignment: several vectors per side, and the best match of each."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

Contrast = Literal["infonce", "bce"]


def best_matches(
    a: Float[Tensor, "n m d"], b: Float[Tensor, "k m d"]
) -> tuple[Float[Tensor, "n k"], Float[Tensor, "n k"]]:
    """Similarity of each ``i`` of ``a`` to each ``j`` of ``b``, and of each ``j`` to each ``i``, with ``i`` in rows.

    ``sim(i, j) = Σ_p max_q ⟨a_ip, b_jq⟩``: each vector of ``i`` is matched with the most similar vector of ``j``. With
    one vector per side this is their product. The similarity is not symmetric. X. Li et al., "CTRL: Connect
    Collaborative and Language Model for CTR Prediction" (https://arxiv.org/abs/2306.02841).

    >>> a, b = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]), torch.tensor([[[2.0, 0.0], [3.0, 0.0]]])
    >>> [similarity.item() for similarity in best_matches(a, b)]
    [3.0, 5.0]
    """
    products = torch.einsum("ipd,jqd->ijpq", a, b)
    return products.amax(3).sum(2), products.amax(2).sum(2)


def contrast(
    there: Float[Tensor, "n n"], back: Float[Tensor, "n n"], kind: Contrast, temperature: float
) -> Float[Tensor, ""]:
    """Contrastive loss of the right pairs, on the diagonal, against all others, averaged over both directions.

    Args:
        there: Similarity of each state (row) to each text (column).
        back: Similarity of each text to each state, also with states in rows.
        kind: ``infonce``: cross-entropy over the other side of the batch, as in the paper. ``bce``: binary
            cross-entropy of each pair, the mean over right pairs plus the mean over wrong ones, without temperature, as
            in A-LLMRec's code.
        temperature: The paper's τ.
    """
    if kind == "infonce":
        own = torch.arange(len(there), device=there.device)
        return (F.cross_entropy(there / temperature, own) + F.cross_entropy(back.T / temperature, own)) / 2
    wrong = ~torch.eye(len(there), dtype=torch.bool, device=there.device)
    terms = [F.softplus(-s.diagonal()).mean() + F.softplus(s[wrong]).mean() for s in (there, back)]
    return (terms[0] + terms[1]) / 2


class FineGrained(nn.Module):
    """Projections of states and texts into one space, and from there into several sub-spaces per side.

    Args:
        state_width: Width of the collaborative side's states.
        text_width: Width of text vectors.
        latent: Width of the common space.
        sub_vectors: Sub-spaces per side, the paper's M. The paper gives no value; A-LLMRec's code has 3.
    """

    def __init__(self, state_width: int, text_width: int, latent: int, sub_vectors: int) -> None:
        super().__init__()
        self.project_state = nn.Linear(state_width, latent)
        self.project_text = nn.Linear(text_width, latent)
        self.state_parts = nn.ModuleList(nn.Linear(latent, latent) for _ in range(sub_vectors))
        self.text_parts = nn.ModuleList(nn.Linear(latent, latent) for _ in range(sub_vectors))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_normal_(module.weight)
                # PyTorch's initial biases would outweigh the differences between texts.
                nn.init.zeros_(module.bias)

    def forward(
        self, states: Float[Tensor, "n d"], texts: Float[Tensor, "n w"]
    ) -> tuple[Float[Tensor, "n n"], Float[Tensor, "n n"]]:
        """Similarities of states to texts and of texts to states, both with states in rows."""
        state, text = self.project_state(states), self.project_text(texts)
        a = torch.stack([part(state) for part in self.state_parts], dim=1)
        b = torch.stack([part(text) for part in self.text_parts], dim=1)
        return best_matches(a, b)

    def loss(
        self,
        states: Float[Tensor, "n d"],
        texts: Float[Tensor, "n w"],
        kind: Contrast,
        temperature: float,
        chunk: int | None = None,
    ) -> Float[Tensor, ""]:
        """Sum of the contrastive losses of all chunks; a last chunk of one pair has no wrong pair and is left out.

        Args:
            states: One row per pair.
            texts: One row per pair.
            kind: See :func:`contrast`.
            temperature: The paper's τ.
            chunk: Pairs that are contrasted with each other; ``None`` for all.
        """
        size = chunk or len(states)
        parts = zip(torch.split(states, size), torch.split(texts, size), strict=True)
        pairs = [self(a, b) for a, b in parts if len(a) > 1]
        losses = [contrast(there, back, kind, temperature) for there, back in pairs]
        return torch.stack(losses).sum() if losses else states.sum() * 0.0
