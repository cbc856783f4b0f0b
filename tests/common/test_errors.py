"""Messages say what is wrong and what to do."""

import math
from collections.abc import Callable

import pytest

from common.errors import DataError, UserError, above_zero, at_least, nearest, shares


def test_message_holds_what_is_wrong_and_then_the_cure() -> None:
    error = DataError("a.csv, line 3: no number", "Fix the line.")
    assert isinstance(error, UserError)
    assert str(error) == "a.csv, line 3: no number\nFix the line."


@pytest.mark.parametrize(("name", "offered"), [("ml100k", "ml-100k"), ("amazon-ofice", "amazon-office")])
def test_a_slip_is_answered_by_the_nearest_name(name: str, offered: str) -> None:
    assert nearest(name, ["ml-100k", "amazon-office"]) == f"Did you mean {offered!r}?"


def test_a_name_near_none_is_answered_by_all_of_them() -> None:
    assert nearest("zzz", ["b", "a"]) == "Choose one of: a, b."


def test_a_number_that_is_too_small_is_refused_by_its_option() -> None:
    at_least(1, "data", width=1, users=None)
    with pytest.raises(UserError, match=r"--data.users is 0\.\nGive 1 or more\."):
        at_least(1, "data", width=1, users=0)
    with pytest.raises(UserError, match=r"--model.width is -1\.\nIt is a size: give 0 or more\."):
        at_least(0, "model", reason="It is a size", width=-1)
    with pytest.raises(UserError, match=r"--data.width is nan"):
        at_least(1, "data", width=math.nan)
    with pytest.raises(UserError, match=r"^--max-tokens is 0\.\n"):
        at_least(1, "", max_tokens=0)


@pytest.mark.parametrize(
    ("check", "accepted", "refused"),
    [(above_zero, 0.1, 0), (above_zero, 0.1, math.nan), (shares, 1, 1.1), (shares, 0, -0.1)],
)
def test_a_number_out_of_range_is_refused_by_its_option(
    check: Callable[..., None], accepted: int | float, refused: int | float
) -> None:
    check(rate=accepted)
    with pytest.raises(UserError, match=f"--model.rate is {refused}.\nGive a number"):
        check(rate=refused)
