"""``recbench prepare``: turns raw files into a store, in stages that the manifest describes."""

from __future__ import annotations

import hashlib
import json as jsonlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from common.data import synthetic
from common.data.layouts import open_source
from common.data.pipeline import CONSTANTS, build
from common.data.progress import console
from common.data.recipes import DATASETS, DataSet, Recipe, choose_recipe, find_data_set
from common.data.schema import Source
from common.data.store import STORE_VERSION, Store, read_store, write_store
from common.data.stores import outdated
from common.errors import UserError
from common.types import TimeKind

STEPS = ("Filtering", "Sorting", "Linking", "Drawing candidates", "Writing the store")
"""Steps from a source to a store, as shown to the user."""


def prepare(
    dataset: str,
    *,
    source: Path | None = None,
    recipe: str | None = None,
    root: Path = Path("data"),
    seed: int = 0,
    time: TimeKind | None = None,
    users: int | None = None,
    items: int | None = None,
    interactions: int | None = None,
    world_seed: int | None = None,
    rho: float | None = None,
    tau: float | None = None,
    kappa: float | None = None,
    encoder: str | None = None,
    standin_llm: bool = False,
    json: bool = False,
) -> Store:
    """Makes the store of a data set, or finds the one already made from the same source and arguments.

    Args:
        dataset: Key of the data set; `recbench list datasets` shows them. With `source`, your own data may have any
            name.
        source: Folder of local files in any known layout; fetched from the publisher when omitted.
        recipe: Name of the recipe; the data set's default when omitted. For `synthetic`, the name of the world.
        root: Folder of all stores.
        seed: Data seed, which orders events with equal times.
        time: What the times of `source` are: recorded (`real`), made up (`imputed`) or mere positions (`ordinal`).
            When omitted, they are positions if each user's are 0, 1, 2, …, and recorded otherwise.
        users: Number of users (`synthetic` only).
        items: Number of items (`synthetic` only).
        interactions: Number of events (`synthetic` only).
        world_seed: Seed of the world (`synthetic` only).
        rho: Share of choices driven by latent relations (`synthetic` only).
        tau: Share of items whose text reveals those relations (`synthetic` only).
        kappa: Share of relation edges that are observed (`synthetic` only).
        encoder: Text encoder whose item vectors to cache now instead of on first use: `minilm`, `sbert:NAME`, ….
        standin_llm: Also build the stand-in language model, from titles and texts only; takes minutes, once.
        json: Print only the manifest, to standard output.

    Raises:
        UserError: If the data set, the recipe, the source or the folder is wrong.
    """
    world: dict[str, int | float | None] = {
        "users": users,
        "items": items,
        "interactions": interactions,
        "seed": world_seed,
    }
    world |= {"rho": rho, "tau": tau, "kappa": kappa}
    given = {name: value for name, value in world.items() if value is not None}
    adds = encoder is not None or standin_llm
    known = _known(root, dataset, recipe, seed) if adds and source is None and time is None and not given else None
    found = known or _open(dataset, recipe, source, root, time, given)
    with _steps() as show:
        store = found if isinstance(found, Store) else _stored(root, *found, seed, show)
        models = [f"{name} -> {folder}" for name, folder in _models(store, encoder, standin_llm, show)]
    _report(store, json)
    for line in models:
        _say(line)
    return store


def _known(root: Path, dataset: str, recipe: str | None, seed: int) -> Store | None:
    """The existing store of real data to add models to, if it is the only one: nothing is fetched again."""
    if dataset == "synthetic":
        return None
    named = [store for store in _stores(root, dataset) if recipe in (None, store.manifest.recipe)]
    fitting = [one for one in named if one.manifest.arguments["seed"] == seed and not outdated(one)]
    return fitting[0] if len(fitting) == 1 else None


def _stores(root: Path, dataset: str) -> list[Store]:
    """All stores of a data set, by their names."""
    return [read_store(path.parent) for path in sorted((root / dataset).glob("[!.]*/manifest.json"))]


def _open(
    dataset: str, recipe: str | None, source: Path | None, root: Path, time: TimeKind | None, given: dict[str, Any]
) -> tuple[DataSet, Source, Recipe]:
    """The data set, its source (fetched if none is named), and the recipe that fits it."""
    if time and source is None:
        raise UserError("The times of published files are known.", "Give --time with --source only.")
    if source is None and dataset not in DATASETS and (stores := _stores(root, dataset)):
        names = ", ".join(store.path.name for store in stores)
        raise UserError(
            f"{dataset!r} is data of your own; {root} holds its stores {names}.",
            "Give the folder of its files with --source. To add a model to one of several stores, its --recipe may do.",
        )
    entry = find_data_set(dataset, own=source is not None)
    if dataset == "synthetic":
        if source is not None:
            raise UserError("Synthetic data have no source.", "Leave --source out.")
        chosen = choose_recipe(entry, recipe, ready=False)
        return entry, synthetic.read(chosen.name, **given), chosen
    if given:
        raise UserError(f"{', '.join(given)}: only for synthetic data.", f"Leave it out for {dataset}.")
    raw = open_source(entry, source, root)
    raw = replace(raw, time=time or raw.time)
    return entry, raw, choose_recipe(entry, recipe, ready=raw.split is not None)


def _models(
    store: Store, encoder: str | None, standin: bool, show: Callable[[str], None]
) -> Iterator[tuple[str, Path]]:
    """Caches text vectors and builds the stand-in, if requested; yields what was made and its folder."""
    if encoder is not None:
        from common.text.encoders import open_encoder
        from lrd.vectors import item_vectors

        show(f"Encoding texts with {encoder}")
        item_vectors(open_encoder(encoder), store.items()["text"].to_list(), store.text_cache)
        yield f"Text vectors of {encoder}", store.text_cache
    if standin:
        from benchmarks.standins import make_standin

        show("Training the stand-in language model")
        yield "Stand-in language model", make_standin(store, show)


def fingerprint(source: Source, dataset: str, arguments: dict[str, Any]) -> str:
    """The SHA-256 of the source's content, every argument and the store's version (PROTOCOL D7)."""
    content = {"dataset": dataset, "source": source.content_hash, "time": source.time, "store": STORE_VERSION}
    text = jsonlib.dumps(content | {"arguments": arguments}, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _stored(root: Path, entry: DataSet, raw: Source, recipe: Recipe, seed: int, show: Callable[[str], None]) -> Store:
    arguments = {"seed": seed, "recipe": recipe.settings, "world": raw.arguments, **CONSTANTS}
    identity = fingerprint(raw, entry.key, arguments)
    path = root / entry.key / f"{recipe.name}-{identity[:12]}"
    if (path / "manifest.json").exists():
        return read_store(path)
    manifest, tables = build(entry, raw, recipe, seed, show)
    show("Writing the store")
    manifest = replace(manifest, fingerprint=identity, store_version=STORE_VERSION, arguments=arguments)
    return write_store(root, manifest, tables)


@contextmanager
def _steps() -> Iterator[Callable[[str], None]]:
    """Shows the current step, the progress and the elapsed time on standard error."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("Preparing", total=len(STEPS))

        def show(text: str) -> None:
            # What is built from a finished store comes after the steps and reports its own progress.
            bar.update(task, description=text, completed=STEPS.index(text) if text in STEPS else len(STEPS))

        yield show


def _report(store: Store, json: bool) -> None:
    manifest = store.manifest
    if json:
        sys.stdout.write(manifest.to_json() + "\n")
        return
    _say(
        f"{manifest.dataset}, recipe {manifest.recipe}: {manifest.num_users:,} users, {manifest.num_items:,} items, "
        f"{manifest.num_interactions:,} interactions, {manifest.num_triplets:,} triplets -> {store.path}"
    )
    if (share := manifest.splits["leave_one_out"].get("leakage")) is not None:
        _say(f"leakage: for {share:.1%} of the test targets, the training data contain later events")
    for name, message in manifest.warnings.items():
        _say(f"{name}: {message}", style="yellow")


def _say(line: str, style: str | None = None) -> None:
    """Prints a line as it is: not wrapped, since a path could not be copied, and whatever brackets a name holds."""
    console.print(line, style=style, highlight=False, soft_wrap=True, markup=False)
