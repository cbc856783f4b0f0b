"""``recbench generate``: what the language model of a finished run writes about users."""

from __future__ import annotations

import json as jsonlib
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import torch
from lightning.fabric.utilities import move_data_to_device

from allmrec.genres import favourites, named_genres, precision
from allmrec.ranker import LanguageModelRanker
from benchmarks.cli import write
from benchmarks.columns import markdown
from benchmarks.evaluate import load_run
from benchmarks.recommend import numbers_of, whole_history
from benchmarks.runs import write_atomically
from common.data.datamodule import SequenceDataModule
from common.data.movielens import genre_flags, genre_name
from common.data.negatives import seeded
from common.errors import UserError, at_least

QUESTION = "In a few words, the kind of thing this person likes best is"
GENRES_QUESTION = "The genres that this person likes best are"
CATEGORIES_QUESTION = "The categories that this person likes best are"
NO_GENRE = "unknown"
"""The name of MovieLens that stands for no genre."""
CATEGORY = "category"
SAMPLE = 100
"""Users that are asked if none is named."""
COUNTED = (1, 2, 3)
"""Cut-offs of the precision of named genres."""
ANSWERS = {"precision": "what it says", "everybody": "everybody's favourites"}
"""Answers that are judged: their key in a report, and their label."""


def generate(
    run: Path,
    *,
    user: list[str] | None = None,
    prompt: str | None = None,
    genres: bool = False,
    sample: int | None = None,
    max_tokens: int = 40,
    root: Path | None = None,
    out: Path | None = None,
    json: bool = False,
) -> None:
    """Prints free text about users of a finished run, from their histories and, if the method has them, their vectors.

    A stand-in language model knows little except titles, and writes accordingly.

    Args:
        run: Run folder of A-LLMRec, or of a baseline that prompts a language model.
        user: Users, by their token in the source; their whole history counts.
        prompt: Text that the language model continues, after the description of the user.
        genres: Ask for genres, or for categories if the data have no genres, and compare those that are named with the
            favourites in the user's history.
        sample: With ``--genres``, how many users to ask if none is named, always the same ones; 100 when omitted.
        max_tokens: Longest text, in tokens.
        root: Folder of the stores, if it is not the run's own.
        out: Folder for the results of ``--genres``, as JSON and Markdown, instead of printing them.
        json: Print JSON instead of lines.
    """
    _require_valid(user, genres, sample, max_tokens, out)
    user = list(dict.fromkeys(user or ()))
    module, model = load_run(run, root)
    if not isinstance(model, LanguageModelRanker):
        cure = "Name a run of A-LLMRec, MLP-LLM, TALLRec or LLM-Only."
        raise UserError(f"{run} is a run of {type(model).__name__}, which writes no text.", cure)
    tokens = module.store.user_tokens()
    ids = numbers_of(user, tokens, "user") if user else drawn(module.num_users, sample or SAMPLE)
    kinds, question = genres_of(module) if genres else ([], QUESTION)
    asked = prompt or question
    texts = texts_about(ids, module, model, asked, max_tokens)
    answers = dict(zip([tokens[number - 1] for number in ids], texts, strict=True))
    if not genres:
        lines = [f"{name}: {text}" for name, text in answers.items()]
        write(jsonlib.dumps(answers, indent=2, ensure_ascii=False) if json else "\n".join(lines))
        return
    events = module.histories
    histories = [[kinds[item] for item in whole_history(events, number).items] for number in ids]
    report = judged(answers, histories, sorted({kind for row in kinds for kind in row}))
    if out:
        title = f"What {run.resolve().parent.name} says about users of {module.manifest.dataset}"
        write_atomically(out / "genres.json", jsonlib.dumps(report, indent=2, ensure_ascii=False))
        write_atomically(out / "index.md", page(title, asked, report))
        write(f"{out / 'index.md'}")
        return
    write(jsonlib.dumps(report, indent=2, ensure_ascii=False) if json else "\n".join(_lines(report)))


def texts_about(
    users: Sequence[int], module: SequenceDataModule, model: LanguageModelRanker, asked: str, max_tokens: int
) -> list[str]:
    """What a model writes about users, on an accelerator if there is one.

    Args:
        users: Ids of the users.
        module: Their data.
        model: The model.
        asked: Text that it continues.
        max_tokens: Longest text, in tokens.
    """
    module.predict_users = list(users)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)
    batches = (move_data_to_device(batch, device) for batch in module.predict_dataloader())
    return [text for batch in batches for text in model.write(batch, asked, max_tokens)]


def _require_valid(user: list[str] | None, genres: bool, sample: int | None, max_tokens: int, out: Path | None) -> None:
    at_least(1, "", max_tokens=max_tokens, sample=sample)
    if not (user or genres):
        raise UserError("No user is named.", "Give --user USER…, or --genres for a sample of all users.")
    if user and sample is not None:
        raise UserError("--sample is for when no user is named.", "Leave it out, or --user.")
    if out and not genres:
        raise UserError("--out is only for the results of --genres.", "Give --genres as well.")


def drawn(num_users: int, count: int) -> list[int]:
    """A fixed random sample of users, sorted; all of them if there are no more."""
    return sorted((1 + torch.randperm(num_users, generator=seeded(0))[:count]).tolist())


def genres_of(module: SequenceDataModule) -> tuple[list[frozenset[str]], str]:
    """Genres of each item (index 0 is padding), or its category if the data have no genres; and how to ask for them.

    Raises:
        UserError: If the data set has neither; categories that are numbers do not count, because they are not words.
    """
    items = module.store.items()
    columns = {genre_name(name): items[name] for name in genre_flags(items)}
    columns.pop(NO_GENRE, None)
    if columns:
        table = pl.DataFrame(columns).select(pl.all() == "1")
        names = table.columns
        rows = (frozenset(n for n, has in zip(names, row, strict=True) if has) for row in table.rows())
        return [frozenset(), *rows], GENRES_QUESTION
    plain = items[CATEGORY].str.to_lowercase().str.replace_all(r"[^a-z0-9]+", " ").str.strip_chars()
    if not plain.str.contains("[a-z]").any():
        raise UserError(f"{module.manifest.dataset} knows no genres.", "Name a run on MovieLens.")
    return [frozenset(), *(frozenset({name} if name else ()) for name in plain)], CATEGORIES_QUESTION


def judged(
    texts: dict[str, str], histories: Sequence[Sequence[frozenset[str]]], genres: Sequence[str]
) -> dict[str, Any]:
    """Compares the genres that texts name with those that their users like.

    Args:
        texts: Text about each user.
        histories: Genres of each item of each user's history.
        genres: All genres.

    Returns:
        ``users``: ``text``, ``named`` and ``favourites`` of each user, most frequent first; ``precision``: the mean
        over users at 1, 2 and 3; ``everybody``: the same for one fixed answer, the genres that are most frequent in all
        histories; ``silent``: the share of texts that name no genre.
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


def page(title: str, asked: str, report: dict[str, Any]) -> str:
    """Markdown with the precision of the texts and of a fixed answer, and all texts."""
    means = [[label, *(f"{value:.4f}" for value in report[name].values())] for name, label in ANSWERS.items()]
    rows = [
        [user, " ".join(row["text"].replace("|", "/").split()), ", ".join(row["named"]), ", ".join(row["favourites"])]
        for user, row in report["users"].items()
    ]
    count = f"{len(rows)} users; {report['silent']:.0%} of their texts name no genre. Asked: “{asked} …”"
    precision = markdown(["precision", *(f"@{k}" for k in COUNTED)], means)
    texts = markdown(["user", "text", "names", "likes"], rows)
    return "\n".join([f"# {title}", "", *precision, "", count, "", *texts, ""])


def _lines(report: dict[str, Any]) -> list[str]:
    lines = [
        f"{user}: {row['text']}\n    names {', '.join(row['named']) or 'none'}; likes {', '.join(row['favourites'])}"
        for user, row in report["users"].items()
    ]
    for name, label in ANSWERS.items():
        figures = "  ".join(f"precision{k} {value:.4f}" for k, value in report[name].items())
        lines.append(f"{label}: {figures}")
    return [*lines, f"{len(report['users'])} users; {report['silent']:.0%} of their texts name no genre"]
