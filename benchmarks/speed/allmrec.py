"""``recbench speed allmrec``: shared prompts, padding, and texts that are encoded once."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor

from allmrec.collaborative import JOINT, CollaborativeFilter, JointVectors
from allmrec.data import PromptDataModule
from allmrec.decoding import Likelihoods
from allmrec.llm import labelled, precise
from allmrec.stage1 import ALLMRecStage1
from allmrec.stage2 import ALLMRecStage2
from allmrec.tokens import padding_share
from benchmarks.speed.timing import DEVICE, best
from benchmarks.standins import find_standin
from common.data.datamodule import SequenceDataModule
from common.models.sasrec import SASRec
from common.types import PAD, SequenceBatch

LATENT = 128
USERS = 16
PADDED_BATCHES = 100


def measure_allmrec(data: Mapping[str, Any], repeats: int) -> dict[str, Any]:
    """Times of scoring in stage 2 and of encoding texts in stage 1, with an untrained filter and joint vectors.

    Args:
        data: Arguments of the data module; the data set needs its stand-in.
        repeats: How often to measure; the best counts.
    """
    module = PromptDataModule(**data, positions="all", batch_size=16, eval_batch_size=USERS)
    with tempfile.TemporaryDirectory() as folder:
        model = stage2(module, Path(folder))
    batch = move_data_to_device(next(iter(module.val_dataloader())), DEVICE)
    shared = best(lambda: model.likelihoods(batch), repeats)
    separate = best(lambda: separate_passes(model, batch), repeats)
    return {
        "prompt_tokens": sum(map(len, model.prompts(batch).ids)) / USERS,
        "shared_prefix_seconds": shared,
        "separate_passes_seconds": separate,
        "shared_prefix_speedup": separate / shared,
        "likelihood_users_per_second": USERS / shared,
        "generation_users_per_second": USERS / best(lambda: model.generate(batch), repeats),
        "training_padding_share": padding(model, module),
        **stage1_texts(data, repeats),
    }


def stage2(module: PromptDataModule, folder: Path) -> ALLMRecStage2:
    """Stage 2 on the data set's stand-in, over untrained vectors."""
    standin = str(find_standin(module.store))
    model = ALLMRecStage2(module.num_items, joint_filter(module, folder), str(folder), standin, max_title_tokens=24)
    model.attach(module.catalogue)
    module.sizes = model.composer.sizes()
    return model.to(DEVICE).eval()


@torch.no_grad()
def separate_passes(model: ALLMRecStage2, batch: SequenceBatch) -> Likelihoods:
    """The result of :meth:`ALLMRecStage2.likelihoods`, computed with a separate pass for every candidate."""
    prompts = model.prompts(batch)
    soft = model.soft(batch, prompts)
    totals, counts = [], []
    for column in batch["candidates"].T.tolist():
        answers = [model.composer.answers[item] for item in column]
        tokens, labels = labelled(prompts.ids, answers, model.llm.device)
        keep = max(map(len, answers)) + 1
        logits = model.llm.logits(model.llm.embed(tokens, soft), tokens.real, keep)[:, :-1]
        wanted = labels[:, 1 - keep :]
        terms = precise(logits).log_softmax(-1).gather(2, wanted.clamp(min=0)[..., None])[..., 0]
        totals.append(terms.masked_fill(wanted < 0, 0).sum(1))
        counts.append((wanted >= 0).sum(1))
    return Likelihoods(torch.stack(totals, 1), torch.stack(counts, 1))


def padding(model: ALLMRecStage2, module: PromptDataModule) -> float:
    """Share of padding among the prompts' tokens of training batches."""
    lengths: list[Tensor] = []
    for number, batch in enumerate(module.train_dataloader()):
        columns = torch.cat([batch["targets"], batch["negatives"][:, -1]], dim=1)
        lengths.append(torch.tensor([len(row) for row in model.composer(batch["history"], columns).ids]))
        if number + 1 == PADDED_BATCHES:
            break
    return padding_share(lengths)


def stage1_texts(data: Mapping[str, Any], repeats: int) -> dict[str, float]:
    """Seconds of a training step on the sequences of 32 users, encoding each text once, and at every occurrence."""
    module = SequenceDataModule(**data, batch_size=32)
    model = ALLMRecStage1(module.num_items, filter_of(module), "minilm", positions="all")
    model.attach(module.catalogue)
    model.to(DEVICE)
    batch = move_data_to_device(next(iter(module.train_dataloader())), DEVICE)
    items = batch["targets"][batch["targets"] != PAD]

    def step() -> None:
        model.loss(batch)["loss"].backward()

    once = best(step, repeats)
    encode = model.tower._encode
    # Numbers every occurrence separately, so that no text is recognised as known.
    model.tower.ids = [model.tower.ids[item] for item in items.tolist()]
    model.tower.forward = lambda items: encode(torch.arange(len(items), device=DEVICE))  # type: ignore[method-assign]  # a stub for timing
    anew = best(step, repeats)
    return {
        "stage1_items": len(items),
        "stage1_distinct_items": len(items.unique()),
        "stage1_step_seconds": once,
        "stage1_step_anew_seconds": anew,
        "stage1_speedup": anew / once,
    }


def joint_filter(module: SequenceDataModule, folder: Path) -> SASRec:
    """An untrained collaborative filter, whose joint vectors in ``folder`` are random."""
    collaborative = filter_of(module)
    generator = torch.Generator().manual_seed(0)
    e, q = torch.randn(2, module.num_items + 1, LATENT, generator=generator, device="cpu")
    JointVectors(e, q, "random", CollaborativeFilter(collaborative).digest).save(folder / JOINT)
    return collaborative


def filter_of(module: SequenceDataModule) -> SASRec:
    """An untrained collaborative filter of the paper's size."""
    return SASRec(module.num_items, max_history=module.max_history, width=50, num_blocks=2, variant="allmrec")
