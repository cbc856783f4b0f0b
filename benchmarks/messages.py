"""Turns the parser's errors into one sentence that offers the nearest valid name."""

from __future__ import annotations

import importlib
import inspect
import re
from argparse import ArgumentError, ArgumentParser
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import get_args

from common.errors import UserError, nearest

UNKNOWN_OPTION = re.compile(r"[Uu]nrecognized arguments: (\S+)")
UNKNOWN_CLASS = re.compile(r"Expected a dot import path string: (\S+)")
OWNER = re.compile(r"given class_path '(\S+)'")
NO_MODULE = re.compile(r"given class_path '(\S+)':\s+(No module named \S+)")
UNKNOWN_ARGUMENT = re.compile(r"Problem with given class_path '(\S+)':\s+Option '([^']+)' is not accepted")
UNKNOWN_KEY = re.compile(r"Group '(\w+)' does not accept option '([^']+)'")
NOT_ACCEPTED = re.compile(r"Option '([\w.]+)' is not accepted")
NO_DATASET = re.compile(r'Parser key "data".*\bdataset=None', re.DOTALL)
KEY = re.compile(r'Parser key "([\w.]+)":')
WRONG_VALUE = re.compile(r"Expected an? (.+?)\. Got value: (.*)")
NO_SUBTYPE = re.compile(r"Subtypes: \[(.+)\]\s+Errors:.*?Given value: (.*?)(?:\n|$)", re.DOTALL)
MISSING_FILE = re.compile(r"File does not exist: '?([^'\n]+)'?")
REQUIRED = re.compile(r"the following arguments are required: (.+)|[Kk]ey \"?([\w.]+)\"? is required")


def explain(parser: ArgumentParser, error: ArgumentError, classes: dict[str, type] | None = None) -> UserError:
    """The parser's error as a :class:`UserError` with a cure.

    Args:
        parser: The parser that raised it.
        error: What it raised.
        classes: Base class of each class-valued option; its subclasses are the valid names.
    """
    text = str(error)
    if found := UNKNOWN_ARGUMENT.search(text):
        path, option = found.groups()
        return UserError(f"{path.rpartition('.')[2]} has no argument {option!r}.", nearest(option, _parameters(path)))
    if found := UNKNOWN_CLASS.search(text):
        keys, name = KEY.findall(text[: found.start()]), found.group(1)
        base = (classes or {}).get(keys[0]) if len(keys) == 1 else _argument_class(OWNER.findall(text)[-1], keys[-1])
        names = [kind.__name__ for kind in concrete(base)] if base else []
        return UserError(
            f"{_named(keys, parser)}: there is no class {name!r}.",
            f"{nearest(name, names)} A class of your own is named with its module: MODULE.{name}.",
        )
    if found := NO_MODULE.search(text):
        path, reason = found.groups()
        keys = KEY.findall(text[: found.start()])
        return UserError(
            f"{_named(keys, parser)}: there is no class {path}: {reason}.", "Add its folder to PYTHONPATH."
        )
    if found := UNKNOWN_OPTION.search(text):
        option = found.group(1).partition("=")[0]
        if not option.startswith("-"):
            cure = (
                f"Did you mean `--config {option}`?"
                if "--config" in _options(parser)
                else f"See `{parser.prog} --help`."
            )
            return UserError(f"{option!r} is one argument too many.", cure)
        return UserError(f"There is no option {option!r}.", _nearest_option(option, parser))
    if found := UNKNOWN_KEY.search(text):
        group, option = found.groups()
        prefix = f"--{group}."
        valid = [name.removeprefix(prefix) for name in _options(parser) if name.startswith(prefix)]
        return UserError(f"--{group} has no option {option!r}.", nearest(option, valid))
    if found := NOT_ACCEPTED.search(text):
        option = f"--{found.group(1)}"
        return UserError(f"There is no option {option!r}.", _nearest_option(option, parser))
    if NO_DATASET.search(text):
        return UserError("--data.dataset is missing.", "Name a data set; `recbench list datasets` shows them.")
    if found := REQUIRED.search(text):
        around = KEY.findall(text[: found.start()])
        keys = re.findall(r"[\w.]+", found.group(1) or found.group(2))
        about = f"--{around[0]}.help {OWNER.findall(text)[0].rpartition('.')[2]}" if around else "--help"
        missing = ", ".join(_named([*around, key], parser) for key in keys)
        return UserError(f"{missing} {'is' if len(keys) == 1 else 'are'} missing.", f"See `{parser.prog} {about}`.")
    innermost = KEY.split(text)[-1]
    if found := WRONG_VALUE.search(innermost) or NO_SUBTYPE.search(innermost):
        expected, value = found.groups()
        return UserError(
            f"{_named(KEY.findall(text), parser)}: {value!r} is not a valid value.", _expected(expected, value)
        )
    if found := MISSING_FILE.search(text):
        return UserError(f"There is no file {found.group(1)}.", "Check the path.")
    return UserError(" ".join(text.split()), f"See `{parser.prog} --help`.")


def require_options(parser: ArgumentParser, path: Path, values: object) -> None:
    """Checks that the content of a configuration file is a mapping whose keys are options of a parser.

    Args:
        parser: The parser.
        path: The file.
        values: Its content.

    Raises:
        UserError: If it is not.
    """
    if not isinstance(values, Mapping):
        found = "nothing" if values is None else "a list" if isinstance(values, list) else f"{values!r:.60}"
        cure = "Write one option or group a line, such as `model: {class_path: CLASS}`."
        raise UserError(f"{path} is not a configuration: expected a mapping, found {found}.", cure)
    names = [name.removeprefix("--") for name in _options(parser)]
    heads = {name.partition(".")[0] for name in names} - {"help", "config", "print_config", "print_shtab"}
    # What a class is chosen for may also be its name alone.
    groups = {name.partition(".")[0] for name in names if "." in name} - {
        name for name in heads if f"{name}.help" in names
    }
    for key, value in values.items():
        if str(key).partition(".")[0] not in heads:
            raise UserError(f"{path} has an unknown option {key!r}.", nearest(str(key), heads))
        if key in groups and not isinstance(value, Mapping):
            raise UserError(f"{path}: {key} is {value!r}, expected a mapping.", f"Write `{key}: {{OPTION: VALUE}}`.")


def own_mistake(error: BaseException | None) -> UserError | None:
    """The :class:`UserError` behind an error, if any: the parser wraps what a constructor raises."""
    while error is not None and not isinstance(error, UserError):
        error = error.__cause__ or error.__context__
    return error


def refused(error: BaseException) -> UserError:
    """The message of a constructor about an argument, without the parser's text around it."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    said = str(error) or type(error).__name__
    return UserError(f"{said}.".replace("..", "."), "`recbench run --model.help CLASS` describes a model's arguments.")


def concrete(base: type) -> Iterable[type]:
    """All subclasses of ``base`` that can be instantiated, including itself."""
    own = [] if inspect.isabstract(base) else [base]
    children: list[type] = base.__subclasses__()
    return dict.fromkeys([*own, *(kind for child in children for kind in concrete(child))])


def _named(keys: list[str], parser: ArgumentParser) -> str:
    """How the user gives a value, by the keys around it: the classes that have it, then its own."""
    positional = {action.dest for action in parser._actions if not action.option_strings}
    own = ".".join(keys)
    own = "seed_everything" if own == "data.seed" else own  # refused on the command line, so it came by its link
    return own if own in positional else f"--{own}"


def _expected(types: str, value: str) -> str:
    """What a value should have been, by the parser's description of its types."""
    choices = [name for listed in re.findall(r"Literal\[(.+?)\]", types) for name in re.findall(r"[^\s',]+", listed)]
    if choices:
        return nearest(value, set(choices))
    plain = re.sub(r"<class '(?:[\w.]+\.)?(\w+)'>|typing\.", r"\1", types)
    plain = re.sub(r"\bSequence\b", "list", plain)
    kinds = [name for name in plain.split(", ") if name != "NoneType"]
    return f"Give a value of type {' or '.join(kinds)}" + (", or null." if "NoneType" in plain else ".")


def _class(path: str) -> type:
    module, _, name = path.rpartition(".")
    kind: type = getattr(importlib.import_module(module), name)
    return kind


def _parameters(path: str) -> Iterable[str]:
    return inspect.signature(_class(path)).parameters


def _argument_class(path: str, name: str) -> type | None:
    """The class whose instances an argument of the class at ``path`` takes, if any."""
    hint = inspect.signature(_class(path), eval_str=True).parameters[name].annotation
    return next((kind for kind in (hint, *get_args(hint)) if inspect.isclass(kind)), None)


def _nearest_option(option: str, parser: ArgumentParser) -> str:
    valid = _options(parser)
    head, _, inner = option.partition(".")
    heads = {name.partition(".")[0] for name in valid if "." in name}
    if inner and heads and head not in heads:
        return nearest(option, {f"{known}.{inner}" for known in heads})
    longer = [name for name in valid if name.startswith(option)]
    cure = f"Did you mean {longer[0]!r}?" if longer else nearest(option, valid)
    return cure if len(cure) < 300 else f"See `{parser.prog} --help`."


def _options(parser: ArgumentParser) -> list[str]:
    return [option for action in parser._actions for option in action.option_strings if option.startswith("--")]
