"""The classes that a name may stand for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

T = TypeVar("T")


def descendants(cls: type[T]) -> Iterator[type[T]]:
    """All classes derived from ``cls`` whose modules have been imported."""
    for child in cls.__subclasses__():
        yield child
        yield from descendants(child)
