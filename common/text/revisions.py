"""Which model a name stands for: the content of a folder, or a commit of the hub."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError

from common.errors import UserError

_MODEL_FILES = (".safetensors", ".bin", ".json", ".txt", ".model")


def revision(name: str) -> dict[str, str]:
    """Identifies a model: content of a folder's files, or the hub's commit.

    Raises:
        UserError: If it is neither a folder nor within reach on the hub.
    """
    folder = Path(name)
    if folder.is_dir():
        files = sorted(path for path in folder.rglob("*") if path.suffix in _MODEL_FILES)
        return {"model": folder.name, "sha256": digest(files)}
    try:
        try:
            file = hf_hub_download(name, "config.json")
        except EntryNotFoundError:
            # A sentence model may have only its modules' configurations.
            file = hf_hub_download(name, "modules.json")
    except (OSError, ValueError, EntryNotFoundError) as error:
        raise unavailable(name, error) from error
    # A file of the hub lies in a folder with the name of its commit.
    return {"model": name, "revision": Path(file).parent.name}


def sentence_revision(name: str) -> dict[str, str]:
    """Identifies a sentence-transformers model, which may be named without its organisation, as its library allows."""
    try:
        return revision(name)
    except UserError:
        if "/" in name:
            raise
    return revision(f"sentence-transformers/{name}")


def same_model(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Whether two identities are of one model; a folder of the same files may have another name.

    >>> same_model({"model": "a", "sha256": "0f"}, {"model": "b", "sha256": "0f"})
    True
    """
    if "sha256" in one and "sha256" in other:
        return one["sha256"] == other["sha256"]
    return one == other


def digest(files: Sequence[Path]) -> str:
    """SHA-256 over the names and bytes of files."""
    sha = hashlib.sha256()
    for path in files:
        sha.update(path.name.encode())
        with path.open("rb") as file:
            sha.update(hashlib.file_digest(file, "sha256").digest())
    return sha.hexdigest()


def unavailable(name: str, error: Exception) -> UserError:
    """The error of a model that is neither a folder nor reachable on the hub."""
    return UserError(
        f"language model {name!r} cannot be loaded: {str(error).splitlines()[0]}",
        "Check the name; without network, download it elsewhere (`hf download NAME --local-dir DIR`) and give the "
        "folder, or install recbench[minilm] and use the encoder `minilm`.",
    )
