"""What a stand-in language model is made with: its size, its lessons, and the name that follows from them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from allmrec.prompts import Domain

REPORT = "standin.json"
"""File of a stand-in's folder that says how it was made; no other language model has one."""
VERSION = 8
"""Raised when a change makes another model of the same settings."""


class Level(NamedTuple):
    """One lesson."""

    candidates: int
    history: int
    noise: float
    """Upper bound of the noise in the user's vector. Only if some vectors are barely similar does the model learn to
    weigh all candidates, so that a weak user vector still gets a training signal."""


LEVELS = (
    Level(2, 0, 0.0),
    Level(3, 0, 0.0),
    Level(5, 2, 0.1),
    Level(8, 4, 0.2),
    Level(12, 7, 0.3),
    Level(20, 10, 0.5),
    Level(20, 10, 2.5),
)


@dataclass(frozen=True)
class StandInSettings:
    """Size and training of a stand-in.

    Args:
        width: Width of token vectors, a multiple of 16.
        layers: Layers, at least 3.
        vocabulary: Tokens of the byte-pair tokenizer.
        context: Tokens that fit into the context.
        steps: Training steps.
        batch_size: Prompts per step.
        text_rows: Texts per step, read as plain text.
        text_tokens: Tokens of a text that are read.
        title_tokens: Tokens of a title that prompts show.
        lr: Highest learning rate of AdamW: reached after a tenth of the steps, and left at half of them.
        passed: Share of whole answers that must be right, over 20 batches, before the next level.
        seed: Seed of all draws.
        levels: Lessons, in their order.
    """

    width: int = 128
    layers: int = 3
    vocabulary: int = 4000
    context: int = 1024
    steps: int = 600
    batch_size: int = 16
    text_rows: int = 4
    text_tokens: int = 48
    title_tokens: int = 24
    lr: float = 2e-3
    passed: float = 0.8
    seed: int = 0
    levels: tuple[Level, ...] = LEVELS


SMALL = StandInSettings(
    vocabulary=2500,
    steps=600,
    batch_size=8,
    text_rows=1,
    passed=0.65,
    levels=(*LEVELS[:3], Level(8, 3, 0.2), Level(12, 5, 0.3), Level(20, 5, 0.5), Level(20, 5, 2.5)),
)
"""A stand-in for the small synthetic world, built in about a minute on two cores."""


LONG_TITLES = StandInSettings(steps=1400, passed=0.5)
"""For catalogues whose titles have so many tokens that seldom all of an answer's are right."""


def standin_name(titles: Sequence[str], texts: Sequence[str], domain: Domain, settings: StandInSettings) -> str:
    """Beginning of the folder's name: a hash of the catalogue, the settings and the version of the pretext."""
    content = json.dumps([recipe(domain, settings), list(titles), list(texts)])
    return f"standin-text-{hashlib.sha256(content.encode()).hexdigest()[:12]}"


def find_built(root: Path, name: str) -> Path | None:
    """The folder of a stand-in, or ``None`` if it has not been built.

    Its name ends with a hash of the weights: arithmetic differs from machine to machine, and what is trained on one
    stand-in is not what is trained on another.

    Args:
        root: Folder of stand-ins.
        name: Result of :func:`standin_name`.
    """
    return next((report.parent for report in sorted(root.glob(f"{name}-*/{REPORT}"))), None)


def recipe(domain: Domain, settings: StandInSettings) -> dict[str, object]:
    """What a stand-in's report says of how it was made."""
    return {"kind": "standin-text", "version": VERSION, "domain": domain, **asdict(settings)}
