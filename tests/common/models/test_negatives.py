"""A loss that compares targets with negatives asks for them."""

import pytest
import torch

from common.errors import UserError
from common.models.negatives import drawn_negatives
from common.types import SequenceBatch


@pytest.mark.parametrize("batch", [{}, {"negatives": torch.empty(2, 3, 0, dtype=torch.long)}])
def test_a_batch_without_negatives_is_refused(batch: SequenceBatch) -> None:
    with pytest.raises(UserError, match=r"--data.num_negatives is 0\.\nGive 1 or more"):
        drawn_negatives(batch)


def test_those_of_the_batch_are_returned() -> None:
    negatives = torch.ones(2, 3, 1, dtype=torch.long)
    assert drawn_negatives({"negatives": negatives}) is negatives
