"""`recbench generate`: what the language model of a finished stage 2 says of a user."""

from __future__ import annotations

import json as jsonlib
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import torch

from allmrec.genres import favourites, named_genres, precision
from allmrec.stage2 import ALLMRecStage2
from benchmarks.cli import write
from benchmarks.evaluate import load_run
from benchmarks.recommend import numbers_of, whole_history
from common.data.datamodule import SequenceDataModule
from common.data.negatives import seeded
from common.errors import UserError

QUESTION = "In a few words, the kind of thing this person likes best is"
GENRES_QUESTION = "The genres that this person likes best are"
GENRE, NO_GENRE = "genre_", "unknown"
"""Beginning of the items table's columns that say whether an item is of a genre, and the one that is none."""
COUNTED = (1, 2, 3)
"""How many genres are judged."""


def generate(
    run: Path,
    *,
    user: list[str] | None = None,
    prompt: str | None = None,
    genres: bool = False,
    sample: int = 100,
    max_tokens: int = 40,
    root: Path | None = None,
    json: bool = False,
) -> None:
    """Prints free text about users of a finished run, from their vectors and histories.

    A stand-in language model knows little beyond titles, and says little else.

    Args:
        run: Run folder of a stage 2 of A-LLMRec.
        user: Users, by their token in the source; their whole history counts.
        prompt: What the language model shall go on from, behind what it is told of the user.
        genres: Ask for genres, and judge those that are named by the favourites in the user's history.
        sample: With ``--genres``, how many users are asked where none is named; always the same ones.
        max_tokens: Longest text, in tokens.
        root: Folder of the stores, where it is not the run's.
        json: Print JSON instead of lines.
    """
    if max_tokens < 1:
        raise UserError(f"--max-tokens is {max_tokens}", "Give 1 or more.")
    if sample < 1:
        raise UserError(f"--sample is {sample}", "Give 1 or more.")
    if not (user or genres):
        raise UserError("No user is named.", "Give --user USER…, or --genres for a sample of all users.")
    _, module, model = load_run(run, [f"--data.root={root}"] if root else [])
    if not isinstance(model, ALLMRecStage2):
        raise UserError(
            f"{run} is a run of {type(model).__name__}, which writes no text.", "Name a run of stage 2 of A-LLMRec."
        )
    tokens = module.store.user_tokens()
    numbers = numbers_of(user, tokens, "user") if user else drawn(module.num_users, sample)
    kinds = genres_of(module) if genres else []
    module.predict_users = numbers
    asked = prompt or (GENRES_QUESTION if genres else QUESTION)
    texts = [text for batch in module.predict_dataloader() for text in model.write(batch, asked, max_tokens)]
    names = [tokens[number - 1] for number in numbers]
    if genres:
        histories = [[kinds[item] for item in whole_history(module, number)] for number in numbers]
        report = judged(
            dict(zip(names, texts, strict=True)), histories, sorted({kind for row in kinds for kind in row})
        )
        write(jsonlib.dumps(report, indent=2, ensure_ascii=False) if json else "\n".join(_lines(report)))
        return
    answers = dict(zip(names, texts, strict=True))
    lines = [f"{name}: {text}" for name, text in answers.items()]
    write(jsonlib.dumps(answers, indent=2, ensure_ascii=False) if json else "\n".join(lines))


def drawn(num_users: int, count: int) -> list[int]:
    """A stored draw of users, sorted; all where there are no more."""
    return sorted((1 + torch.randperm(num_users, generator=seeded(0))[:count]).tolist())


def genres_of(module: SequenceDataModule) -> list[frozenset[str]]:
    """Genres of each item; index 0 is padding.

    Raises:
        UserError: If the data set knows none.
    """
    items = module.store.items()
    columns = {name.removeprefix(GENRE).replace("_", " "): items[name] for name in items.columns if name[:6] == GENRE}
    columns.pop(NO_GENRE, None)
    if not columns:
        raise UserError(f"{module.manifest.dataset} knows no genres.", "Name a run on MovieLens.")
    table = pl.DataFrame(columns).select(pl.all() == "1")
    names = table.columns
    return [frozenset(), *(frozenset(n for n, has in zip(names, row, strict=True) if has) for row in table.rows())]


def judged(
    texts: dict[str, str], histories: Sequence[Sequence[frozenset[str]]], genres: Sequence[str]
) -> dict[str, Any]:
    """Texts with the genres that they name and those that their users like, and the means over users.

    Args:
        texts: Text of each user.
        histories: Genres of each item of each user's history.
        genres: All genres.

    Returns:
        ``users``: for each user ``text``, ``named`` and ``favourites``, most frequent first; ``precision`` at 1, 2
        and 3; ``everybody``: the same for a fixed answer, the genres that most histories are full of; ``silent``: the
        share of texts that name no genre.
    """
    named = [named_genres(text, genres) for text in texts.values()]
    common = sorted(genres, key=lambda genre: -sum(genre in item for history in histories for item in history))
    liked = {count: [favourites(history, count) for history in histories] for count in COUNTED}
    answers = {"precision": named, "everybody": [common] * len(named)}
    means = {
        name: {f"@{k}": statistics.fmean(map(precision, given, liked[k], [k] * len(given))) for k in COUNTED}
        for name, given in answers.items()
    }
    rows = {
        user: {"text": text, "named": said, "favourites": sorted(likes)}
        for (user, text), said, likes in zip(texts.items(), named, liked[COUNTED[-1]], strict=True)
    }
    return {"users": rows, **means, "silent": statistics.fmean(not said for said in named)}


def _lines(report: dict[str, Any]) -> list[str]:
    lines = [
        f"{user}: {row['text']}\n    names {', '.join(row['named']) or 'none'}; likes {', '.join(row['favourites'])}"
        for user, row in report["users"].items()
    ]
    for name, label in {"precision": "what it says", "everybody": "everybody's favourites"}.items():
        figures = "  ".join(f"precision{k} {value:.4f}" for k, value in report[name].items())
        lines.append(f"{label}: {figures}")
    return [*lines, f"{len(report['users'])} users, of whose texts {report['silent']:.0%} name no genre"]
