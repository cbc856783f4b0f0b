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
QUOTED = re.compile(r'"[^"\n]*(?:"|$)|“[^”\n]*(?:”|$)', re.MULTILINE)
"""What stands in double quotes; an answer may be cut off before they close."""


def named_genres(text: str, genres: Iterable[str]) -> list[str]:
    """Genres that a text names, in the order of their first mention; words of quoted titles do not count.

    Args:
        text: What was written.
        genres: Names, words separated by spaces.

    >>> named_genres("Comedies, and science-fiction; no more comedy", ["drama", "comedy", "sci fi"])
    ['comedy', 'sci fi']
    >>> named_genres('"Star Wars (1977)" and other "sci-fi"', ["war", "sci fi"])
    ['sci fi']
    """
    patterns = {genre: _pattern(genre) for genre in genres}

    def unquoted(quoted: re.Match[str]) -> str:
        # A genre may be quoted as well.
        own = _words(quoted[0])
        return f" {own} " if any(re.fullmatch(pattern, own) for pattern in patterns.values()) else " "

    plain = _words(QUOTED.sub(unquoted, text))
    found = {genre: match.start() for genre, pattern in patterns.items() if (match := re.search(pattern, plain))}
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


def _words(text: str) -> str:
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))


def _pattern(genre: str) -> str:
    """One of a genre's names as whole words, its plural included."""
    spelt = (genre, *OTHER_SPELLINGS.get(genre, ()))
    names = [name[:-1] + "(?:y|ies)" if name.endswith("y") else f"{name}s?" for name in spelt]
    return rf"\b(?:{'|'.join(names)})\b"
