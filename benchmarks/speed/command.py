"""``recbench speed``: measures the hot paths on this machine, as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any, Literal

import torch

from benchmarks.cli import write
from benchmarks.environment import hardware
from benchmarks.runs import write_atomically
from benchmarks.speed.allmrec import measure_allmrec
from benchmarks.speed.baselines import measure_baselines
from benchmarks.speed.data import measure_negatives, measure_prepare
from benchmarks.speed.llm import measure_llm
from benchmarks.speed.timing import DEVICE, best
from benchmarks.speed.training import measure_lrd, measure_rank, measure_train
from benchmarks.train import quieten
from common.errors import UserError, at_least

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
READS = {
    "rank": {"repeats", "test_users"},
    "train": {"max_epochs", "patience"},
    "negatives": {"repeats"},
    "prepare": {"repeats", "source", "users", "items", "interactions"},
    "lrd": {"repeats", "test_users"},
    "allmrec": {"repeats"},
    "baselines": {"repeats"},
    "llm": {"repeats", "shape"},
}
"""What each measurement reads besides the options of all."""


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
        repeats: How often to measure; `train`, which trains once, does not read it.
        test_users: Number of users that `rank` and `lrd` test; all when omitted.
        max_epochs: Maximum number of epochs of `train`.
        patience: Epochs that `train` continues without a better validation.
        users: Users of the world that `prepare` makes (`synthetic` only).
        items: Items of that world.
        interactions: Events of that world.
        shape: Size of `llm`: `opt-125m`, `opt-1.3b` or `opt-6.7b`.
    """
    quieten()
    at_least(1, "", repeats=repeats, test_users=test_users, max_epochs=max_epochs, patience=patience)
    sizes = {"users": users, "items": items, "interactions": interactions}
    others = {"source": source, "repeats": repeats, "test_users": test_users, "shape": shape}
    _refuse_unread(name, sizes | others | {"max_epochs": max_epochs, "patience": patience})
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
        if figure == "seconds" or (figure.endswith("_seconds") and isinstance(value, float))
    }
    text = json.dumps({"name": name, "dataset": key} | named | figures | work | {"machine": hardware_now}, indent=2)
    if out:
        write_atomically(out / "speed.json", text + "\n")
    write(text)


def _refuse_unread(name: Name, values: dict[str, Any]) -> None:
    """Raises a :class:`UserError` for options that would change nothing."""
    usual = signature(speed).parameters
    unread = [
        option for option, value in values.items() if option not in READS[name] and value != usual[option].default
    ]
    if unread:
        options, own = (", ".join(f"--{each.replace('_', '-')}" for each in sorted(of)) for of in (unread, READS[name]))
        raise UserError(f"`speed {name}` does not read {options}.", f"Leave it out; {name} reads {own}.")


def machine() -> dict[str, Any]:
    """Hardware, where models were measured, and the rate of a 4096³ matrix product in fp32 there."""
    left, right = torch.rand(2, 4096, 4096, device=DEVICE)
    seconds = best(lambda: left @ right, 3)
    measured = {"threads": torch.get_num_threads(), "device": str(DEVICE)}
    return hardware() | measured | {"matmul_gflops": 2 * 4096**3 / seconds / 1e9}
