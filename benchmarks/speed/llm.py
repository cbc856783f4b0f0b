"""``recbench speed llm``: stage 2 and TALLRec at the size of a published language model, with random weights."""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities import move_data_to_device
from transformers import AutoTokenizer, OPTConfig

from allmrec.baselines.tallrec import TALLRec
from allmrec.choice import ChoiceRanker
from allmrec.data import PromptDataModule
from allmrec.stage2 import ALLMRecStage2
from benchmarks.speed.allmrec import joint_filter
from benchmarks.speed.memory import MemoryAbove
from benchmarks.speed.timing import DEVICE, best, wait
from benchmarks.standins import find_standin
from common.errors import UserError, nearest
from common.types import SequenceBatch

SHAPES: dict[str, dict[str, Any]] = {
    "opt-125m": {"hidden_size": 768, "ffn_dim": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
    "opt-1.3b": {"hidden_size": 2048, "ffn_dim": 8192, "num_hidden_layers": 24, "num_attention_heads": 32},
    "opt-6.7b": {"hidden_size": 4096, "ffn_dim": 16384, "num_hidden_layers": 32, "num_attention_heads": 32},
}
"""S. Zhang et al., "OPT: Open Pre-trained Transformer Language Models", 2022 (https://arxiv.org/abs/2205.01068)."""
VOCABULARY = 50272
PROMPTS, USERS, WARM_UP = 4, 4, 2
OPTIONS: dict[str, Any] = {
    "precision": "bf16",
    "gradient_checkpointing": True,
    "llm_weights": "random",
    "max_title_tokens": 64,
}


def measure_llm(data: Mapping[str, Any], repeats: int, shape: str) -> dict[str, Any]:
    """Speed and memory of stage 2 and of TALLRec, on an accelerator if there is one.

    Weights of the given shape are random and in bf16, which is enough to measure speed; prompts are the data set's, in
    tokens of its stand-in. ``tallrec_training_ratio`` and ``tallrec_inference_ratio`` (likelihood) are TALLRec's time
    divided by that of stage 2 for the same prompts; the paper has 2.53 and 1.71.

    Args:
        data: Arguments of the data module; the data set needs its stand-in.
        repeats: Number of training steps and batches to time.
        shape: A key of :data:`SHAPES`.

    Raises:
        UserError: If there is no such shape.
    """
    if shape not in SHAPES:
        raise UserError(f"There is no shape {shape!r}.", nearest(shape, list(SHAPES)))
    module = PromptDataModule(**data, positions="all", batch_size=PROMPTS, eval_batch_size=USERS)
    figures: dict[str, Any] = {"shape": shape, "device": str(DEVICE)}
    with tempfile.TemporaryDirectory() as folder:
        _write_model(Path(folder), shape, find_standin(module.store))
        for name, make in (("allmrec", _stage2), ("tallrec", _tallrec)):
            # Created on the device: drawing 13 GB of random numbers takes minutes on a processor.
            with DEVICE:
                model = make(module, folder)
            model.attach(module.catalogue)
            figures.setdefault("frozen_parameters", model.llm.num_parameters)
            figures |= {f"{name}_{key}": value for key, value in _measured(model.to(DEVICE), module, repeats).items()}
            # Two models of 13 GB need not fit at once.
            del model
            gc.collect()
    rates = (("training", "steps_per_second"), ("inference", "likelihood_users_per_second"))
    return figures | {f"tallrec_{part}_ratio": figures[f"allmrec_{x}"] / figures[f"tallrec_{x}"] for part, x in rates}


def _write_model(folder: Path, shape: str, standin: Path) -> None:
    """A folder that loads as a language model whose weights are drawn."""
    OPTConfig(
        vocab_size=VOCABULARY, word_embed_proj_dim=SHAPES[shape]["hidden_size"], dtype="bfloat16", **SHAPES[shape]
    ).save_pretrained(folder)
    AutoTokenizer.from_pretrained(standin).save_pretrained(folder)
    (folder / "model.safetensors").touch()


def _stage2(module: PromptDataModule, folder: str) -> ChoiceRanker:
    return ALLMRecStage2(module.num_items, joint_filter(module, Path(folder)), folder, folder, **OPTIONS)


def _tallrec(module: PromptDataModule, folder: str) -> ChoiceRanker:
    return TALLRec(module.num_items, folder, **OPTIONS)


def _measured(model: ChoiceRanker, module: PromptDataModule, repeats: int) -> dict[str, float]:
    """Steps, tokens and users per second, and the memory that training takes above the model."""
    device, batches = model.device, iter(module.train_dataloader())
    case = move_data_to_device(next(iter(module.val_dataloader())), device)
    with MemoryAbove() as memory:
        training = _steps(model, [move_data_to_device(next(batches), device) for _ in range(WARM_UP + repeats)])
    model.eval()
    return {
        **training,
        "training_peak_bytes_above_model": memory.bytes,
        "likelihood_users_per_second": USERS / best(lambda: model.likelihoods(case), repeats),
        "generation_users_per_second": USERS / best(lambda: model.generate(case), repeats),
    }


def _steps(model: ChoiceRanker, batches: list[SequenceBatch]) -> dict[str, float]:
    """Steps and prompt tokens per second, not counting the warm-up batches."""
    optimizer = model.train().configure_optimizers()
    assert optimizer is not None
    tokens, started = 0, 0.0
    for number, batch in enumerate(batches):
        if number == WARM_UP:
            wait()
            started = time.perf_counter()
        optimizer.zero_grad()
        model.loss(batch)["loss"].backward()
        optimizer.step()
        if number >= WARM_UP:
            columns = torch.cat([batch["targets"][:, -1:], batch["negatives"][:, -1]], dim=1)
            tokens += sum(map(len, model.composer(batch["history"], columns).ids))
    wait()
    seconds = time.perf_counter() - started
    steps = len(batches) - WARM_UP
    return {"steps_per_second": steps / seconds, "prompt_tokens_per_second": tokens / seconds}
