"""Recognises the layout of a local source, or fetches the publisher's files, and reads them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType

from common.data import amazon, movielens, recbole, rechorus, tables
from common.data.download import extract, fetch
from common.data.recipes import DataSet, Layout
from common.data.schema import Source
from common.errors import UserError

# In the order in which they are tried; each module has `matches` and `read`.
_MODULES: dict[Layout, ModuleType] = {
    "rechorus": rechorus,
    "recbole": recbole,
    "movielens": movielens,
    "tables": tables,
    "amazon": amazon,
}


def find_layout(folder: Path) -> Layout:
    """The layout of a folder.

    Raises:
        UserError: If the folder is missing or has no known layout.
    """
    if not folder.is_dir():
        raise UserError(f"--source {folder} is not a folder.", "Name the folder that holds the data set's files.")
    for layout, module in _MODULES.items():
        if module.matches(folder):
            return layout
    names = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
    raise UserError(
        f"--source {folder} holds {names}: no known layout.",
        "Name a folder with MovieLens files (u.data, ratings.dat, ratings.csv), Amazon reviews (*.json.gz), a ReChorus "
        "split (train.csv, dev.csv, test.csv), RecBole files (*.inter) or a table of interactions.",
    )


def open_source(entry: DataSet, folder: Path | None, root: Path) -> Source:
    """The source of a data set, whatever its layout.

    Args:
        entry: The data set.
        folder: Local folder in any layout; None for the publisher's files, fetched once into ``<root>/downloads``.
        root: Folder of all stores.

    Raises:
        UserError: If the folder has no known layout, a file is malformed or a download fails.
    """
    folder = download(entry, root) if folder is None else folder
    layout = find_layout(folder)
    source: Source = _MODULES[layout].read(entry.key, folder)
    return replace(source, time=entry.copies.get(layout, source.time))


def download(entry: DataSet, root: Path) -> Path:
    """The folder of the publisher's files, which are fetched if they are not there yet.

    Raises:
        UserError: If the data set has no public address, or a file cannot be fetched.
    """
    if not entry.download:
        raise UserError(f"Data set {entry.key!r} has no public address.", "Name its folder with --source.")
    folder, lock = root / "downloads", root / "downloads" / "checksums.json"
    if not entry.category:
        archive = movielens.ARCHIVES[entry.download]
        target = folder / Path(archive.url).name
        fetch(archive.url, target, lock=lock, md5=archive.md5, size=archive.size)
        return extract(target, folder / entry.key) / archive.folder
    for address in amazon.URLS[entry.download]:
        url = address.format(category=entry.category)
        fetch(url, folder / entry.key / Path(url).name, lock=lock)
    return folder / entry.key
