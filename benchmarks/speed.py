"""``recbench speed``: measures the hot paths on this machine, as JSON."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.callbacks import EarlyStopping

from benchmarks.callbacks import RunRecord
from benchmarks.cli import write
from benchmarks.environment import hardware, peak_memory
from benchmarks.memory import MemoryAbove
from benchmarks.prepare import prepare
from benchmarks.runs import write_atomically
from benchmarks.speed_allmrec import best, measure_allmrec
from benchmarks.speed_baselines import measure_baselines
from benchmarks.speed_llm import measure_llm
from benchmarks.train import quieten
from common.data.datamodule import SequenceDataModule
from common.data.negatives import NegativeSampler, seeded
from common.models.sasrec import SASRec
from common.types import PAD, SequenceBatch
from lrd.backbones.kda import KDA
from lrd.data import RelationalDataModule
from lrd.discovery import LatentRelationDiscovery
from lrd.module import LRD

Name = Literal["rank", "train", "negatives", "prepare", "lrd", "allmrec", "baselines", "llm"]
DEFAULTS = {
    "rank": "amazon-beauty",
    "train": "ml-100k",
    "negatives": "amazon-beauty",
    "prepare": "amazon-games",
    "lrd": "amazon-office",
    "allmrec": "ml-100k",
    "baselines": "ml-100k",
    "llm": "ml-100k",
}
NEGATIVE_BATCH = 1 << 20


def speed(
    name: Name,
    *,
    dataset: str | None = None,
    root: Path = Path("data"),
    out: Path | None = None,
    source: Path | None = None,
    repeats: int = 3,
    test_users: int | None = None,
    max_epochs: int = 300,
    patience: int = 20,
    users: int | None = None,
    items: int | None = None,
    interactions: int | None = None,
    shape: str = "opt-6.7b",
) -> None:
    """Measures one hot path and prints JSON: the best of several repeats, and the machine.

    Args:
        name: `rank` (full-ranking test of SASRec), `train` (SASRec: target positions per second, seconds to the best
            validation), `negatives` (samples per second that avoid the user's training items), `prepare`, `lrd` (KDA
            with 8 latent relations in its authors' settings: an epoch, and scoring 100 candidates per user), `allmrec`
            (on the data set's stand-in: a prompt read once instead of once per candidate, padding, texts encoded once),
            `baselines` (A-LLMRec's baselines: steps, catalogues, users; TALLRec relative to A-LLMRec) or `llm` (stage 2
            with random weights of a published size: steps, tokens, users, memory).
        dataset: Data set, as ``KEY`` or ``KEY/RECIPE``; a default for each ``name``.
        root: Folder of the stores; `prepare` writes to a temporary one.
        out: Folder to which the JSON is also written.
        source: Local source of `prepare`.
        repeats: How often to measure; `train` trains once.
        test_users: Number of users that `rank` tests; all when omitted.
        max_epochs: Maximum number of epochs of `train`.
        patience: Epochs that `train` continues without a better validation.
        users: Users of the world that `prepare` makes (`synthetic` only).
        items: Items of that world.
        interactions: Events of that world.
        shape: Size of `llm`: `opt-125m`, `opt-1.3b` or `opt-6.7b`.
    """
    quieten()
    sizes = {"users": users, "items": items, "interactions": interactions}
    world: dict[str, Any] = {size: value for size, value in sizes.items() if value is not None}
    key, _, recipe = (dataset or DEFAULTS[name]).partition("/")
    named = {"recipe": recipe} if recipe else {}
    data = {"dataset": key, "root": str(root), **named}
    measures: dict[str, Callable[[], dict[str, Any]]] = {
        "rank": lambda: measure_rank(data, repeats, test_users),
        "train": lambda: measure_train(data, max_epochs, patience),
        "negatives": lambda: measure_negatives(data, repeats),
        "prepare": lambda: measure_prepare(key, source, repeats, named | world),
        "lrd": lambda: measure_lrd(data, repeats, test_users),
        "allmrec": lambda: measure_allmrec(data, repeats),
        "baselines": lambda: measure_baselines(data, repeats),
        "llm": lambda: measure_llm(data, repeats, shape),
    }
    figures, hardware_now = measures[name](), machine()
    # Makes times of different machines comparable: the work that a matrix product could do in the same time.
    work = {
        figure.replace("seconds", "seconds_times_gflops"): value * hardware_now["matmul_gflops"]
        for figure, value in figures.items()
        if figure.endswith("_seconds") and isinstance(value, float)
    }
    text = json.dumps({"name": name, "dataset": key} | named | figures | work | {"machine": hardware_now}, indent=2)
    if out:
        write_atomically(out / "speed.json", text + "\n")
    write(text)


def measure_rank(data: Mapping[str, Any], repeats: int, test_users: int | None) -> dict[str, Any]:
    """Seconds of a full-ranking test with the Trainer of a run, and peak memory above model and data."""
    module = SequenceDataModule(**data, test_users=test_users)
    model = _sasrec(module)
    trainer = _trainer([])
    seconds, above = [], []
    for _ in range(repeats):
        with MemoryAbove() as memory:
            started = time.perf_counter()
            trainer.test(model, module, verbose=False)
            seconds.append(time.perf_counter() - started)
        above.append(memory.bytes)
    users = len(model.case_ranks["full"].table()["case_id"])
    return {
        "users": users,
        "items": module.num_items,
        "seconds": min(seconds),
        "users_per_second": users / min(seconds),
        "peak_bytes_above_model": max(above),
        "all_seconds": seconds,
    }


def measure_train(data: Mapping[str, Any], max_epochs: int, patience: int) -> dict[str, Any]:
    """Target positions per second of pure training, and seconds to the best validation, including validations."""
    L.seed_everything(0, verbose=False)
    module = SequenceDataModule(**data)
    model = _sasrec(module)
    clock, record = PositionClock(), RunRecord("val/ndcg@10", "max", {})
    stop = EarlyStopping("val/ndcg@10", mode="max", patience=patience)
    trainer = _trainer([clock, record, stop], max_epochs=max_epochs)
    trainer.fit(model, module)
    rates = [positions / seconds for positions, seconds in clock.epochs[1:]] or [0.0]
    return {
        "positions_per_second": sum(p for p, _ in clock.epochs) / sum(s for _, s in clock.epochs),
        "best_epoch_positions_per_second": max(rates),
        "epochs": trainer.current_epoch,
        "seconds": record.train_seconds,
        "seconds_to_best": record.seconds_to_best,
        "best_epoch": record.best_epoch,
        "best_val_ndcg@10": record.best,
    }


def measure_lrd(data: Mapping[str, Any], repeats: int, test_users: int | None) -> dict[str, Any]:
    """Seconds of a training epoch and of a sampled-99 test of KDA_LRD in its released settings, and peak memory.

    The first epoch and the first test include one-time costs, and are ignored if there are more. ``peak_bytes`` is the
    peak memory of the process so far, ``peak_bytes_above_model`` what training and tests add to it.
    """
    L.seed_everything(0, verbose=False)
    protocol = "sampled-99"
    module = RelationalDataModule(
        **data,
        max_history=20,
        batch_size=256,
        negatives="complete",
        val_protocol=protocol,
        test_protocols=[protocol],
        test_users=test_users,
    )
    model = LRD(
        module.num_users,
        module.num_items,
        module.num_entities,
        module.num_relations,
        module.text_width,
        backbone=KDA(spectrum="random"),
        discovery=LatentRelationDiscovery(8, "released", skip_virtual=True),
        lr=1e-3,
    )
    model.attach(module.catalogue)
    clock, record = PositionClock(), RunRecord("val/ndcg@5", "max", {})
    trainer = _trainer([clock, record], max_epochs=repeats + 1, limit_val_batches=0)
    tests = []
    with MemoryAbove() as memory:
        trainer.fit(model, module)
        for _ in range(repeats):
            trainer.test(model, module, verbose=False)
            tests.append(record.test_seconds)
    epochs = [seconds for _, seconds in clock.epochs]
    return {
        "epoch_seconds": min(epochs[1:]),
        "score_seconds": min(tests),
        "users": len(model.case_ranks[protocol].table()["case_id"]),
        "peak_bytes_above_model": memory.bytes,
        "peak_bytes": peak_memory()["host"],
        "all_epochs": epochs,
        "all_tests": tests,
    }


def measure_negatives(data: Mapping[str, Any], repeats: int) -> dict[str, Any]:
    """Negatives per second for users of random training events, sorted as in a batch of whole users and unsorted."""
    module = SequenceDataModule(**data)
    sampler = NegativeSampler("train", module.events, module.num_items)
    generator = seeded(0)
    train = module.catalogue["train"]
    owner = torch.repeat_interleave(torch.arange(len(train["offsets"]) - 1), train["offsets"].diff())
    users = owner[torch.randint(len(owner), (NEGATIVE_BATCH,), generator=generator)]
    in_order = users.sort().values
    return {
        "samples": NEGATIVE_BATCH,
        "samples_per_second": NEGATIVE_BATCH / best(lambda: sampler.draw(in_order, 1, generator), repeats),
        "samples_per_second_random_users": NEGATIVE_BATCH / best(lambda: sampler.draw(users, 1, generator), repeats),
    }


def measure_prepare(dataset: str, source: Path | None, repeats: int, world: dict[str, Any]) -> dict[str, Any]:
    """Seconds to make a store from a source or from the sizes of a world, and peak memory above the start."""

    def make() -> None:
        with tempfile.TemporaryDirectory() as folder, redirect_stdout(StringIO()):
            prepare(dataset, source=source, root=Path(folder), json=True, **world)

    with MemoryAbove() as memory:
        seconds = best(make, repeats)
    return {**world, "seconds": seconds, "peak_bytes": memory.bytes}


def machine() -> dict[str, Any]:
    """Hardware and the rate of a 4096³ matrix product in fp32."""
    left, right = torch.rand(4096, 4096), torch.rand(4096, 4096)
    seconds = best(lambda: left @ right, 3)
    return hardware() | {"threads": torch.get_num_threads(), "matmul_gflops": 2 * 4096**3 / seconds / 1e9}


class PositionClock(L.Callback):
    """Counts the trained positions and the seconds of each epoch, without its validation."""

    def __init__(self) -> None:
        self.epochs: list[tuple[int, float]] = []

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Starts counting."""
        self.positions, self.started = 0, time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: object, batch: SequenceBatch, batch_idx: int
    ) -> None:
        """Counts the batch; the epoch ends with its last batch."""
        self.positions += int((batch["targets"] != PAD).sum())
        if trainer.is_last_batch:
            self.epochs.append((self.positions, time.perf_counter() - self.started))


def _sasrec(module: SequenceDataModule) -> SASRec:
    model = SASRec(module.num_items, max_history=module.max_history, width=64, num_blocks=2)
    model.attach(module.catalogue)
    return model


def _trainer(callbacks: list[L.Callback], max_epochs: int = 1, limit_val_batches: float = 1.0) -> L.Trainer:
    return L.Trainer(
        callbacks=callbacks,
        max_epochs=max_epochs,
        limit_val_batches=limit_val_batches,
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
