"""``recbench speed``: measures the hot paths on this machine, as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

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


class Measurement(NamedTuple):
    """One thing that can be measured."""

    dataset: str
    """Data set when none is named."""
    reads: dict[str, Any]
    """What it reads besides the options of all, and the values of what is omitted."""
    measure: Callable[..., dict[str, Any]]
    """Receives the arguments of the data, and what it reads."""


REPEATS: dict[str, Any] = {"repeats": 3}
ALL_USERS: dict[str, Any] = {"test_users": None}
WORLD: dict[str, Any] = {"source": None, "users": None, "items": None, "interactions": None}
MEASUREMENTS: dict[Name, Measurement] = {
    "rank": Measurement("amazon-beauty", REPEATS | ALL_USERS, measure_rank),
    "train": Measurement("ml-100k", {"max_epochs": 300, "patience": 20}, measure_train),
    "negatives": Measurement("amazon-beauty", REPEATS, measure_negatives),
    "prepare": Measurement("amazon-games", REPEATS | WORLD, measure_prepare),
    "lrd": Measurement("amazon-office", REPEATS | ALL_USERS, measure_lrd),
    "allmrec": Measurement("ml-100k", REPEATS, measure_allmrec),
    "baselines": Measurement("ml-100k", REPEATS, measure_baselines),
    "llm": Measurement("ml-100k", REPEATS | {"shape": "opt-6.7b"}, measure_llm),
}


def speed(
    name: Name,
    *,
    dataset: str | None = None,
    root: Path = Path("data"),
    out: Path | None = None,
    source: Path | None = None,
    repeats: int | None = None,
    test_users: int | None = None,
    max_epochs: int | None = None,
    patience: int | None = None,
    users: int | None = None,
    items: int | None = None,
    interactions: int | None = None,
    shape: str | None = None,
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
        repeats: How often to measure, 3 times when omitted; `train`, which trains once, does not read it.
        test_users: Number of users that `rank` and `lrd` test; all when omitted.
        max_epochs: Maximum number of epochs of `train`; 300 when omitted.
        patience: Epochs that `train` continues without a better validation; 20 when omitted.
        users: Users of the world that `prepare` makes (`synthetic` only).
        items: Items of that world.
        interactions: Events of that world.
        shape: Size of `llm`: `opt-125m`, `opt-1.3b` or `opt-6.7b`, which it is when omitted.
    """
    quieten()
    at_least(1, "", repeats=repeats, test_users=test_users, max_epochs=max_epochs, patience=patience)
    options: dict[str, Any] = {"repeats": repeats, "test_users": test_users, "max_epochs": max_epochs}
    options |= {"patience": patience, "shape": shape, "source": source}
    options |= {"users": users, "items": items, "interactions": interactions}
    given = {option: value for option, value in options.items() if value is not None}
    chosen = MEASUREMENTS[name]
    if unread := given.keys() - chosen.reads.keys():
        told, own = (", ".join(f"--{each.replace('_', '-')}" for each in sorted(of)) for of in (unread, chosen.reads))
        raise UserError(f"`speed {name}` does not read {told}.", f"Leave it out; {name} reads {own}.")
    key, _, recipe = (dataset or chosen.dataset).partition("/")
    named = {"recipe": recipe} if recipe else {}
    figures = chosen.measure({"dataset": key, "root": str(root), **named}, **(chosen.reads | given))
    hardware_now = machine()
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


def machine() -> dict[str, Any]:
    """Hardware, where models were measured, and the rate of a 4096³ matrix product in fp32 there."""
    left, right = torch.rand(2, 4096, 4096, device=DEVICE)
    seconds = best(lambda: left @ right, 3)
    measured = {"threads": torch.get_num_threads(), "device": str(DEVICE)}
    return hardware() | measured | {"matmul_gflops": 2 * 4096**3 / seconds / 1e9}
