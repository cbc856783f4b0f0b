"""What the command line of a run says, before it is parsed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise
from pathlib import Path

from benchmarks.experiments import find_experiment, read_yaml
from common.classes import descendants
from common.data.datamodule import SequenceDataModule
from common.errors import UserError

LINKED = ("num_users", "num_items", "max_history", "num_entities", "num_relations", "text_width")
"""Model arguments that come from the data."""


def with_config_files(arguments: Sequence[str]) -> list[str]:
    """Replaces shipped names after ``--config`` by their files; one ``--config`` may be followed by several.

    >>> with_config_files(["--trainer.max_epochs", "3"])
    ['--trainer.max_epochs', '3']
    """
    result: list[str] = []
    reading = False
    for argument in arguments:
        option, equals, value = argument.partition("=")
        if option in ("--config", "-c"):
            reading = not equals
            result += ["--config", str(find_experiment(value))] if equals else []
        elif reading and not argument.startswith("-"):
            result += ["--config", str(find_experiment(argument))]
        else:
            reading = False
            result.append(argument)
    return result


def data_class(arguments: Sequence[str]) -> str:
    """The data class that a command line asks for, by options or in files; the last one counts.

    An unknown class is ignored here: the parser reports it.

    >>> data_class(["--data=PromptDataModule", "--data.dataset=synthetic"])
    'PromptDataModule'
    """
    chosen = SequenceDataModule.__name__
    for argument, following in pairwise([*arguments, ""]):
        option, equals, value = argument.partition("=")
        value = value if equals else following
        if option in ("--data", "--data.class_path"):
            chosen = value
        elif option == "--config" and Path(value).is_file():
            content = read_yaml(Path(value))
            data = content.get("data") if isinstance(content, dict) else None
            chosen = data.get("class_path", chosen) if isinstance(data, dict) else chosen
    classes: list[type[SequenceDataModule]] = [SequenceDataModule, *descendants(SequenceDataModule)]
    known = {cls.__name__ for cls in classes}
    return chosen if chosen.rpartition(".")[2] in known else SequenceDataModule.__name__


def option_names(arguments: Sequence[str]) -> list[str]:
    """Names of the options among arguments, without values and ``init_args``.

    >>> option_names(["--model.init_args.width=8", "--force"])
    ['--model.width', '--force']
    """
    return [argument.partition("=")[0].replace(".init_args", "") for argument in arguments]


def refuse_linked(options: Collection[str], where: str = "--") -> None:
    """Refuses options that another one or the data set, whose values would be ignored.

    Args:
        options: Their names, such as ``model.width``.
        where: What a message puts before a name: the file that sets it.

    Raises:
        UserError: If one is given.
    """
    if "data.seed" in options:
        raise UserError(f"{where}data.seed is the seed of the whole run.", "Set --seed_everything.")
    for name in LINKED:
        if f"model.{name}" in options:
            cure = f"Set --data.{name}." if name == "max_history" else "Leave it out."
            raise UserError(f"{where}model.{name} is what the data say.", cure)
