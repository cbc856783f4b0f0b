"""Stand-in language models of the prepared data sets: where they are, and how they are trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from allmrec.prompts import Domain
from allmrec.standin.settings import LONG_TITLES, SMALL, StandInSettings, find_built, standin_name
from common.data.store import Store
from common.errors import UserError

STANDIN = "standin"
"""Value of a model's language-model argument that means the stand-in of its data set."""
FOLDER = "standins"
"""Folder of all stand-ins, next to the stores."""
DOMAINS: dict[str, Domain] = {
    "ml-": "movies",
    "amazon-movies": "movies",
    "amazon-games": "games",
    "amazon-beauty": "beauty",
    "amazon-luxury-beauty": "beauty",
    "amazon-toys": "toys",
}
"""Vocabulary of the prompts, by the beginning of a data set's key; ``general`` for all others."""


def find_standin(store: Store) -> Path:
    """Folder of a data set's stand-in.

    Raises:
        UserError: If it has not been built.
    """
    titles, texts = _words(store)
    folder = find_built(_root(store), standin_name(titles, texts, *_recipe(store)))
    if folder is None:
        dataset = store.manifest.dataset
        which = f"{dataset} --recipe {store.manifest.recipe} --root {store.path.parents[1]}"
        raise UserError(
            f"The stand-in language model of {dataset} has not been built.",
            f"Build it with `recbench prepare {which} --standin-llm`, or give a language model: --model.llm "
            "facebook/opt-6.7b.",
        )
    return folder


def make_standin(store: Store, show: Callable[[str], None] = lambda text: None) -> Path:
    """Builds a data set's stand-in from titles and texts, or finds it; ``show`` is called with each step."""
    from allmrec.standin.build import build_standin

    titles, texts = _words(store)
    return build_standin(titles, texts, _root(store), *_recipe(store), show)


def domain_of(dataset: str) -> Domain:
    """Vocabulary of the prompts about a data set."""
    return next((name for begin, name in DOMAINS.items() if dataset.startswith(begin)), "general")


def _words(store: Store) -> tuple[list[str], list[str]]:
    """Title and text of each item; index 0 is padding."""
    items = store.items()
    return ["", *items["title"].to_list()], ["", *items["text"].to_list()]


def _recipe(store: Store) -> tuple[Domain, StandInSettings]:
    """Domain of the prompts, and the size and training recipe that suit the catalogue."""
    key = store.manifest.dataset
    long = LONG_TITLES if key.startswith("amazon-") else StandInSettings()
    return domain_of(key), SMALL if key == "synthetic" else long


def _root(store: Store) -> Path:
    return store.path.parents[1] / FOLDER
