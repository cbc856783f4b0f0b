"""Genres in free text: which ones an answer names, and how many of those are the user's favourites.

S. Kim et al., "Large Language Models meet Collaborative Filtering", KDD 2024 (https://arxiv.org/abs/2404.11343), 5.4.4,
shows such answers as pictures alone; to count them is ours.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

OTHER_SPELLINGS = {"sci fi": ("science fiction", "scifi"), "children": ("childrens", "kids"), "film noir": ("noir",)}
"""How free text also calls a genre."""


def named_genres(text: str, genres: Iterable[str]) -> list[str]:
    """Genres that a text names, in the order of their first mention.

    Args:
        text: What was written.
        genres: Names, words separated by spaces.

    >>> named_genres("Comedies, and science-fiction; no more comedy", ["drama", "comedy", "sci fi"])
    ['comedy', 'sci fi']
    """
    plain = " ".join(re.findall(r"[a-z0-9]+", text.lower()))
    found = {genre: match.start() for genre in genres if (match := re.search(_pattern(genre), plain))}
    return sorted(found, key=lambda genre: found[genre])


def favourites(history: Iterable[Collection[str]], count: int) -> set[str]:
    """The genres that occur most often in a history, with all that are tied with the last of them.

    Args:
        history: Genres of each item.
        count: How many.

    >>> sorted(favourites([{"war", "drama"}, {"drama"}, {"war"}, {"crime"}], 1))
    ['drama', 'war']
    """
    counts = Counter(genre for item in history for genre in item)
    least = min((times for _, times in counts.most_common(count)), default=0)
    return {genre for genre, times in counts.items() if times >= least}


def precision(named: Sequence[str], liked: Collection[str], count: int) -> float:
    """Share of the first ``count`` named genres that are liked; a genre that is not named is a miss.

    >>> precision(["war", "drama"], {"war"}, 1), precision(["war"], {"war"}, 2)
    (1.0, 0.5)
    """
    return sum(genre in liked for genre in named[:count]) / count


def _pattern(genre: str) -> str:
    """One of a genre's names as whole words, its plural included."""
    names = [name[:-1] + "(?:y|ies)" if name.endswith("y") else f"{name}s?" for name in _names(genre)]
    return rf"\b(?:{'|'.join(names)})\b"


def _names(genre: str) -> tuple[str, ...]:
    return (genre, *OTHER_SPELLINGS.get(genre, ()))
