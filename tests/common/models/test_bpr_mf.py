import math
from collections.abc import Iterator

import pytest
import torch

from common.models.bpr_mf import BPRMF
from common.types import SequenceBatch
from tests.common.models import toy
from tests.common.models.cases import SequentialCases


class TestBPRMF(SequentialCases):
    model = BPRMF
    arguments = {"num_users": toy.NUM_USERS, "width": 16}

    def batches(self) -> Iterator[SequenceBatch]:
        return toy.prefix_batches(min_history=0)


class TestBPRMFWithBias(TestBPRMF):
    arguments = {"num_users": toy.NUM_USERS, "width": 16, "use_bias": True}


def _batch() -> SequenceBatch:
    return {
        "user_id": torch.tensor([3]),
        "history": torch.zeros(1, 2, dtype=torch.long),
        "targets": torch.tensor([[5]]),
        "negatives": torch.tensor([[[7]]]),
    }


def test_loss_starts_at_ln_two() -> None:
    model = BPRMF(toy.NUM_ITEMS, toy.NUM_USERS)
    loss = model.loss(next(toy.prefix_batches()))["loss"].detach()
    assert float(loss) == pytest.approx(math.log(2), abs=1e-3)


def test_gradients_are_those_of_the_paper() -> None:
    model = BPRMF(toy.NUM_ITEMS, toy.NUM_USERS)
    with torch.no_grad():
        model.user_embedding.weight.normal_()
    model.loss(_batch())["loss"].backward()
    p, q = model.user_embedding.weight.detach()[3], model.item_embedding.weight.detach()
    expected = -torch.sigmoid(-(p @ (q[5] - q[7]))) * p
    grad = model.item_embedding.weight.grad
    assert grad is not None
    torch.testing.assert_close(grad[5], expected)
    torch.testing.assert_close(grad[7], -expected)


def test_unknown_and_untrained_users_have_the_mean_vector() -> None:
    model = BPRMF(toy.NUM_ITEMS, toy.NUM_USERS + 1)
    catalogue = toy.catalogue()
    offsets = catalogue["train"]["offsets"]
    catalogue["train"]["offsets"] = torch.cat([offsets, offsets[-1:]])
    model.attach(catalogue)
    model.eval()
    batch = _batch() | {"user_id": torch.tensor([0])}
    mean = model.user_embedding.weight[1 : toy.NUM_USERS + 1].mean(0)
    torch.testing.assert_close(model.encode(batch)[0, 0], mean)
    torch.testing.assert_close(model.encode(batch | {"user_id": torch.tensor([21])})[0, 0], mean)
