"""Errors that the user can fix: what is wrong, where, and the cure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

MODEL_OPTIONS = "model"
"""Where the arguments of a model are on the command line."""


class UserError(ValueError):
    """A mistake in an argument, a file or a run that the user can fix.

    The command line prints the message without a traceback and exits with code 2.

    Args:
        what: What is wrong, naming the argument, file, line or value.
        cure: What to do about it, as an imperative sentence.
    """

    def __init__(self, what: str, cure: str) -> None:
        super().__init__(f"{what}\n{cure}")
        self.what = what
        self.cure = cure


class DataError(UserError):
    """Malformed or missing data: names file, line, column, what was expected and what was found."""


def at_least(
    least: int | float, options: str = MODEL_OPTIONS, /, *, reason: str = "", **values: int | float | None
) -> None:
    """Refuses numbers below ``least``; a value that is not given may be ``None``.

    Args:
        least: The smallest value that is allowed.
        options: Where the options are on the command line, such as ``data``; empty for those of a command itself.
        reason: Why smaller values make no sense, as the first clause of the cure.
        values: The numbers by the names of their options.

    Raises:
        UserError: For the first value that is too small.
    """
    for name, value in values.items():
        if value is not None and not value >= least:  # which also refuses NaN
            cure = f"give {least} or more."
            raise UserError(
                f"{_option(options, name)} is {value}.", f"{reason}: {cure}" if reason else cure.capitalize()
            )


def above_zero(options: str = MODEL_OPTIONS, /, **values: int | float) -> None:
    """Refuses numbers that are not positive; arguments as in :func:`at_least`."""
    for name, value in values.items():
        if not value > 0:
            raise UserError(f"{_option(options, name)} is {value}.", "Give a number above 0.")


def shares(options: str = MODEL_OPTIONS, /, **values: int | float) -> None:
    """Refuses numbers that are not shares of a whole, from 0 to 1; arguments as in :func:`at_least`."""
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise UserError(f"{_option(options, name)} is {value}.", "Give a number from 0 to 1.")


def _option(options: str, name: str) -> str:
    return f"--{options}.{name}" if options else f"--{name.replace('_', '-')}"


def failure_number(error: BaseException) -> int | None:
    """The ``errno`` of an operating-system failure, which libraries written in Rust report only in words.

    >>> failure_number(OSError("No space left on device (os error 28)"))
    28
    """
    number = getattr(error, "errno", None)
    if number is None and (words := re.search(r"\(os error (\d+)\)", str(error))):
        number = int(words[1])
    return number


def nearest(name: str, valid: Iterable[str]) -> str:
    """A sentence that suggests the valid name nearest to ``name``, or lists all of them.

    >>> nearest("sasrek", ["sasrec", "caser"])
    "Did you mean 'sasrec'?"
    >>> nearest("x", ["sasrec", "caser"])
    'Choose one of: caser, sasrec.'
    """
    names = sorted(valid)
    close = difflib.get_close_matches(name, names, n=1)
    return f"Did you mean {close[0]!r}?" if close else f"Choose one of: {', '.join(names)}."
