import pytest
import torch
from torch import nn

from common.nn.attention import CausalAttention
from common.nn.embedding import ItemEmbedding
from common.nn.initial import Initial, initialise_weights


class Layers(nn.Module):
    def __init__(self, initial: Initial) -> None:
        super().__init__()
        self.items = ItemEmbedding(300, 40)
        self.attention = CausalAttention(40, output_map=True)
        self.feed_forward = nn.Linear(40, 40)
        self.norm = nn.LayerNorm(40)
        initialise_weights(self, initial)


def test_xavier_uniform_bounds_each_map_and_zeroes_biases() -> None:
    layers = Layers("xavier_uniform")
    for weight, fans in [(layers.items.weight, 341), (layers.attention.in_proj.weight, 80)]:
        bound = (6 / fans) ** 0.5
        assert 0.9 * bound < float(weight.detach().abs().max()) <= bound
    assert not layers.attention.in_proj.bias.any()


@pytest.mark.parametrize(("initial", "deviation"), [("xavier_normal", (2 / 160) ** 0.5), ("normal", 0.01)])
def test_deviation_of_normal_starts(initial: Initial, deviation: float) -> None:
    weight = Layers(initial).attention.in_proj.weight
    assert float(weight.detach().std()) == pytest.approx(deviation, rel=0.1)


def test_xavier_normal_zeroes_biases_of_attention_alone() -> None:
    layers = Layers("xavier_normal")
    assert isinstance(layers.attention.out_proj, nn.Linear)
    assert not layers.attention.in_proj.bias.any()
    assert not layers.attention.out_proj.bias.any()
    assert layers.feed_forward.bias.all()


@pytest.mark.parametrize("initial", ["xavier_uniform", "xavier_normal", "normal", "pytorch"])
def test_padding_and_norms_keep_their_start(initial: Initial) -> None:
    layers = Layers(initial)
    assert not layers.items.weight[0].any()
    assert torch.equal(layers.norm.weight, torch.ones(40))
