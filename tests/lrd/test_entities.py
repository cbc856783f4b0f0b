"""Vectors of items that carry their texts, and of attribute values."""

import pytest
import torch

from common.errors import UserError
from lrd.discovery import LatentRelationDiscovery
from lrd.entities import TextItemEmbedding
from tests.common.models import toy
from tests.lrd.texts import VECTORS, catalogue


def made(reader: str) -> TextItemEmbedding | LatentRelationDiscovery:
    """What reads text vectors, made for those of the toy world and, in case of items, for five attribute values."""
    if reader == "items":
        return TextItemEmbedding(toy.NUM_ITEMS, 8, 5, num_entities=toy.NUM_ITEMS + 6)
    discovery = LatentRelationDiscovery()
    discovery.build(toy.NUM_ITEMS, 5, 8, 3)
    return discovery


def test_vectors_are_learnt_part_plus_projected_text() -> None:
    items = TextItemEmbedding(toy.NUM_ITEMS, 4, 5, num_entities=toy.NUM_ITEMS + 4)
    items.attach(catalogue())
    expected = items.weight[7] + items.project.weight @ VECTORS[7]
    torch.testing.assert_close(items(torch.tensor([7]))[0], expected)
    assert not items(torch.tensor([0])).any()
    assert torch.equal(items(torch.tensor([toy.NUM_ITEMS + 2]))[0], items.weight[toy.NUM_ITEMS + 2])


@pytest.mark.parametrize("rows", [toy.NUM_ITEMS, toy.NUM_ITEMS + 2])
@pytest.mark.parametrize("reader", ["items", "discovery"])
def test_vectors_of_another_number_of_items_are_refused(rows: int, reader: str) -> None:
    known = toy.catalogue()
    known["text_vectors"] = torch.randn(rows, 5)
    with pytest.raises(UserError, match=rf"\({rows}, 5\); the model was made for \(41, 5\)"):
        made(reader).attach(known)


@pytest.mark.parametrize("reader", ["items", "discovery"])
@pytest.mark.parametrize(
    ("width", "says"), [(None, "no item vectors"), (4, r"\(41, 4\); the model was made for \(41, 5\)")]
)
def test_vectors_that_are_missing_or_of_another_width_are_refused(width: int | None, says: str, reader: str) -> None:
    known = toy.catalogue()
    if width:
        known["text_vectors"] = VECTORS[:, :width]
    with pytest.raises(UserError, match=says):
        made(reader).attach(known)
