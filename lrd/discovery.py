"""Discovery of latent relations: a discrete-state variational auto-encoder over item pairs."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from common.errors import UserError, at_least
from common.types import PAD, Catalogue
from lrd.entities import given_vectors

Formulation = Literal["paper", "released"]
_INSTEAD = ", or --model.discovery.vectors id"


def entropy(probabilities: Float[Tensor, "*n r"]) -> Float[Tensor, "*n r"]:
    """Terms ``-q log q`` of the entropy, elementwise.

    The floor lets the gradient of a ``q`` that underflowed to 0 be 0, where that of the logarithm is infinite.
    """
    return -probabilities * probabilities.clamp(min=torch.finfo(probabilities.dtype).tiny).log()


def paper_loss(
    probabilities: Float[Tensor, "b l r"],
    relations: Float[Tensor, "r d"],
    history: Float[Tensor, "b l d"],
    negatives: Float[Tensor, "b l d"],
    target: Float[Tensor, "b d"],
    mask: Bool[Tensor, "b l"],
    weight_entropy: float,
) -> Float[Tensor, ""]:
    """The negated evidence bound of the paper: a sum over the history of each target, averaged over targets.

    ``-Σ_r q_r [log σ(φ(v_i, v_j, r)) + log σ(-φ(v_i', v_j, r))] - α H(q)`` with DistMult ``φ``.
    """
    positive = (history * target[:, None]) @ relations.T
    negative = (negatives * target[:, None]) @ relations.T
    likelihood = F.logsigmoid(positive) + F.logsigmoid(-negative)
    bound = probabilities * likelihood + weight_entropy * entropy(probabilities)
    return -(bound.sum(-1) * mask).sum(1).mean()


def released_loss(
    probabilities: Float[Tensor, "b l r"],
    relations: Float[Tensor, "r d"],
    history: Float[Tensor, "b l d"],
    negatives: Float[Tensor, "b l d"],
    target: Float[Tensor, "b d"],
    mask: Bool[Tensor, "b l"],
    weight_entropy: float,
    skip_virtual: bool,
) -> Float[Tensor, ""]:
    """The loss of the authors' code.

    ``-mean_br log(mean_l σ(s(h, q_r r, i) - s(h', q_r r, i))) + α mean(-q log q)`` with the three-term score
    ``s(h, r, i) = ⟨h ⊙ r, i⟩ + ⟨h, r⟩ + ⟨i, r⟩``: ``q`` scales the relation inside the score, the mean over the
    history is inside the logarithm, and entropy is penalised, padded slots included.
    """
    difference = probabilities * (((history - negatives) * (target[:, None] + 1)) @ relations.T)
    # In logarithms throughout: that of a sigmoid which underflowed to 0 would be infinite.
    terms = F.logsigmoid(difference).masked_fill(~mask[..., None], -torch.inf)
    likelihood = terms.logsumexp(1) - mask.sum(1, dtype=terms.dtype)[:, None].log()
    return -likelihood[:, int(skip_virtual) :].mean() + weight_entropy * entropy(probabilities).mean()


class LatentRelationDiscovery(nn.Module):
    """Infers how two items relate from their texts, and learns by reconstructing one item from the other.

    The encoder classifies a pair of frozen language-model vectors, ``q(r | i, j) = softmax(W₂ [e_i; e_j])`` with
    ``e = W₁ LM(text)``; the decoder scores item vectors of the recommender by DistMult.

    Source: S. Yang et al., "Sequential Recommendation with Latent Relations based on Large Language Model",
    SIGIR 2024, https://arxiv.org/abs/2403.18348.

    Args:
        num_latent: Relations added to the predefined ones; ``q`` runs over all of them, as in the authors' code.
        formulation: Loss of the paper, or of its released code (``lrd/README.md`` sets them side by side).
        weight_entropy: The paper's α. The released loss penalises entropy; with a negative α it is rewarded there, too.
        skip_virtual: Whether the released loss leaves the virtual relation out (the authors do so with KDA).
        vectors: What the encoder reads: language-model vectors, or the recommender's item vectors ("w/o LLM").
        extractor: What infers relations: the classifier, or nothing, so that ``q`` is uniform (a control).

    Raises:
        UserError: If ``num_latent`` is negative, or ``skip_virtual`` is asked of the paper's formulation.
    """

    language: Tensor

    def __init__(
        self,
        num_latent: int = 5,
        formulation: Formulation = "paper",
        weight_entropy: float = 0.1,
        skip_virtual: bool = False,
        vectors: Literal["text", "id"] = "text",
        extractor: Literal["classifier", "uniform"] = "classifier",
    ) -> None:
        super().__init__()
        at_least(0, "model.discovery", num_latent=num_latent)
        if skip_virtual and formulation == "paper":
            raise UserError(
                "skip_virtual belongs to the released loss; the paper's counts every relation.",
                "Leave --model.discovery.skip_virtual out, or set formulation: released.",
            )
        self.num_latent = num_latent
        self.formulation: Formulation = formulation
        self.weight_entropy = weight_entropy
        self.skip_virtual = skip_virtual
        self.vectors = vectors
        self.extractor = extractor

    def build(self, num_items: int, text_width: int, width: int, num_relations: int) -> None:
        """Makes the layers, whose sizes only the data know.

        Raises:
            UserError: If the virtual relation is the only one, and the loss is to leave it out.
        """
        if self.skip_virtual and num_relations == 1:
            raise UserError(
                "skip_virtual leaves out the virtual relation, but there is no other.",
                "Give --model.discovery.num_latent 1 or more, or leave --model.discovery.skip_virtual out.",
            )
        self.num_relations = num_relations
        if self.extractor == "uniform":
            return
        self.project = nn.Linear(text_width if self.vectors == "text" else width, width)
        self.classify = nn.Linear(2 * width, num_relations)
        self.register_buffer("language", torch.zeros(num_items + 1, text_width), persistent=False)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.01)

    def attach(self, catalogue: Catalogue) -> None:
        """Receives the frozen language-model vectors of the items.

        Raises:
            UserError: If there are none, or of another number or width.
        """
        if self.vectors != "text" or self.extractor == "uniform":
            return
        shape = self.language.size(0), self.language.size(1)
        self.language.copy_(given_vectors(catalogue, shape, "Relations are discovered from texts", _INSTEAD))

    def probabilities(
        self, history: Int[Tensor, "b l"], target: Int[Tensor, "b"], items: nn.Embedding
    ) -> Float[Tensor, "b l r"]:
        """Distribution over relations of each history-target pair, shape ``(b, l, r)``."""
        if self.extractor == "uniform":
            return items.weight.new_full((*history.shape, self.num_relations), 1 / self.num_relations)
        table = self.language if self.vectors == "text" else items.weight
        places = torch.cat([target[:, None], history], dim=1)
        # A step then costs no more than its items, and on a small table no search for those that differ.
        if len(table) > places.numel():
            distinct, places = torch.unique(places, return_inverse=True)
            table = table[distinct]
        # W₂ [e_i; e_j] = A e_i + B e_j, each once per item instead of once per pair.
        parts = F.linear(self.project(table), torch.cat(self.classify.weight.chunk(2, dim=1)))
        of_history, of_target = parts.chunk(2, dim=1)
        logits = F.embedding(places[:, 1:], of_history) + F.embedding(places[:, :1], of_target + self.classify.bias)
        return logits.softmax(-1)

    def forward(
        self,
        history: Int[Tensor, "b l"],
        negatives: Int[Tensor, "b l"],
        target: Int[Tensor, "b"],
        items: nn.Embedding,
        relations: Float[Tensor, "r d"],
    ) -> Float[Tensor, ""]:
        """The discovery loss of a batch of histories and their targets.

        Args:
            history: Items of the history.
            negatives: One sampled item per history slot.
            target: Next item.
            items: Item vectors of the recommender.
            relations: Its relation vectors.
        """
        mask = history != PAD
        q = self.probabilities(history, target, items)
        vectors = (q, relations, items(history), items(negatives), items(target), mask, self.weight_entropy)
        return paper_loss(*vectors) if self.formulation == "paper" else released_loss(*vectors, self.skip_virtual)
