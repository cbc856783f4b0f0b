"""Vectors of items that carry their texts, and of attribute values."""

import pytest
import torch

from common.errors import UserError
from lrd.entities import TextItemEmbedding
from tests.common.models import toy
from tests.lrd.texts import VECTORS, catalogue


def test_vectors_are_learnt_part_plus_projected_text() -> None:
    items = TextItemEmbedding(toy.NUM_ITEMS + 3, 4, 5)
    items.attach(catalogue())
    expected = items.weight[7] + items.project.weight @ VECTORS[7]
    torch.testing.assert_close(items(torch.tensor([7]))[0], expected)
    assert not items(torch.tensor([0])).any()
    assert torch.equal(items(torch.tensor([toy.NUM_ITEMS + 2]))[0], items.weight[toy.NUM_ITEMS + 2])


@pytest.mark.parametrize(
    ("width", "says"), [(None, "no item vectors"), (4, r"\(41, 4\); the model was made for \(41, 5\)")]
)
def test_vectors_that_are_missing_or_of_another_width_are_refused(width: int | None, says: str) -> None:
    known = toy.catalogue()
    if width:
        known["text_vectors"] = VECTORS[:, :width]
    with pytest.raises(UserError, match=says):
        TextItemEmbedding(toy.NUM_ITEMS, 8, 5).attach(known)
