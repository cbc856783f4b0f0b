"""Genres are found as whole words, in any of their spellings, and judged by counts."""

import pytest

from allmrec.genres import favourites, named_genres, precision

GENRES = ["action", "children", "comedy", "drama", "film noir", "sci fi", "war"]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("War, comedy and war again", ["war", "comedy"]),
        ("Film-Noir or Sci-Fi", ["film noir", "sci fi"]),
        ("SCIENCE FICTION; children's movies", ["sci fi", "children"]),
        ("comedies, dramas", ["comedy", "drama"]),
        ("a dramatic warning, reaction", []),
        ("", []),
    ],
)
def test_names_are_whole_words(text: str, named: list[str]) -> None:
    assert named_genres(text, GENRES) == named


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('"Star Wars (1977)", "Kids in the Hall: Brain Candy (1996)", "Crimes of the Heart"', []),
        ("“War Games”, drama, “Action Jackson”", ["drama"]),
        ("children's movies such as \"Dr. No\", and people's dramas", ["children", "drama"]),
        ('"Comedy", "Sci-Fi", and “dramas”', ["comedy", "sci fi", "drama"]),
        ('comedy, as in "The War of the', ["comedy"]),
        ('comedy, as in "The War of the\ndrama', ["comedy", "drama"]),
    ],
)
def test_words_of_quoted_titles_name_no_genre(text: str, named: list[str]) -> None:
    assert named_genres(text, GENRES) == named


def test_favourites_are_the_most_frequent_and_what_is_tied_with_them() -> None:
    history = [{"war"}, {"war", "drama"}, {"war", "comedy"}, set[str]()]
    assert favourites(history, 1) == {"war"}
    assert favourites(history, 2) == favourites(history, 3) == {"war", "drama", "comedy"}
    assert favourites([], 2) == set()


def test_precision_divides_by_what_was_asked_for() -> None:
    assert precision(["war", "drama", "action"], {"war", "action"}, 3) == pytest.approx(2 / 3)
    assert precision([], {"war"}, 1) == 0
