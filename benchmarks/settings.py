"""The settings of experiments, written or default, read without parsing a command line."""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any

from benchmarks.experiments import TRAINER, find_experiment, read_yaml
from common.classes import descendants


def setting_of(experiment: str, option: str) -> Any:  # noqa: ANN401 (whatever the setting takes)
    """The value of a setting in an experiment: its own, or the default of the class; ``None`` if there is no such one.

    Args:
        experiment: The experiment, by shipped name or path.
        option: Option of ``recbench run``, without dashes, with or without ``init_args``.
    """
    values = _content(experiment)
    for name in option.replace(".init_args", "").split("."):
        kind = _classes().get(str(values.get("class_path")).rpartition(".")[2])
        values = values.get("init_args", {}) if "class_path" in values else values
        if name not in values:
            return _defaults(kind).get(name) if kind else None
        values = values[name]
        if not isinstance(values, dict):
            return values
    return values


@cache
def _content(experiment: str) -> dict[str, Any]:
    """What an experiment says, with the classes and the options that every run has."""
    values: dict[str, Any] = read_yaml(find_experiment(experiment))
    data = {"class_path": "SequenceDataModule"} | values.get("data", {})
    trainer = read_yaml(TRAINER)["trainer"] | values.get("trainer", {})
    return values | {"data": data, "trainer": {"class_path": "Trainer", "init_args": trainer}}


@cache
def _defaults(kind: type) -> dict[str, Any]:
    """What the arguments of a class are where nothing is said."""
    return {name: parameter.default for name, parameter in inspect.signature(kind).parameters.items()}


@cache
def _classes() -> dict[str, type]:
    """The classes that an experiment can name, and the Trainer."""
    from lightning import Trainer
    from torch.nn import Module

    import benchmarks.configuration  # noqa: F401 (it imports them)
    from common.data.datamodule import SequenceDataModule

    kinds: tuple[type, ...] = (SequenceDataModule, *descendants(SequenceDataModule), *descendants(Module))
    own = (kind for kind in kinds if kind.__module__.partition(".")[0] in ("common", "lrd", "allmrec"))
    return {kind.__name__: kind for kind in (Trainer, *own)}
