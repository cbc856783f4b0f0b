"""`recbench generate`: what the language model of a finished run says of a user."""

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
from common.data.negatives import seeded
from common.errors import UserError

QUESTION = "In a few words, the kind of thing this person likes best is"
GENRES_QUESTION = "The genres that this person likes best are"
CATEGORIES_QUESTION = "The categories that this person likes best are"
GENRE, NO_GENRE = "genre_", "unknown"
"""Beginning of the items table's columns that say whether an item is of a genre, and the one that is none."""
CATEGORY = "category"
COUNTED = (1, 2, 3)
"""How many genres are judged."""
ANSWERS = {"precision": "what it says", "everybody": "everybody's favourites"}
"""What is judged, as a report has it, and what to call it."""


def generate(
    run: Path,
    *,
    user: list[str] | None = None,
    prompt: str | None = None,
    genres: bool = False,
    sample: int = 100,
    max_tokens: int = 40,
    root: Path | None = None,
    out: Path | None = None,
    json: bool = False,
) -> None:
    """Prints free text about users of a finished run, from their histories and, where the method has them, vectors.

    A stand-in language model knows little beyond titles, and says little else.

    Args:
        run: Run folder of A-LLMRec, or of a rival that asks a language model.
        user: Users, by their token in the source; their whole history counts.
        prompt: What the language model shall go on from, behind what it is told of the user.
        genres: Ask for genres, or for categories where the data have no genres, and judge those that are named by the
            favourites in the user's history.
        sample: With ``--genres``, how many users are asked where none is named; always the same ones.
        max_tokens: Longest text, in tokens.
        root: Folder of the stores, where it is not the run's.
        out: Folder that takes what ``--genres`` finds, as JSON and as Markdown, instead of printing it.
        json: Print JSON instead of lines.
    """
    if max_tokens < 1:
        raise UserError(f"--max-tokens is {max_tokens}", "Give 1 or more.")
    if sample < 1:
        raise UserError(f"--sample is {sample}", "Give 1 or more.")
    if not (user or genres):
        raise UserError("No user is named.", "Give --user USER…, or --genres for a sample of all users.")
    if out and not genres:
        raise UserError("--out takes what --genres finds.", "Give --genres, too.")
    _, module, model = load_run(run, [f"--data.root={root}"] if root else [])
    if not isinstance(model, LanguageModelRanker):
        cure = "Name a run of A-LLMRec, MLP-LLM, TALLRec or LLM-Only."
        raise UserError(f"{run} is a run of {type(model).__name__}, which writes no text.", cure)
    tokens = module.store.user_tokens()
    numbers = numbers_of(user, tokens, "user") if user else drawn(module.num_users, sample)
    kinds, about = genres_of(module) if genres else ([], QUESTION)
    module.predict_users = numbers
    asked = prompt or about
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)
    batches = (move_data_to_device(batch, device) for batch in module.predict_dataloader())
    texts = [text for batch in batches for text in model.write(batch, asked, max_tokens)]
    names = [tokens[number - 1] for number in numbers]
    if genres:
        histories = [[kinds[item] for item in whole_history(module, number)] for number in numbers]
        report = judged(
            dict(zip(names, texts, strict=True)), histories, sorted({kind for row in kinds for kind in row})
        )
        if out:
            title = f"What {run.resolve().parent.name} says of users of {module.manifest.dataset}"
            write_atomically(out / "genres.json", jsonlib.dumps(report, indent=2, ensure_ascii=False))
            write_atomically(out / "index.md", page(title, asked, report))
            write(f"{out / 'index.md'}")
            return
        write(jsonlib.dumps(report, indent=2, ensure_ascii=False) if json else "\n".join(_lines(report)))
        return
    answers = dict(zip(names, texts, strict=True))
    lines = [f"{name}: {text}" for name, text in answers.items()]
    write(jsonlib.dumps(answers, indent=2, ensure_ascii=False) if json else "\n".join(lines))


def drawn(num_users: int, count: int) -> list[int]:
    """A stored draw of users, sorted; all where there are no more."""
    return sorted((1 + torch.randperm(num_users, generator=seeded(0))[:count]).tolist())


def genres_of(module: SequenceDataModule) -> tuple[list[frozenset[str]], str]:
    """Genres of each item, index 0 being padding, or its category where there are no genres; and how to ask for them.

    Raises:
        UserError: If the data set knows neither; numbers in place of categories are no words.
    """
    items = module.store.items()
    columns = {name.removeprefix(GENRE).replace("_", " "): items[name] for name in items.columns if name[:6] == GENRE}
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


def page(title: str, asked: str, report: dict[str, Any]) -> str:
    """Markdown: the precision of what is said and of a fixed answer, and all that is said."""
    means = [[label, *(f"{value:.4f}" for value in report[name].values())] for name, label in ANSWERS.items()]
    rows = [
        [user, " ".join(row["text"].replace("|", "/").split()), ", ".join(row["named"]), ", ".join(row["favourites"])]
        for user, row in report["users"].items()
    ]
    count = f"{len(rows)} users, of whose texts {report['silent']:.0%} name no genre. Asked: “{asked} …”"
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
    return [*lines, f"{len(report['users'])} users, of whose texts {report['silent']:.0%} name no genre"]
