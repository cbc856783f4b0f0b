"""Stage 1's mathematics: item and text vectors meet in one latent space.

Vectors of width ``d`` come from the collaborative filter (items E, users x) and of width ``w`` from the text encoder
(Q); ``z`` is the width of the latent. S. Kim et al., "Large Language Models meet Collaborative Filtering: An Efficient
All-round LLM-based Recommender System", KDD 2024 (https://arxiv.org/abs/2404.11343).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

Formulation = Literal["paper", "released"]
Activation = Literal["none", "sigmoid"]
Product = Literal["dot", "mean"]


class Switches(NamedTuple):
    """What sets the paper's stage 1 apart from its released code."""

    activation: Activation
    """What follows the encoders' linear map; the decoders have none."""
    product: Product
    """Score of a user and an item: the dot product, or its mean over the width, ``d`` times as small."""
    match_negatives: bool
    """Whether the sampled item is matched and reconstructed as well."""
    detach: bool
    """Whether the text reconstruction leaves its target alone, so that the text encoder cannot meet it halfway."""


FORMULATIONS: dict[Formulation, Switches] = {
    "paper": Switches(activation="none", product="dot", match_negatives=False, detach=False),
    "released": Switches(activation="sigmoid", product="mean", match_negatives=True, detach=True),
}


def matching_loss(items: Float[Tensor, "n z"], texts: Float[Tensor, "n z"]) -> Float[Tensor, ""]:
    """``MSE(e_i, q_i)``: mean squared difference of the two latents over items and components.

    >>> import torch
    >>> matching_loss(torch.tensor([[1.0, 3.0]]), torch.tensor([[1.0, 1.0]])).item()
    2.0
    """
    return F.mse_loss(items, texts)


def reconstruction_loss(
    decoded: Float[Tensor, "n w"], target: Float[Tensor, "n w"], detach: bool = False
) -> Float[Tensor, ""]:
    """``MSE(target, dec(enc(target)))``, over items and components.

    Args:
        decoded: What the decoder made of the latents.
        target: What was encoded.
        detach: Whether no gradient flows into ``target``.
    """
    return F.mse_loss(decoded, target.detach() if detach else target)


def pair_scores(users: Float[Tensor, "n d"], items: Float[Tensor, "n d"], kind: Product) -> Float[Tensor, "n"]:
    """The score s(x, E) of each user and item.

    >>> import torch
    >>> users, items = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]])
    >>> pair_scores(users, items, "dot").item(), pair_scores(users, items, "mean").item()
    (11.0, 5.5)
    """
    terms = users * items
    return terms.sum(1) if kind == "dot" else terms.mean(1)


def recommendation_loss(positive: Float[Tensor, "n"], negative: Float[Tensor, "n"]) -> Float[Tensor, ""]:
    """``−log σ(s₊) − log(1 − σ(s₋))``, averaged over users where the paper sums, so that it knows no batch size.

    >>> import torch
    >>> f"{recommendation_loss(torch.tensor([1.0]), torch.tensor([0.0])):.6f}"
    '1.006409'
    """
    return F.softplus(-positive).mean() + F.softplus(negative).mean()


class AutoEncoder(nn.Module):
    """One linear map into the latent space and one back.

    Args:
        width: Width of the vectors.
        latent: Width of the latent, the paper's d′.
        activation: What follows the encoder.
    """

    def __init__(self, width: int, latent: int = 128, activation: Activation = "none") -> None:
        super().__init__()
        self.encoder = nn.Linear(width, latent)
        self.decoder = nn.Linear(latent, width)
        self.activation = activation

    def encode(self, vectors: Float[Tensor, "*n w"]) -> Float[Tensor, "*n z"]:
        """Latents of vectors."""
        latents: Tensor = self.encoder(vectors)
        return latents.sigmoid() if self.activation == "sigmoid" else latents

    def forward(self, vectors: Float[Tensor, "*n w"]) -> tuple[Float[Tensor, "*n z"], Float[Tensor, "*n w"]]:
        """Latents of vectors, and the vectors made from them."""
        latents = self.encode(vectors)
        return latents, self.decoder(latents)


class Pairs(NamedTuple):
    """Items as both sides know them, row by row."""

    items: Float[Tensor, "n d"]
    texts: Float[Tensor, "n w"] | None
    """May be missing for sampled items that are only scored."""


class Alignment(nn.Module):
    """The two auto-encoders and their joint objective.

    ``L = L_matching + α L_item + β L_text + L_rec``: latents of an item and of its text are pulled together, both are
    decoded again so that they cannot collapse, and the decoded item vector still has to please its user. An argument
    left at ``None`` takes the formulation's way. The other two losses have weights of our own, to be left out as in
    the paper's table 8.

    Args:
        item_width: Width of the collaborative filter's vectors.
        text_width: Width of the text encoder's vectors.
        latent: Width of the latent, the paper's d′.
        formulation: The paper's objective, or that of its released code.
        activation: What follows the encoders.
        product: How a user and an item are scored.
        match_negatives: Whether sampled items are matched and reconstructed as well.
        detach: Whether text reconstruction leaves its target alone.
        weight_item: The paper's α.
        weight_text: The paper's β: 0.5 for Movies and Games, 0.2 for Beauty and Toys; 0.2 in the released code.
        weight_matching: Weight of the matching loss.
        weight_recommendation: Weight of the recommendation loss.
    """

    def __init__(
        self,
        item_width: int,
        text_width: int,
        latent: int = 128,
        formulation: Formulation = "paper",
        activation: Activation | None = None,
        product: Product | None = None,
        match_negatives: bool | None = None,
        detach: bool | None = None,
        weight_item: float = 0.5,
        weight_text: float = 0.2,
        weight_matching: float = 1.0,
        weight_recommendation: float = 1.0,
    ) -> None:
        super().__init__()
        given = {
            "activation": activation,
            "product": product,
            "match_negatives": match_negatives,
            "detach": detach,
        }
        chosen = {name: value for name, value in given.items() if value is not None}
        self.switches = FORMULATIONS[formulation]._replace(**chosen)  # type: ignore[arg-type]  # values of several types
        self.items = AutoEncoder(item_width, latent, self.switches.activation)
        self.texts = AutoEncoder(text_width, latent, self.switches.activation)
        self.weight_item = weight_item
        self.weight_text = weight_text
        self.weight_matching = weight_matching
        self.weight_recommendation = weight_recommendation

    def forward(self, users: Float[Tensor, "n d"], positive: Pairs, negative: Pairs) -> dict[str, Tensor]:
        """The joint loss and its four parts.

        Args:
            users: Vector x of each row's user, before the row's item.
            positive: The item that the user chose, one per row.
            negative: A sampled item, one per row.
        """
        e, decoded = self.items(positive.items)
        negative_e, negative_decoded = self.items(negative.items)
        matching, text = self._meet(positive, e)
        item = reconstruction_loss(decoded, positive.items)
        if self.switches.match_negatives:
            negative_matching, negative_text = self._meet(negative, negative_e)
            matching, text = matching + negative_matching, text + negative_text
            item = item + reconstruction_loss(negative_decoded, negative.items)
        kind = self.switches.product
        rec = recommendation_loss(pair_scores(users, decoded, kind), pair_scores(users, negative_decoded, kind))
        reconstruction = self.weight_item * item + self.weight_text * text
        loss = self.weight_matching * matching + reconstruction + self.weight_recommendation * rec
        return {"loss": loss, "loss_matching": matching, "loss_item": item, "loss_text": text, "loss_rec": rec}

    def _meet(self, pairs: Pairs, e: Float[Tensor, "n z"]) -> tuple[Tensor, Tensor]:
        """Matching and text reconstruction of items whose latents are ``e``."""
        if pairs.texts is None:
            raise ValueError("items are matched with their texts, and these have none")
        q, decoded = self.texts(pairs.texts)
        return matching_loss(e, q), reconstruction_loss(decoded, pairs.texts, self.switches.detach)
