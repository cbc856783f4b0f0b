"""Stand-in language models of the prepared data sets: where they are, and how large."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from allmrec.prompts import Domain
from allmrec.standin_recipe import LONG_TITLES, REPORT, SMALL, StandInSettings, standin_name
from common.data.store import Store
from common.errors import UserError

STANDIN = "standin"
"""Name of a data set's stand-in, where a model takes a language model."""
FOLDER = "standins"
"""Folder of all stand-ins, beside the stores."""
DOMAINS: dict[str, Domain] = {
    "ml-": "movies",
    "amazon-movies": "movies",
    "amazon-games": "games",
    "amazon-beauty": "beauty",
    "amazon-luxury-beauty": "beauty",
    "amazon-toys": "toys",
}
"""Whose words prompts use, by the beginning of a data set's key; ``general`` for all others."""


def find_standin(store: Store) -> Path:
    """Folder of the stand-in of a data set.

    Raises:
        UserError: If it was not built.
    """
    titles, texts = _words(store)
    folder = _root(store) / standin_name(titles, texts, *_recipe(store))
    if not (folder / REPORT).is_file():
        dataset = store.manifest.dataset
        raise UserError(
            f"The stand-in language model of {dataset} was not built.",
            f"Build it with `recbench prepare {dataset} --standin-llm --root {store.path.parents[1]}`, or give a "
            "language model: --model.init_args.llm facebook/opt-6.7b.",
        )
    return folder


def make_standin(store: Store, show: Callable[[str], None] = lambda text: None) -> Path:
    """Builds the stand-in of a data set from titles and texts, or finds it; ``show`` is told of each step."""
    from allmrec.standin import build_standin

    titles, texts = _words(store)
    return build_standin(titles, texts, _root(store), *_recipe(store), show)


def domain_of(dataset: str) -> Domain:
    """Whose words prompts about a data set use."""
    return next((name for begin, name in DOMAINS.items() if dataset.startswith(begin)), "general")


def _words(store: Store) -> tuple[list[str], list[str]]:
    """Title and text of each item; index 0 is padding."""
    items = store.items()
    return ["", *items["title"].to_list()], ["", *items["text"].to_list()]


def _recipe(store: Store) -> tuple[Domain, StandInSettings]:
    """Words of the domain, and size and lessons that the catalogue deserves."""
    key = store.manifest.dataset
    long = LONG_TITLES if key.startswith("amazon-") else StandInSettings()
    return domain_of(key), SMALL if key == "synthetic" else long


def _root(store: Store) -> Path:
    return store.path.parents[1] / FOLDER
