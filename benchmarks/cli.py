"""The command line: its commands, how functions become commands, and how errors are shown.

A command is a function: parameters before ``*`` are positional, the others are options, and the docstring is the help
text. Its module is imported only when the command is called, so ``--help`` and ``list`` do not wait for torch.
"""

from __future__ import annotations

import errno
import importlib
import inspect
import os
import sys
import traceback
from argparse import ArgumentError
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any, get_args, get_origin

from benchmarks.processor import settle
from common.errors import UserError, at_least, failure_number, nearest

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


@dataclass(frozen=True)
class Command:
    """A command of ``recbench``.

    Attributes:
        target: Its function, as ``module:name``.
        summary: Its line in ``recbench --help``.
        parses_itself: Whether the function takes the raw arguments (``run``, whose options depend on the classes it
            is given).
    """

    target: str
    summary: str
    parses_itself: bool = False


COMMANDS = {
    "list": Command("benchmarks.listing:show", "list data sets, recipes, methods, scenarios, suites and encoders"),
    "prepare": Command("benchmarks.prepare:prepare", "turn raw files into a store"),
    "run": Command("benchmarks.train:main", "train, test the best checkpoint, write the run folder", True),
    "evaluate": Command("benchmarks.evaluate:evaluate", "score a finished run under other conditions"),
    "analyse": Command("benchmarks.analyse:analyse", "show what an LRD run has learnt about relations: pictures, JSON"),
    "recommend": Command("benchmarks.recommend:recommend", "print the best items for users of a finished run"),
    "generate": Command("benchmarks.generate:generate", "write free text about users with a finished A-LLMRec run"),
    "leaderboard": Command("benchmarks.leaderboard.command:leaderboard", "print tables of finished runs"),
    "submit": Command("benchmarks.leaderboard.submission:submit", "pack a run into one file for another leaderboard"),
    "simulate": Command("benchmarks.statistics.simulation:simulate", "how often verdicts err, on simulated systems"),
    "ledger": Command("benchmarks.ledger.command:ledger", "compare what the papers print with what was measured"),
    "suite": Command("benchmarks.suite:suite", "run data sets × methods × seeds, skipping what is done"),
    "sweep": Command("benchmarks.sweeps.command:sweep", "search hyper-parameters on validation, within a budget"),
    "wandb": Command("benchmarks.loggers.dashboard:wandb", "`wandb dashboard`: a workspace for suites and sweeps"),
    "speed": Command("benchmarks.speed.command:speed", "measure throughput and memory, as JSON"),
    "doctor": Command("benchmarks.doctor:doctor", "show what is installed and usable here"),
}

USER_FIXABLE = {
    errno.EACCES: ("No permission", "Choose a folder you may write to, or change its permissions."),
    errno.EPERM: ("No permission", "Choose a folder you may write to, or change its permissions."),
    errno.EROFS: ("Read-only file system", "Choose a folder you may write to."),
    errno.ENOSPC: ("No space left on the disk", "Free some space, or choose a folder on another disk."),
    errno.EDQUOT: ("No space left for you on the disk", "Free some space, or choose a folder on another disk."),
    errno.EFBIG: ("A file would grow beyond what is allowed", "Raise the limit (`ulimit -f`), or choose another disk."),
    errno.EEXIST: ("There is a file where a folder is needed", "Choose another folder, or move the file away."),
    errno.EISDIR: ("There is a folder where a file is needed", "Name a file."),
    errno.ENOTDIR: ("There is a file where a folder is needed", "Choose another folder, or move the file away."),
}
"""Operating-system errors that the user can fix, by ``errno``: what is wrong, and the cure."""
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Those that libraries may replace by an error of their own."""
READING = {"list", "leaderboard", "submit", "ledger", "suite", "wandb"}
"""Commands that neither train nor score in their own process, and do not wait for it to be settled."""
CONTINUED = {"suite", "sweep"}
"""Commands that skip what is done."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: Arguments after the program's name; those of the process when omitted.

    Returns:
        0 on success, 2 on a user error (one message on stderr, no traceback), 1 otherwise.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    if isinstance(sys.stdout, TextIOWrapper):
        # What the terminal's encoding lacks is escaped, as on standard error: a table must not end a suite.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        dispatch(arguments)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except KeyboardInterrupt:
        more = " The same command continues: what is done is skipped." if set(arguments[:1]) & CONTINUED else ""
        return _complain(f"Interrupted.{more}", 1, debug)
    except UserError as error:
        return _complain(str(error), 2, debug)
    except BrokenPipeError:
        # Who read the output has seen enough, as `head` has; Python would complain once more when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if told := _fixable(error):
            return _complain(told, 2, debug)
        return _complain(_internal(error), 1, debug)
    return 0


def dispatch(arguments: list[str]) -> None:
    """Calls the command that the first argument names.

    Raises:
        UserError: If the command, an option or a value is not valid.
    """
    if arguments[:1] == ["--version"]:
        write(f"recbench {version('recbench')}")
        return
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        write(_overview())
        return
    name, rest = arguments[0], arguments[1:]
    if name not in COMMANDS:
        raise UserError(f"recbench has no command {name!r}.", nearest(name, COMMANDS))
    function = _function(name)
    if name not in READING:
        settle()
    if COMMANDS[name].parses_itself:
        function(rest)
        return
    bound = parsed(name, rest)
    function(*bound.args, **bound.kwargs)


def parsed(name: str, arguments: Sequence[str]) -> inspect.BoundArguments:
    """The arguments a command's function would be called with.

    Raises:
        UserError: If an option or a value is not valid.
    """
    from benchmarks.messages import explain

    function = _function(name)
    parser = parser_for(name, function)
    try:
        values = parser.parse_args(list(arguments))
    except ArgumentError as error:
        raise explain(parser, error) from error
    chosen = values.as_dict()
    at_least(0, "", **{option: value for option, value in chosen.items() if option.endswith("seed")})
    return _bound(function, chosen)


def parser_for(name: str, function: Callable[..., object]) -> ArgumentParser:
    """The parser of a command, from its function's signature and docstring."""
    import docstring_parser
    from jsonargparse import ArgumentParser

    text = docstring_parser.parse(inspect.getdoc(function) or "")
    # Code is marked by two backticks in docstrings, by one in a terminal.
    helps = {entry.arg_name: (entry.description or "").replace("``", "`") for entry in text.params}
    parser = ArgumentParser(
        prog=f"recbench {name}", description=text.short_description, exit_on_error=False, allow_abbrev=False
    )
    for parameter in inspect.signature(function, eval_str=True).parameters.values():
        option = parameter.kind is inspect.Parameter.KEYWORD_ONLY
        label = f"--{parameter.name.replace('_', '-')}" if option else parameter.name.rstrip("_")
        parser.add_argument(label, **_argument(parameter, option), help=helps.get(parameter.name, ""))
    return parser


def write(text: str) -> None:
    """Writes a command's result to standard output, which is used for nothing else."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")
    sys.stdout.flush()


def _function(name: str) -> Callable[..., object]:
    module, _, function_name = COMMANDS[name].target.partition(":")
    function: Callable[..., object] = getattr(importlib.import_module(module), function_name)
    return function


def _argument(parameter: inspect.Parameter, option: bool) -> dict[str, Any]:
    kind, default = parameter.annotation, parameter.default
    required = default is inspect.Parameter.empty
    if kind is bool:
        return {"action": "store_true"}
    lists = [part for part in (kind, *get_args(kind)) if get_origin(part) is list]
    if lists:
        spread: dict[str, Any] = {"type": get_args(lists[0])[0], "nargs": "+" if required else "*"}
        spread |= {"action": "extend"} if option else {}
        return spread | ({"required": True} if option and required else {} if required else {"default": default})
    if option:
        return {"type": kind} | ({"required": True} if required else {"default": default})
    return {"type": kind} | ({} if required else {"nargs": "?", "default": default})


def _bound(function: Callable[..., object], values: dict[str, Any]) -> inspect.BoundArguments:
    signature = inspect.signature(function)
    positional = [values[p.name.rstrip("_")] for p in signature.parameters.values() if p.kind is not p.KEYWORD_ONLY]
    options = {p.name: values[p.name] for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY}
    return signature.bind(*positional, **options)


def _overview() -> str:
    width = max(map(len, COMMANDS)) + 2
    lines = [f"  {name:<{width}}{command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: recbench COMMAND … [--debug]",
            "       recbench --version",
            "",
            *lines,
            "",
            "`recbench COMMAND --help` explains a command; --debug adds the traceback to an error.",
        ]
    )


def _fixable(error: BaseException) -> str | None:
    """The message for an operating-system error that the user can fix, even if another one was raised over it."""
    number = failure_number(error)
    if number == errno.ENOENT and traceback.extract_tb(error.__traceback__)[-1].name in ("mkdir", "mkdtemp"):
        return f"The folder {getattr(error, 'filename', '')} cannot be created.\nChoose another folder."
    if number in USER_FIXABLE:
        what, cure = USER_FIXABLE[number]
        return f"{what}: {getattr(error, 'filename', None) or error}\n{cure}"
    earlier = error.__cause__ or error.__context__
    while earlier is not None and failure_number(earlier) not in NO_ROOM:
        earlier = earlier.__cause__ or earlier.__context__
    return _fixable(earlier) if earlier else None


def _internal(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}\nThis looks like a bug in recbench: --debug shows where it happened."


def _complain(message: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    sys.stderr.write(f"recbench: {message}\n")
    return code
