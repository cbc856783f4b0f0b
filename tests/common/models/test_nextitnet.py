from collections.abc import Iterator
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F

from common.errors import UserError
from common.models.nextitnet import CausalConvolution, NextItNet
from common.types import SequenceBatch
from tests.common.models import toy
from tests.common.models.cases import SequentialCases


class TestNextItNet(SequentialCases):
    model = NextItNet
    arguments = {"width": 16, "dilations": (1, 2)}


class TestNextItNetWithoutFinalReLU(TestNextItNet):
    arguments = {"width": 16, "dilations": (1, 2), "final_relu": False, "objective": "bce"}


class TestNextItNetReleased(TestNextItNet):
    arguments = {"width": 16, "dilations": (1, 2), "padding": "released"}
    exceptions = {"test_more_padding_does_not_change_scores": "released padding flows through the convolutions"}

    def batches(self) -> Iterator[SequenceBatch]:
        return toy.sequence_batches()


@pytest.mark.parametrize("dilation", [1, 4])
@pytest.mark.parametrize("kernel_size", [1, 3])
def test_convolution_equals_a_dilated_one_behind_a_zero_border(dilation: int, kernel_size: int) -> None:
    convolution = CausalConvolution(6, kernel_size, dilation)
    kernel = convolution.linear.weight.view(6, kernel_size, 6).transpose(1, 2)
    histories = [torch.randn(length, 6) for length in (11, 1, 3, 9)]
    expected = [
        F.conv1d(F.pad(one.T, ((kernel_size - 1) * dilation, 0)), kernel, convolution.linear.bias, dilation=dilation).T
        for one in histories
    ]
    earlier = torch.cat([torch.arange(len(one)) for one in histories])
    torch.testing.assert_close(convolution(torch.cat(histories), earlier), torch.cat(expected))


@pytest.mark.parametrize(("dilations", "field"), [((1,), 7), ((1, 2), 19), ((2, 1, 1), 25)])
def test_state_sees_exactly_the_receptive_field(dilations: tuple[int, ...], field: int) -> None:
    model = NextItNet(9, width=6, dilations=dilations, final_relu=False)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    vectors = torch.randn(field + 5, 6, requires_grad=True)
    states = vectors
    for block in model.blocks:
        states = block(states, torch.arange(len(vectors)))
    states[-1].sum().backward()
    assert vectors.grad is not None
    reached = vectors.grad.abs().sum(1).flip(0) > 0
    assert bool(reached[field - 1])
    assert not bool(reached[field:].any())


def test_normalises_channels_not_positions() -> None:
    block = NextItNet(9, width=6, dilations=(1,)).blocks[0]
    vectors, earlier = torch.randn(5, 6), torch.arange(5)
    scaled = vectors.clone()
    scaled[-1] *= 100
    torch.testing.assert_close(block(vectors, earlier)[:-1], block(scaled, earlier)[:-1])


def test_final_relu_leaves_no_negative_state() -> None:
    batch = toy.full_batch()
    for final_relu in (True, False):
        states = NextItNet(toy.NUM_ITEMS, width=8, final_relu=final_relu).encode(batch)
        assert bool((states < 0).any()) is not final_relu


def test_masked_padding_is_no_target_and_released_padding_is() -> None:
    batch = next(toy.sequence_batches())
    real = batch["targets"] != 0
    paddings: tuple[Literal["masked", "released"], ...] = ("masked", "released")
    for padding in paddings:
        model = NextItNet(toy.NUM_ITEMS, width=8, padding=padding)
        logits = model.match_all(model.encode(batch).flatten(0, 1)).view(*real.shape, -1)
        if padding == "masked":
            expected = F.cross_entropy(logits[real][:, 1:], batch["targets"][real] - 1)
        else:
            expected = F.cross_entropy(logits.flatten(0, 1), batch["targets"].flatten())
        torch.testing.assert_close(model.loss(batch)["loss"], expected)


@pytest.mark.parametrize("arguments", [{"kernel_size": 0}, {"dilations": (1, -1)}])
def test_convolutions_without_taps_or_into_the_future_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=next(iter(arguments))):
        NextItNet(9, **arguments)


def test_number_of_parameters() -> None:
    items, width, blocks = 30, 8, 2
    model = NextItNet(items, width=width, dilations=(1, 2))
    block = 2 * (3 * width * width + width) + 2 * 2 * width
    assert sum(p.numel() for p in model.parameters()) == (items + 1) * (2 * width + 1) + blocks * block
