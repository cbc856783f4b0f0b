"""Stage 1's functions against NumPy and against their definitions."""

import numpy as np
import pytest
import torch
from torch import Tensor

from allmrec.alignment import Alignment, Formulation, Pairs, pair_scores, recommendation_loss


def sides(rows: int = 5, item_width: int = 6, text_width: int = 7) -> tuple[Tensor, Pairs, Pairs]:
    users = torch.randn(rows, item_width)
    pairs = [Pairs(torch.randn(rows, item_width), torch.randn(rows, text_width)) for _ in range(2)]
    return users, pairs[0], pairs[1]


def test_paper_loss_is_that_of_the_equations() -> None:
    model = Alignment(6, 7, 4, "paper", weight_item=0.3, weight_text=0.7).double()
    x, positive, negative = sides()
    users, items, other = x.double().numpy(), positive.items.double().numpy(), negative.items.double().numpy()
    assert positive.texts is not None
    texts = positive.texts.double().numpy()

    def layer(linear: torch.nn.Linear, x: np.ndarray) -> np.ndarray:
        return np.asarray(x @ linear.weight.detach().numpy().T + linear.bias.detach().numpy())

    e, q = layer(model.items.encoder, items), layer(model.texts.encoder, texts)
    decoded, decoded_other = (layer(model.items.decoder, layer(model.items.encoder, x)) for x in (items, other))
    scores = (users * decoded).sum(1), (users * decoded_other).sum(1)
    likelihood = np.log(1 / (1 + np.exp(-scores[0]))) + np.log(1 - 1 / (1 + np.exp(-scores[1])))
    expected = (
        ((e - q) ** 2).mean()
        + 0.3 * ((items - decoded) ** 2).mean()
        + 0.7 * ((texts - layer(model.texts.decoder, q)) ** 2).mean()
        - likelihood.mean()
    )
    pairs = Pairs(torch.tensor(items), torch.tensor(texts)), Pairs(torch.tensor(other), None)
    assert model(torch.tensor(users), *pairs)["loss"].item() == pytest.approx(expected)


@pytest.mark.parametrize(("formulation", "flows"), [("paper", True), ("released", False)])
def test_only_the_paper_moves_the_text_target(formulation: Formulation, flows: bool) -> None:
    model = Alignment(6, 7, 4, formulation)
    torch.nn.init.zeros_(model.texts.encoder.weight)
    users, positive, negative = sides()
    assert positive.texts is not None
    positive.texts.requires_grad_()
    model(users, positive, negative)["loss"].backward()
    assert positive.texts.grad is not None
    assert bool(positive.texts.grad.any()) is flows


def test_arguments_override_the_formulation() -> None:
    switches = Alignment(6, 7, formulation="released", activation="none", match_negatives=False).switches
    assert switches == ("none", "mean", False, True)


def test_texts_of_sampled_items_matter_only_with_negatives() -> None:
    users, positive, negative = sides()
    for kept in (False, True):
        model = Alignment(6, 7, 4, match_negatives=kept)
        changed = negative._replace(texts=torch.zeros_like(positive.items.new_empty(5, 7)))
        same = torch.equal(model(users, positive, negative)["loss"], model(users, positive, changed)["loss"])
        assert same is not kept
    with pytest.raises(ValueError, match="have none"):
        model(users, positive, negative._replace(texts=None))


def test_mean_product_is_the_dot_product_over_the_width() -> None:
    users, items = torch.randn(4, 50), torch.randn(4, 50)
    torch.testing.assert_close(50 * pair_scores(users, items, "mean"), pair_scores(users, items, "dot"))


def test_recommendation_loss_falls_as_the_chosen_item_rises() -> None:
    low, high = (recommendation_loss(torch.tensor([s]), torch.zeros(1)) for s in (0.0, 1.0))
    assert high < low


@pytest.mark.parametrize("part", ["matching", "item", "text", "recommendation"])
def test_each_loss_can_be_left_out(part: str) -> None:
    weights = {f"weight_{name}": 0.0 for name in ("matching", "item", "text", "recommendation")}
    model = Alignment(6, 7, 4, **(weights | {f"weight_{part}": 2.0}))  # type: ignore[arg-type]  # values of several types
    losses = model(*sides())
    name = "rec" if part == "recommendation" else part
    assert losses["loss"].item() == pytest.approx(2 * losses[f"loss_{name}"].item())
