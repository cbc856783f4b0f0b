"""Numbers that a method cannot work with are refused by the name of their argument."""

from __future__ import annotations

from common.errors import UserError


def at_least(least: int, **arguments: int | None) -> None:
    """Looks whether arguments of a model reach ``least``; one that is not given may be ``None``.

    Raises:
        UserError: If one does not.
    """
    for name, value in arguments.items():
        if value is not None and value < least:
            raise UserError(f"--model.init_args.{name} is {value}", f"Give {least} or more.")


def above_zero(**arguments: float) -> None:
    """Looks whether arguments of a model are positive.

    Raises:
        UserError: If one is not.
    """
    for name, value in arguments.items():
        if value <= 0:
            raise UserError(f"--model.init_args.{name} is {value}", "Give a number above 0.")


def shares(**arguments: float) -> None:
    """Looks whether arguments of a model are shares of a whole.

    Raises:
        UserError: If one does not lie between 0 and 1.
    """
    for name, value in arguments.items():
        if not 0 <= value <= 1:
            raise UserError(f"--model.init_args.{name} is {value}", "Give a number from 0 to 1.")
