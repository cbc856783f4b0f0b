from typing import Any

import pytest

from benchmarks.leaderboard.labels import labels_of, told_by_id
from tests.benchmarks.made_results import made_result


def endings(*settings: dict[str, Any]) -> list[str]:
    """What stands behind the name of each row, for rows of one method."""
    rows = {f"{number}f" * 6: made_result("kda", 0.1, settings=given) for number, given in enumerate(settings)}
    return [label.removeprefix("kda").strip(" []") for label in labels_of(rows).values()]


def test_rows_of_one_method_say_what_differs() -> None:
    shared = {"model.width": 8}
    assert endings(shared) == [""]
    assert endings(shared | {"model.lr": 0.1}, shared | {"model.lr": 0.2}) == ["lr 0.1", "lr 0.2"]
    assert endings(shared, shared | {"model.tied": True}) == ["tied none", "tied true"]
    assert endings({"a": 1, "b": 1}, {"a": 1, "b": 2}, {"a": 2, "b": 2}) == ["a 1, b 1", "a 1, b 2", "a 2, b 2"]


def test_names_that_end_alike_are_whole() -> None:
    assert endings({"a.lr": 1, "b.lr": 1}, {"a.lr": 2, "b.lr": 3}) == ["a.lr 1, b.lr 1", "a.lr 2, b.lr 3"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param({"a": 1}, {"a": 1}, id="other predecessors"),
        pytest.param({"a": 1}, {}, id="unknown settings"),
        pytest.param(dict.fromkeys("abcd", 1), dict.fromkeys("abcd", 2), id="many settings"),
        pytest.param({"a": "x" * 60}, {"a": "y" * 60}, id="long values"),
    ],
)
def test_ids_tell_apart_what_settings_do_not(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert endings(one, other) == ["0f0f", "1f1f"]


def test_ids_that_begin_alike_are_told_apart_by_more_letters() -> None:
    ids = ["abcd1fffffff", "abcd2fffffff", "bbbbbbbbbbbb"]
    labels = labels_of({name: made_result("kda", 0.1) for name in ids})
    assert labels == dict(zip(ids, ("kda [abcd1]", "kda [abcd2]", "kda [bbbbb]"), strict=True))
    assert all(told_by_id(label, name) for name, label in labels.items())
    assert not told_by_id("kda [lr 0.1]", ids[0])
    assert not told_by_id("abcd", ids[0])


def test_other_methods_keep_their_names() -> None:
    rows = {"1": made_result("kda", 0.1), "2": made_result("rcf", 0.1)}
    assert labels_of(rows) == {"1": "kda", "2": "rcf"}
