"""Shipped configurations and suites, found by name."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from benchmarks.runs import CONFIG, RESULT
from common.errors import UserError, nearest

CONFIGS = Path(__file__).parent / "configs"
EXPERIMENTS, SUITES = CONFIGS / "experiments", CONFIGS / "suites"
TRAINER = CONFIGS / "trainer" / "default.yaml"
ADD_ONS = ("scenarios", "trainer")
"""Folders of configurations that may be added after any experiment's, whatever its method and data set."""
WITH_MODEL = "Write `model: {class_path: CLASS}`."
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Ten times as fast if PyYAML was built with its C library."""


TEXT, MERGE = "tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"


class UnusableKeyError(yaml.MarkedYAMLError):
    """A mapping that has a key twice, of which the parser would keep the last, or a key that is no text.

    The ``note`` is the cure.
    """


def parse_yaml(text: str) -> Any:  # noqa: ANN401 (any YAML value)
    """The content of a YAML text.

    Raises:
        yaml.YAMLError: If it is not valid, or a mapping has a key twice or one that is no text.
        ValueError: If what looks like a date is none.
    """
    loader = LOADER(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _check_keys(node)
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _check_keys(root: yaml.Node) -> None:
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        node = waiting.pop()
        # Anchors make one node a part of several.
        if id(node) in seen or not isinstance(node, yaml.CollectionNode):
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            keys: dict[tuple[str, str], yaml.Node] = {}
            for key, value in node.value:
                first = keys.setdefault((key.tag, str(key.value)), key)
                if first is not key:
                    what = f"{key.value} is already in line {first.start_mark.line + 1}"
                    raise UnusableKeyError(problem=what, problem_mark=key.start_mark, note="Keep one of the two.")
                if key.tag not in (TEXT, MERGE):
                    # Of a switch, YAML makes true or false.
                    what, cure = f"{key.value!r:.60} is no text, as a name must be", "Write it in quotes."
                    raise UnusableKeyError(problem=what, problem_mark=key.start_mark, note=cure)
                waiting.append(value)
        else:
            waiting += node.value


def read_yaml(path: Path) -> Any:  # noqa: ANN401 (any YAML value)
    """The content of a YAML file.

    Raises:
        UserError: If there is no such file, it is not valid YAML, or a mapping in it has a key twice or one that is no
            text.
    """
    try:
        return parse_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise _no_file(path) from error
    except UnusableKeyError as error:
        mark = error.problem_mark
        line = mark.line + 1 if mark else "?"
        raise UserError(f"{path}, line {line}: {error.problem}.", str(error.note)) from error
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}.", "Fix the file.") from error


def read_experiment(path: Path) -> dict[str, Any]:
    """The content of an experiment's file, whose ``model`` has a ``class_path``.

    Raises:
        UserError: If it is no such file.
    """
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise UserError(f"{path} is not an experiment: expected a mapping, found {_kind(values)}.", WITH_MODEL)
    model, needs = values.get("model"), values.get("needs", [])
    if "model" not in values:
        near = get_close_matches("model", map(str, values), n=1)
        raise UserError(f"{path} has no model{', but ' + repr(near[0]) if near else ''}.", WITH_MODEL)
    if not isinstance(model, dict) or not isinstance(model.get("class_path"), str):
        raise UserError(f"{path}: model is {model!r}, expected a mapping with class_path.", WITH_MODEL)
    if not isinstance(needs, list) or not all(isinstance(method, str) for method in needs):
        raise UserError(f"{path}: needs is {needs!r}, expected a list of methods.", "Write `needs: [METHOD]`.")
    return values


def _kind(values: object) -> str:
    return {list: "a list", type(None): "nothing"}.get(type(values), f"{values!r:.60}")


def as_yaml(value: object) -> str:
    """A value in the form in which options are written on the command line.

    >>> as_yaml(None), as_yaml([0.9, None])
    ('null', '[0.9, null]')
    """
    return yaml.safe_dump(value, default_flow_style=True).removesuffix("\n...\n").strip()


@cache
def experiment_names() -> tuple[str, ...]:
    """Names of the shipped experiments, as ``<data set>/<method>``."""
    return tuple(sorted(str(path.relative_to(EXPERIMENTS).with_suffix("")) for path in EXPERIMENTS.rglob("*.yaml")))


def suite_names() -> list[str]:
    """Names of the shipped suites."""
    return sorted(path.stem for path in SUITES.glob("*.yaml"))


def find_experiment(name: str) -> Path:
    """The file of a configuration given by path or by shipped name.

    Raises:
        UserError: If it is neither.
    """
    add_ons = [f"{folder}/{path.stem}" for folder in ADD_ONS for path in (CONFIGS / folder).glob("*.yaml")]
    folder = CONFIGS if name in add_ons else EXPERIMENTS
    return _find(name, folder, lambda: [*experiment_names(), *add_ons], "configuration")


def find_suite(name: str) -> Path:
    """The file of a suite given by path or by shipped name.

    Raises:
        UserError: If it is neither.
    """
    return _find(name, SUITES, suite_names, "suite")


def _no_file(path: Path) -> UserError:
    if path.name == CONFIG and (path.parent / RESULT).is_file():
        return UserError(f"The run {path.parent} has no {CONFIG}.", "Copy the whole folder, or run it again.")
    return UserError(f"There is no file {path}.", "Check the path.")


def _find(name: str, folder: Path, names: Callable[[], list[str]], kind: str) -> Path:
    for path in (Path(name), folder / f"{name}.yaml"):
        if path.is_file():
            return path
    if Path(name).name == CONFIG:
        raise _no_file(Path(name))
    data, shipped = name.partition("/")[0], names()
    # The methods of one existing data set help more than a list of a hundred names.
    valid = [other for other in shipped if other.startswith(f"{data}/")] or shipped
    cure = nearest(name, valid)
    if len(cure) > 400:
        cure = "`recbench list` prints the shipped names; the path of a YAML file works as well."
    raise UserError(f"There is no {kind} {name!r}, neither as a file nor as a shipped name.", cure)
