"""Figures of `recbench speed` about methods with a language model inside, on the smallest of models."""

from pathlib import Path
from typing import Any

import pytest
from transformers import OPTConfig, OPTForCausalLM

from benchmarks.speed.allmrec import measure_allmrec
from benchmarks.speed.baselines import measure_baselines
from benchmarks.speed.llm import SHAPES, VOCABULARY, measure_llm
from common.errors import UserError
from tests.allmrec.baselines.sentence_model import build


@pytest.fixture(autouse=True)
def sentence_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The smallest there can be in place of MiniLM."""
    tiny = build(tmp_path, ["title"])
    monkeypatch.setattr("allmrec.sentences.minilm", lambda: tiny)


def data_of(root: Path) -> dict[str, str]:
    return {"dataset": "synthetic", "root": str(root)}


def test_rivals_on_a_language_model_are_timed_beside_it(
    root: Path, standin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.speed.baselines.text_methods", lambda *_: {})
    figures = measure_baselines(data_of(root), 1)
    rivals = {
        f"{name}_{kind}" for name in ("allmrec", "mlp_llm", "tallrec") for kind in ("step_seconds", "users_per_second")
    }
    assert set(figures) == rivals | {"tallrec_training_ratio", "tallrec_inference_ratio"}
    assert all(value > 0 for value in figures.values())


def test_shared_prompts_and_shared_texts_are_timed_beside_their_rivals(root: Path, standin: Path) -> None:
    figures = measure_allmrec(data_of(root), 1)
    assert all(value > 0 for name, value in figures.items() if name != "training_padding_share")
    assert 0 <= figures["training_padding_share"] < 0.5
    assert figures["stage1_distinct_items"] < figures["stage1_items"]
    assert figures["stage1_speedup"] == figures["stage1_step_anew_seconds"] / figures["stage1_step_seconds"]


def test_stage_2_and_tallrec_of_a_published_shape_are_timed(
    root: Path, standin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny: dict[str, Any] = {"hidden_size": 16, "ffn_dim": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    monkeypatch.setitem(SHAPES, "opt-125m", tiny)
    figures = measure_llm(data_of(root), 1, "opt-125m")
    assert figures["frozen_parameters"] == OPTForCausalLM(OPTConfig(vocab_size=VOCABULARY, **tiny)).num_parameters()
    rates = [value for name, value in figures.items() if name.endswith("per_second")]
    assert len(rates) == 8
    assert all(rate > 0 for rate in rates)
    steps = figures["allmrec_steps_per_second"] / figures["tallrec_steps_per_second"]
    assert figures["tallrec_training_ratio"] == steps
    with pytest.raises(UserError, match="no shape"):
        measure_llm(data_of(root), 1, "opt-6.7")
