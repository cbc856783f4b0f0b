"""Messages say what is wrong and what to do."""

import pytest

from common.errors import DataError, UserError, nearest


def test_message_holds_what_is_wrong_and_then_the_cure() -> None:
    error = DataError("a.csv, line 3: no number", "Fix the line.")
    assert isinstance(error, UserError)
    assert str(error) == "a.csv, line 3: no number\nFix the line."


@pytest.mark.parametrize(("name", "offered"), [("ml100k", "ml-100k"), ("amazon-ofice", "amazon-office")])
def test_a_slip_is_answered_by_the_nearest_name(name: str, offered: str) -> None:
    assert nearest(name, ["ml-100k", "amazon-office"]) == f"Did you mean {offered!r}?"


def test_a_name_near_none_is_answered_by_all_of_them() -> None:
    assert nearest("zzz", ["b", "a"]) == "Choose one of: a, b."
