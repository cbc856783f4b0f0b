"""The model of a finished run, for methods that are built on another's."""

from __future__ import annotations

from collections.abc import Collection
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import torch

from common.classes import descendants
from common.errors import UserError
from common.models.base import MODEL, Recommender

WEIGHTS = "best.ckpt"
"""File of a run folder with the weights that validation chose."""


def finished_model(run: str | Path, **changes: Any) -> Recommender:  # noqa: ANN401
    """The model of a run folder: its class, its arguments and its best weights; not yet attached to a catalogue.

    Args:
        run: The run folder.
        changes: Arguments to replace, or that the checkpoint lacks, such as folders of other runs.

    Raises:
        UserError: If the folder holds no checkpoint, or one of an unknown model, of a model that is made of more than
            the checkpoint and ``changes``, or of one that has no such arguments.
    """
    content = read_checkpoint(run)
    known = {cls.__name__: cls for cls in descendants(Recommender)}  # type: ignore[type-abstract]  # only its subclasses are built
    name = content.get(MODEL)
    if name not in known:
        raise UserError(f"{run} holds a model {name!r}, which is unknown here.", "Run it again with --force.")
    arguments = content.get("hyper_parameters", {}) | changes
    _require_fit(run, known[name], arguments, changes)
    model: Recommender = known[name](**arguments)
    model.restore(content)
    return model.eval()


def _require_fit(run: str | Path, cls: type[Recommender], arguments: Collection[str], changes: Collection[str]) -> None:
    taken = signature(cls).parameters
    missing = [name for name, one in taken.items() if one.default is Parameter.empty and name not in arguments]
    if missing:
        raise UserError(
            f"{run} is a run of {cls.__name__}, which is made of more than its checkpoint ({', '.join(missing)}), "
            "where a model that is trained by itself is expected.",
            "Give the run of such a model, for example of SASRec.",
        )
    foreign = [name for name in changes if name not in taken]
    if foreign:
        raise wrong_model(run, cls.__name__, f"a model made with {' and '.join(foreign)}")


def wrong_model(run: str | Path, found: str, expected: str) -> UserError:
    """The error to raise if a run is of another model than a method is built on."""
    return UserError(
        f"{run} is a run of {found}, where {expected} is expected.",
        "Give the run of such a model: `needs` in the experiment of the method names it.",
    )


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
