"""The experiments that ship with the suite, by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from common.errors import UserError, nearest

CONFIGS = Path(__file__).parent / "configs"
EXPERIMENTS, SUITES = CONFIGS / "experiments", CONFIGS / "suites"
TRAINER = CONFIGS / "trainer" / "default.yaml"
BEHIND = ("scenarios", "trainer")
"""Folders of configurations that are given behind an experiment's, whatever its method and data set."""
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Ten times as fast where PyYAML came with its C library."""


def parse_yaml(text: str) -> Any:  # noqa: ANN401 (whatever it holds)
    """What a YAML text holds."""
    return yaml.load(text, LOADER)


def read_yaml(path: Path) -> Any:  # noqa: ANN401 (whatever it holds)
    """What a YAML file holds.

    Raises:
        UserError: If it is no YAML.
    """
    try:
        return parse_yaml(path.read_text())
    except yaml.YAMLError as error:
        raise UserError(f"{path} is no YAML: {' '.join(str(error).split())}.", "Mend the file.") from error


def experiment_names() -> list[str]:
    """Names ``<data set>/<method>`` of the shipped experiments."""
    return sorted(str(path.relative_to(EXPERIMENTS).with_suffix("")) for path in EXPERIMENTS.rglob("*.yaml"))


def suite_names() -> list[str]:
    """Names of the shipped suites."""
    return sorted(path.stem for path in SUITES.glob("*.yaml"))


def find_experiment(name: str) -> Path:
    """The file of a configuration that was given by path or by shipped name.

    Raises:
        UserError: If it is neither.
    """
    behind = [f"{folder}/{path.stem}" for folder in BEHIND for path in (CONFIGS / folder).glob("*.yaml")]
    folder = CONFIGS if name in behind else EXPERIMENTS
    return _find(name, folder, lambda: [*experiment_names(), *behind], "configuration")


def find_suite(name: str) -> Path:
    """The file of a suite that was given by path or by shipped name.

    Raises:
        UserError: If it is neither.
    """
    return _find(name, SUITES, suite_names, "suite")


def _find(name: str, folder: Path, names: Callable[[], list[str]], kind: str) -> Path:
    for path in (Path(name), folder / f"{name}.yaml"):
        if path.is_file():
            return path
    data, shipped = name.partition("/")[0], names()
    # Among a hundred names the neighbours of a data set that exists say more than the whole list.
    valid = [other for other in shipped if other.startswith(f"{data}/")] or shipped
    cure = nearest(name, valid)
    if len(cure) > 400:
        cure = "`recbench list` prints the shipped names; a path to a YAML file serves too."
    raise UserError(f"There is no {kind} {name!r}, as a file or by name.", cure)
