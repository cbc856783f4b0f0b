"""The model of a finished run, for methods that are built on another's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch

from common.errors import UserError
from common.models.base import MODEL, Recommender

T = TypeVar("T")
WEIGHTS = "best.ckpt"
"""File of a run folder with the weights that validation chose."""


def finished_model(run: str | Path, **changes: Any) -> Recommender:  # noqa: ANN401
    """The model of a run folder: its class, its arguments and its best weights; not yet attached to a catalogue.

    Args:
        run: The run folder.
        changes: Arguments to replace, or that the checkpoint lacks, such as folders of other runs.

    Raises:
        UserError: If the folder holds no checkpoint, or one of an unknown model.
    """
    content = read_checkpoint(run)
    known = {cls.__name__: cls for cls in descendants(Recommender)}  # type: ignore[type-abstract]  # only its subclasses are built
    name = content.get(MODEL)
    if name not in known:
        raise UserError(f"{run} holds a model {name!r}, which is unknown here.", "Run it again with --force.")
    model: Recommender = known[name](**content.get("hyper_parameters", {}) | changes)
    model.on_load_checkpoint(content)
    model.load_state_dict(content["state_dict"])
    return model.eval()


def read_checkpoint(run: str | Path) -> dict[str, Any]:
    """The checkpoint of a run folder, loaded to the CPU.

    Raises:
        UserError: If it is missing or cannot be read.
    """
    path = Path(run) / WEIGHTS
    if not path.is_file():
        raise UserError(f"{run} holds no finished run: {WEIGHTS} is missing.", "Give a run folder.")
    return load_checkpoint(path, "Run it again with --force.")


def load_checkpoint(path: Path, cure: str) -> dict[str, Any]:
    """The content of a checkpoint file, loaded to the CPU.

    Args:
        path: The file.
        cure: What the user can do if it cannot be used.

    Raises:
        UserError: If it is missing or cannot be read.
    """
    if not path.is_file():
        raise UserError(f"There is no checkpoint {path}.", cure)
    try:
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except OSError:
        raise
    except Exception as error:
        # What PyTorch says is about options of its own.
        raise UserError(f"{path} is not a checkpoint, or is damaged.", cure) from error


def descendants(cls: type[T]) -> Iterator[type[T]]:
    """All classes derived from ``cls`` whose modules have been imported."""
    for child in cls.__subclasses__():
        yield child
        yield from descendants(child)
