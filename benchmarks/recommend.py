"""``recbench recommend``: the best items for users of a finished run."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import torch

from benchmarks.cli import write
from benchmarks.evaluate import load_run
from common.data.datamodule import SequenceDataModule
from common.errors import UserError, nearest
from common.models.base import Recommender
from common.types import PAD, SequenceBatch, Sequences


def recommend(
    run: Path,
    *,
    user: list[str] | None = None,
    history: str | None = None,
    k: int = 10,
    root: Path | None = None,
    json: bool = False,
) -> None:
    """Prints the best items for users of a finished run, without those that they already have.

    Models that read the time of the query are given the current time.

    Args:
        run: Run folder.
        user: Users, by their token in the source; their whole history counts.
        history: A history instead of users: item tokens, oldest first, separated by commas.
        k: How many items.
        root: Folder of the stores, if it is not the run's own.
        json: Print JSON instead of lines.
    """
    if bool(user) == (history is not None):
        raise UserError("Name either users or a history.", "Give --user USER… or --history ITEM,ITEM,….")
    module, model = load_run(run, root)
    if not model.ranks_catalogue:
        raise UserError(
            f"{run} is a run of {type(model).__name__}, which ranks only the candidates in its prompt.",
            "Name a run of a method that ranks the whole catalogue.",
        )
    items = module.store.items()
    if history is not None:
        if "user_id" in model.information_set:
            raise UserError(
                f"{type(model).__name__} knows users by their id and cannot rank for a bare history.", "Give --user."
            )
        tokens = [token.strip() for token in history.split(",") if token.strip()]
        if not tokens:
            raise UserError("--history names no item.", "Give --history ITEM,ITEM,….")
        past = numbers_of(tokens, items["item"].to_list(), "item")
        histories = {"history": History(PAD, past, [module.now] * len(past))}
    else:
        names = user or []
        ids = numbers_of(names, module.store.user_tokens(), "user")
        events = module.histories
        histories = {name: whole_history(events, number) for name, number in zip(names, ids, strict=True)}
    answers = {name: best_items(model, module, known, k, items) for name, known in histories.items()}
    write(jsonlib.dumps(answers, indent=2, ensure_ascii=False) if json else "\n\n".join(map(_lines, answers.items())))


class History(NamedTuple):
    """Events of a user, or of nobody that the data know (padding), oldest first."""

    user: int
    items: list[int]
    times: list[int]


def best_items(
    model: Recommender, module: SequenceDataModule, past: History, k: int, items: pl.DataFrame
) -> list[dict[str, Any]]:
    """The ``k`` best items outside a history, best first, with token, title and score.

    Raises:
        UserError: If fewer than ``k`` items are left, or a score is NaN or infinite.
    """
    left = module.num_items - len(set(past.items))
    if not 1 <= k <= left:
        raise UserError(f"--k {k} is not possible: {left} items are left.", f"Give a number from 1 to {left}.")
    width = module.max_history
    padding = [PAD] * (width - len(past.items))
    batch: SequenceBatch = {
        "user_id": torch.tensor([past.user]),
        "history": torch.tensor([padding + past.items[-width:]]),
        "history_time": torch.tensor([padding + past.times[-width:]]),
        "target_time": torch.tensor([module.now]),
        "seen": torch.tensor([past.items]),
        "protocol": "full",
    }
    with torch.inference_mode():
        best = model.recommend(batch, k)
    return [
        {"item": items["item"][number - 1], "title": items["title"][number - 1], "score": value}
        for number, value in zip(best["items"][0].tolist(), best["scores"][0].tolist(), strict=True)
    ]


def whole_history(sequences: Sequences, user: int) -> History:
    """All events of a user, including held-out ones."""
    start, end = sequences["offsets"][user : user + 2].tolist()
    return History(user, sequences["items"][start:end].tolist(), sequences["times"][start:end].tolist())


def numbers_of(tokens: Sequence[str], known: Sequence[str], kind: str) -> list[int]:
    """Ids of users or items, given their tokens in the source.

    Raises:
        UserError: If the data set has no such user or item.
    """
    ids = {token: number for number, token in enumerate(known, start=1)}
    for token in tokens:
        if token not in ids:
            cure = nearest(token, known) if len(known) < 100_000 else "Check its spelling."
            short = cure if cure.startswith("Did you mean") else f"It has {len(known):,}, for example {known[0]!r}."
            raise UserError(f"The data set has no {kind} {token!r}.", short)
    return [ids[token] for token in tokens]


def _lines(answer: tuple[str, list[dict[str, Any]]]) -> str:
    name, best = answer
    # A title of one's own data may have line breaks.
    rows = ((row["score"], row["item"], " ".join(row["title"].split())) for row in best)
    lines = [f"{rank:>3}  {score:>10.4f}  {item:<12}  {title}" for rank, (score, item, title) in enumerate(rows, 1)]
    return "\n".join([f"{name}:", *lines])
