"""A sentence model split into layers that learn and layers that do not."""

from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor
from transformers import AutoModel, ElectraConfig, PreTrainedConfig, RobertaPreLayerNormConfig

from allmrec.baselines.tower import GivenStates, LayeredTower, split_layers
from common.errors import UserError
from tests.allmrec.baselines.sentence_model import with_map
from tests.allmrec.world import catalogue

CPU = torch.device("cpu")


def build(name: str, trained: int | None, **options: int) -> LayeredTower:
    tower = LayeredTower(name, trained, **options)
    tower.attach(catalogue()["titles"])
    return tower


@pytest.mark.parametrize("family", ["bert", "distilbert"])
@pytest.mark.parametrize("trained", [0, 1, None])
def test_split_model_says_what_the_library_says_before_it_normalises(
    sberts: dict[str, str], family: str, trained: int | None
) -> None:
    tower, titles = build(sberts[family], trained, rows=3), catalogue()["titles"]
    library = SentenceTransformer(sberts[family], device="cpu")
    del library[-1]
    wanted = library.encode(titles[1:], convert_to_tensor=True)
    assert not torch.allclose(wanted.norm(dim=1), torch.ones(len(wanted)), atol=0.1)
    torch.testing.assert_close(tower.all(CPU)[1:], wanted.clone(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_split_model_may_end_in_another_width(sberts: dict[str, str], family: str, tmp_path: Path) -> None:
    name = with_map(sberts[family], 8, tmp_path / "mapped")
    tower = build(name, 1)
    wanted = SentenceTransformer(name, device="cpu").encode(catalogue()["titles"][1:], convert_to_tensor=True)
    assert wanted.size(1) == tower.width == 8
    torch.testing.assert_close(tower.all(CPU)[1:], wanted.clone(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("trained", [0, 1, None])
def test_only_the_last_layers_learn(sbert: str, trained: int | None) -> None:
    names = [name for name, _ in build(sbert, trained).named_parameters()]
    layers = {name.split(".layer.")[1][0] for name in names if ".layer." in name}
    assert layers == {0: set(), 1: {"0"}, None: {"0", "1"}}[trained]
    assert any("word_embeddings" in name for name in names) is (trained is None)


def test_layers_below_are_run_once_for_all(sbert: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tower = build(sbert, 1).train()
    assert tower.lower is not None
    counts: list[int] = []
    tower.lower.module.register_forward_hook(lambda module, given, made: counts.append(len(made.last_hidden_state)))
    for _ in range(3):
        tower(torch.tensor([3, 5, 3])).sum().backward()
    assert sum(counts) == len(catalogue()["titles"])


@pytest.mark.parametrize("trained", [1, None])
def test_gradient_reaches_every_parameter_that_learns(sbert: str, trained: int | None) -> None:
    tower = build(sbert, trained)
    (tower(torch.tensor([3, 5])) ** 2).sum().backward()
    assert all(parameter.grad is not None for parameter in tower.parameters())


def test_texts_are_cut_behind_the_limit(sbert: str) -> None:
    long = LayeredTower(sbert, 1, max_tokens=4)
    long.attach(["", "red wolf sea road city", "red wolf"])
    assert [len(row) for row in long.ids] == [2, 4, 4]


def test_a_limit_beyond_the_models_own_is_the_models_own(sbert: str) -> None:
    own = LayeredTower(sbert, 1).max_tokens
    assert LayeredTower(sbert, 1, max_tokens=own + 1).max_tokens == own


def test_too_many_trained_layers_are_refused(sbert: str) -> None:
    with pytest.raises(UserError, match="2 layers"):
        LayeredTower(sbert, 2)
    with pytest.raises(UserError, match="trained_layers is -1"):
        LayeredTower(sbert, -1)


def test_a_model_without_such_layers_is_refused() -> None:
    with pytest.raises(UserError, match="cannot be split"):
        split_layers(torch.nn.Linear(2, 2), 1, "linear")


def test_given_states_pass_by_name_and_by_place() -> None:
    states: Tensor = torch.ones(1, 2, 3)
    assert GivenStates()(inputs_embeds=states) is states
    assert GivenStates()(None, states, None) is states


@pytest.mark.parametrize("kind", [RobertaPreLayerNormConfig, ElectraConfig])
def test_a_model_that_does_more_than_its_layers_is_refused(kind: type[PreTrainedConfig]) -> None:
    small: dict[str, Any] = {"vocab_size": 20, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    small |= {"num_attention_heads": 2, "embedding_size": 8, "pad_token_id": 1, "initializer_range": 0.3}
    torch.manual_seed(0)
    with pytest.raises(UserError, match="cannot be split"):
        split_layers(AutoModel.from_config(kind(**small)), 1, "more")
