"""The genre task: users' favourites, texts that are judged, and the answer that suits everybody."""

import json
from pathlib import Path

import polars as pl
import pytest

from benchmarks.__main__ import main
from benchmarks.evaluate import load_run
from benchmarks.generate import drawn, genres_of, judged, page
from common.errors import UserError

WAR, DRAMA = frozenset({"war"}), frozenset({"drama"})


def test_texts_are_judged_by_each_users_own_history() -> None:
    report = judged({"a": "war films", "b": "war, then drama", "c": "hm"}, [[WAR], [DRAMA], [DRAMA]], ["drama", "war"])
    assert report["precision"]["@1"] == pytest.approx(1 / 3)
    assert report["precision"]["@2"] == pytest.approx((1 / 2 + 1 / 2 + 0) / 3)
    assert report["everybody"]["@1"] == pytest.approx(2 / 3)
    assert report["silent"] == pytest.approx(1 / 3)
    assert report["users"]["b"] == {"text": "war, then drama", "named": ["war", "drama"], "favourites": ["drama"]}


def test_the_draw_of_users_is_always_the_same() -> None:
    assert drawn(50, 10) == drawn(50, 10) == sorted(set(drawn(50, 10)))
    assert drawn(5, 10) == [1, 2, 3, 4, 5]


def test_genres_are_read_from_columns(floor: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, _ = load_run(floor)
    count = module.num_items - 2
    flags = {"genre_film_noir": ["1", "", *[""] * count], "genre_unknown": ["", "1", *[""] * count]}
    items = module.store.items().with_columns(**{name: pl.Series(values) for name, values in flags.items()})
    monkeypatch.setattr(type(module.store), "items", lambda _: items)
    kinds, asked = genres_of(module)
    assert kinds[:3] == [frozenset(), {"film noir"}, frozenset()]
    assert "genres" in asked


def test_categories_stand_for_genres_where_they_are_words(floor: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, _ = load_run(floor)
    count, items = module.num_items - 2, module.store.items()
    shown = [items.with_columns(category=pl.Series(["Home & Garden", "", *["Office"] * count]))]
    monkeypatch.setattr(type(module.store), "items", lambda _: shown[-1])
    kinds, asked = genres_of(module)
    assert kinds[:4] == [frozenset(), {"home garden"}, frozenset(), {"office"}]
    assert "categories" in asked
    shown.append(items.with_columns(category=pl.Series(["12"] * (count + 2))))
    with pytest.raises(UserError, match="knows no genres"):
        genres_of(module)


def test_a_page_holds_precision_and_every_text() -> None:
    report = judged({"a": "war | films\nand more", "b": "hm"}, [[WAR], [DRAMA]], ["drama", "war"])
    lines = [" ".join(line.split()) for line in page("Title", "Likes", report).splitlines()]
    assert lines[0] == "# Title"
    assert "| what it says | 0.5000 | 0.2500 | 0.1667 |" in lines
    assert "| a | war / films and more | war | war |" in lines
    assert "| b | hm | | drama |" in lines


def test_a_user_who_is_named_twice_is_asked_once(
    floor: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module, _ = load_run(floor)
    monkeypatch.setattr("benchmarks.generate.LanguageModelRanker", object)
    monkeypatch.setattr("benchmarks.generate.texts_about", lambda users, *_: ["war"] * len(users))
    monkeypatch.setattr("benchmarks.generate.genres_of", lambda _: ([WAR] * (module.num_items + 1), "Likes"))
    first, second, *_ = module.store.user_tokens()
    capsys.readouterr()
    assert main(["generate", str(floor), "--genres", "--json", "--user", second, first, second]) == 0
    assert list(json.loads(capsys.readouterr().out)["users"]) == [second, first]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "No user is named"),
        (["--genres", "--sample", "0"], "--sample is 0"),
        (["--genres"], "writes no text"),
        (["--user", "1", "--out", "x"], "Give --genres"),
        (["--user", "1", "--genres", "--sample", "5"], "--sample is for when no user is named"),
        (["--user", "1", "--genres", "--sample", "100"], "--sample is for when no user is named"),
    ],
)
def test_mistakes_are_told(floor: Path, given: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", str(floor), *given]) == 2
    assert message in capsys.readouterr().err
