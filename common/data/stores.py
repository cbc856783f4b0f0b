"""The stores below a root, and which of them is meant."""

from __future__ import annotations

from pathlib import Path

from common.data.recipes import DATASETS
from common.data.store import Store, read_store
from common.errors import UserError, nearest


def find_store(root: Path, dataset: str, recipe: str | None = None, store: str | None = None) -> Store:
    """The store of a data set that matches.

    Args:
        root: Folder of all stores.
        dataset: Key of the data set.
        recipe: Name of the recipe, or the id of a store; if None, any, and of several stores one of the data set's
            default recipe.
        store: Id of the store, or None for any.

    Raises:
        UserError: If none matches (the message has the command that makes one) or several do (it has their ids). One
            of an older version of its recipe only matches by its id.
    """
    root = Path(root)
    found = sorted(path.parent for path in (root / dataset).glob("[!.]*/manifest.json"))
    named = [
        path
        for path in found
        if store in (None, path.name) and recipe in (None, path.name, path.name.rpartition("-")[0])
    ]
    by_id = store or recipe in {path.name for path in named}
    stores = [one for one in map(read_store, named) if by_id or not outdated(one)]
    _refuse_unknown(root, dataset)
    wanted = dataset + (f", recipe {recipe}" if recipe else "") + (f", store {store}" if store else "")
    if not stores:
        names = ", ".join(path.name for path in named or found)
        older = (
            f", of an older version of its recipe; --data.store {named[-1].name} takes it all the same" if named else ""
        )
        there = f" (found: {names}{older})" if found else ""
        raise UserError(f"{root} holds no prepared store of {wanted}{there}.", _way_to(root, dataset, recipe, store))
    if len(stores) > 1 and recipe is store is None:
        stores = _of_default_recipe(dataset, stores)
    if len(stores) > 1:
        names = ", ".join(one.path.name for one in stores)
        cure = f"Choose one with `--data.store ID`; a suite's file and `evaluate --data` name one as `{dataset}/ID`."
        raise UserError(f"{root} holds {len(stores)} stores of {wanted}: {names}.", cure)
    return stores[0]


def _way_to(root: Path, dataset: str, recipe: str | None, store: str | None) -> str:
    """How to get a store that is not there."""
    if store is not None:
        return "If stores are elsewhere, give their folder with --root (--data.root of `run`), or prepare it again."
    known = [one.name for one in DATASETS[dataset].recipes] if dataset in DATASETS else []
    if recipe and known and recipe not in known:
        return nearest(recipe, known)
    return f"Run `recbench prepare {dataset}{f' --recipe {recipe}' if recipe else ''} --root {root}` first."


def _of_default_recipe(dataset: str, stores: list[Store]) -> list[Store]:
    """Stores of the data set's first recipe that has any; all of them if the data set is the user's own."""
    for recipe in DATASETS[dataset].recipes if dataset in DATASETS else ():
        if chosen := [store for store in stores if store.manifest.recipe == recipe.name]:
            return chosen
    return stores


def _refuse_unknown(root: Path, dataset: str) -> None:
    own = {path.parent.parent.name for path in root.glob("*/[!.]*/manifest.json")}
    if dataset not in own | set(DATASETS):
        cure = f"{nearest(dataset, own | set(DATASETS))} Data of your own need `recbench prepare NAME --source DIR`."
        raise UserError(f"There is no data set {dataset!r}, and {root} holds none of that name.", cure)


def outdated(store: Store) -> bool:
    """Whether its recipe, if it is a shipped one, has another version by now."""
    known = DATASETS[store.manifest.dataset].recipes if store.manifest.dataset in DATASETS else ()
    return any(one.name == store.manifest.recipe and one.version != store.manifest.recipe_version for one in known)
