import pytest
import torch

from common.nn.exact import float64_device


@pytest.mark.parametrize(("device", "place"), [("cpu", "cpu"), ("cuda:1", "cuda:1"), ("mps", "cpu")])
def test_an_apple_gpu_leaves_double_precision_to_the_cpu(device: str, place: str) -> None:
    assert float64_device(torch.device(device)) == torch.device(place)
