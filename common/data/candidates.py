"""Frozen evaluation candidates (PROTOCOL P2): drawn once, stored, shared by all models; no loop over users."""

from __future__ import annotations

import unicodedata
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import UserError
from common.types import Cases, Sequences

Ints = NDArray[np.signedinteger[Any]]

_FREE, _BLOCKED = -1, -2
# Cells in the table of one chunk: at two bytes each, it stays close to the caches.
_CELLS = 1 << 24


class TooFewItemsError(UserError):
    """A case has fewer eligible items than the protocol draws.

    Args:
        user: Id of its user, from 1; not the token by which the source knows the user.
        reason: What is wrong, as the rest of a sentence about the user.
    """

    def __init__(self, user: int, reason: str) -> None:
        super().__init__(f"User {user} {reason}", "Choose a protocol with fewer candidates, or full ranking.")
        self.user = user
        self.reason = reason


def normalise_title(title: str) -> str:
    """A title in a form that ignores case, character width, the encoding of accents, and spacing.

    >>> normalise_title("  Zelda II") == normalise_title("ZELDA   ii")
    True
    """
    return " ".join(unicodedata.normalize("NFKC", title).casefold().split())


def title_groups(titles: list[str]) -> NDArray[np.int64]:
    """A number per title, shared exactly by titles that normalise alike; an empty title shares it with none."""
    numbers: dict[str, int] = {}
    keys = [normalise_title(title) or f"\0{index}" for index, title in enumerate(titles)]
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


class CandidateSampler:
    """Draws, for each case, distinct items outside the user's complete history that are not namesakes of the target.

    Each pending slot proposes an item and keeps it if it is eligible and no other slot of the case holds it; the
    remaining slots propose again. Decisions depend only on whether items are equal, so relabelling the eligible items
    does not change the procedure: every ordered choice of distinct eligible items is exactly equally likely.

    Args:
        sequences: All events, by user.
        groups: Group of equal titles of each item; element 0 is item 1.
    """

    def __init__(self, sequences: Sequences, groups: NDArray[np.int64]) -> None:
        self.num_items = len(groups)
        self._offsets = sequences["offsets"].numpy()
        self._items = sequences["items"].numpy()
        self._groups = np.concatenate([[-1], groups])
        self._members = np.argsort(groups, kind="stable") + 1
        self._group_ends = np.cumsum(np.bincount(groups, minlength=1)) if len(groups) else np.zeros(1, dtype=np.int64)

    def draw(self, cases: Cases, count: int, seed: list[int], initial: Ints | None = None) -> NDArray[np.int32]:
        """``count`` candidates for each case, without its target, of shape (m, count).

        Args:
            cases: Users and positions of their targets.
            count: Candidates per case.
            seed: Entropy of the draw.
            initial: Candidates to keep where they are eligible and not repeated, of shape (m, count).

        Raises:
            TooFewItemsError: If a case has fewer than ``count`` eligible items.
        """
        generator = np.random.default_rng(seed)
        users, targets = cases["user"].numpy(), self._items[cases["position"].numpy()]
        candidates = np.empty((len(users), count), dtype=np.int32)
        rows = max(1, _CELLS // (self.num_items + 1))
        slots: type[np.signedinteger] = np.int16 if count <= np.iinfo(np.int16).max else np.int32
        table = np.full(min(rows, max(len(users), 1)) * (self.num_items + 1), _FREE, dtype=slots)
        for start in range(0, len(users), rows):
            chunk = slice(start, start + rows)
            blocked = self._blocked(users[chunk], targets[chunk], count)
            proposal = None if initial is None else initial[chunk]
            candidates[chunk] = self._fill(table, blocked, len(users[chunk]), count, generator, proposal)
        return candidates

    def _blocked(self, users: Ints, targets: Ints, count: int) -> NDArray[np.int64]:
        """The cells (row times width plus item) of the items that no slot of a row may hold."""
        starts = self._offsets[users]
        lengths = self._offsets[users + 1] - starts
        group_ends = self._group_ends[self._groups[targets]]
        sizes = group_ends - np.where(self._groups[targets] > 0, self._group_ends[self._groups[targets] - 1], 0)
        history_rows, places = _expand(starts, lengths)
        title_rows, members = _expand(group_ends - sizes, sizes)
        rows = np.concatenate([history_rows, title_rows])
        cells: NDArray[np.int64] = rows * (self.num_items + 1) + np.concatenate(
            [self._items[places], self._members[members]]
        )
        if self.num_items - int((lengths + sizes).max(initial=0)) < count:
            distinct = np.bincount(np.unique(cells) // (self.num_items + 1), minlength=len(users))
            worst = int(distinct.argmax())
            if self.num_items - distinct[worst] < count:
                left = self.num_items - distinct[worst]
                reason = f"leaves {left} of {self.num_items} items to draw {count} candidates from."
                raise TooFewItemsError(int(users[worst]), reason)
        return cells

    def _fill(
        self,
        table: NDArray[np.signedinteger],
        blocked: NDArray[np.int64],
        rows: int,
        count: int,
        generator: np.random.Generator,
        initial: Ints | None,
    ) -> NDArray[np.int32]:
        width = self.num_items + 1
        table[blocked] = _BLOCKED
        drawn = np.zeros(rows * count, dtype=np.int64)
        pending = np.arange(rows * count)
        proposal = None if initial is None else initial.reshape(-1).astype(np.int64)
        while len(pending):
            items = generator.integers(1, width, len(pending)) if proposal is None else proposal
            proposal = None
            row, slot = np.divmod(pending, count)
            cells = row * width + items
            # Among equal proposals of one round the last write wins, which depends on positions, never on the item.
            eligible = table[cells] == _FREE
            table[cells[eligible]] = slot[eligible]
            won = eligible & (table[cells] == slot)
            drawn[pending[won]] = cells[won]
            pending = pending[~won]
        table[drawn] = _FREE
        table[blocked] = _FREE
        candidates: NDArray[np.int32] = (drawn.reshape(rows, count) % width).astype(np.int32)
        return candidates


def _expand(starts: Ints, lengths: Ints) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and place of every element of the ranges ``starts[i] … starts[i] + lengths[i]``."""
    rows = np.repeat(np.arange(len(lengths)), lengths)
    before = np.cumsum(lengths) - lengths
    return rows, np.arange(len(rows)) + (starts - before)[rows]
