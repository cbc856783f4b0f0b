"""``recbench speed baselines``: training steps, catalogue encoding and ranking of A-LLMRec's baselines."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities import move_data_to_device

from allmrec.baselines.ctrl import CTRL
from allmrec.baselines.mlp_llm import MLPLLM
from allmrec.baselines.morec import MoRec
from allmrec.baselines.recformer import RecFormer
from allmrec.baselines.tallrec import TALLRec
from allmrec.choice import ChoiceRanker
from allmrec.data import PromptDataModule
from benchmarks.speed.allmrec import filter_of, stage2
from benchmarks.speed.timing import DEVICE, best
from benchmarks.standins import find_standin
from common.data.datamodule import SequenceDataModule
from common.models.base import Recommender
from common.types import SequenceBatch

USERS = 16
TEXT_USERS = 32
"""Users per step of the methods that encode texts."""


def measure_baselines(data: Mapping[str, Any], repeats: int) -> dict[str, Any]:
    """Seconds of a training step and of encoding the catalogue, and users per second, for each method.

    Models are untrained, with the layers and widths of the shipped configurations, histories of 20 items and 32 users
    per step. RecFormer reads only titles and is measured in fine-tuning; CTRL encodes its sentences again each time.
    The language model is the data set's stand-in. ``tallrec_training_ratio`` and ``tallrec_inference_ratio`` are
    TALLRec's time divided by that of A-LLMRec's stage 2 for the same prompts; the paper has 2.53 and 1.71 with
    OPT-6.7B.

    Args:
        data: Arguments of the data module; the data set needs its stand-in.
        repeats: How often to measure; the best counts.
    """
    figures = text_methods(data, repeats)
    module = PromptDataModule(**data, positions="all", batch_size=USERS, eval_batch_size=USERS)
    standin = str(find_standin(module.store))
    rivals: dict[str, ChoiceRanker] = {
        "mlp_llm": MLPLLM(module.num_items, filter_of(module), standin, max_title_tokens=24),
        "tallrec": TALLRec(module.num_items, standin, max_title_tokens=24),
    }
    train, test = first_batches(module)
    for model in rivals.values():
        model.attach(module.catalogue)
        model.to(DEVICE)
    with tempfile.TemporaryDirectory() as folder:
        rivals["allmrec"] = stage2(module, Path(folder))
    for name, model in rivals.items():
        figures[f"{name}_step_seconds"] = best(step(model, train), repeats)
        figures[f"{name}_users_per_second"] = USERS / best(ranking(model, test), repeats)
    figures["tallrec_training_ratio"] = figures["tallrec_step_seconds"] / figures["allmrec_step_seconds"]
    figures["tallrec_inference_ratio"] = figures["allmrec_users_per_second"] / figures["tallrec_users_per_second"]
    return figures


def text_methods(data: Mapping[str, Any], repeats: int) -> dict[str, float]:
    """Figures of the methods that rank catalogues: a step of 32 users, encoding all items, full ranking after it."""
    figures: dict[str, float] = {}
    module = SequenceDataModule(**data, max_history=20, batch_size=TEXT_USERS, eval_batch_size=TEXT_USERS)
    size = (module.num_items, module.max_history)
    small: dict[str, Any] = {"initial": None, "attributes": ("title",), "max_tokens": 384, "window": 32}
    methods: dict[str, Recommender] = {
        "morec": MoRec(*size, sbert="minilm", trained_layers=1),
        "ctrl": CTRL(*size, sbert="minilm", train_sbert=False, positions=1),
        "recformer": RecFormer(*size, **small, width=64, heads=2),
    }
    train, test = first_batches(module)
    for name, model in methods.items():
        model.attach(module.catalogue)
        model.to(DEVICE)
        if isinstance(model, CTRL):
            model.prepare_alignment()
        model.train().loss(train)
        figures[f"{name}_step_seconds"] = best(step(model, train), repeats)
        model.eval()
        figures[f"{name}_catalogue_seconds"] = best(lambda model=model: _first_ranking(model, test), 1)  # type: ignore[misc]  # mypy infers no lambda defaults
        figures[f"{name}_users_per_second"] = TEXT_USERS / best(ranking(model, test), repeats)
    return figures


def first_batches(module: SequenceDataModule) -> tuple[SequenceBatch, SequenceBatch]:
    """The first batches of training and validation, where models are measured."""
    loaders = module.train_dataloader(), module.val_dataloader()
    train, test = (move_data_to_device(next(iter(loader)), DEVICE) for loader in loaders)
    return train, test


def step(model: Recommender, batch: SequenceBatch) -> Callable[[], None]:
    """A training step without the optimiser, on texts that are read for the first time."""

    def action() -> None:
        if isinstance(model, CTRL) and model.texts is not None:
            model.texts.known.clear()
        model.train().loss(batch)["loss"].backward()

    return action


def ranking(model: Recommender, batch: SequenceBatch) -> Callable[[], None]:
    """Ranks a batch of users, with item vectors already computed."""

    @torch.no_grad()
    def action() -> None:
        model.eval().rank(batch)

    return action


def _first_ranking(model: Recommender, batch: SequenceBatch) -> None:
    """Ranks one user, which computes the item vectors."""
    one: SequenceBatch = {key: value[:1] if isinstance(value, torch.Tensor) else value for key, value in batch.items()}  # type: ignore[assignment]  # a comprehension loses the keys
    ranking(model, one)()
