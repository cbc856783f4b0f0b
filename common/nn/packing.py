"""Real positions of padded histories as rows, one after the other.

Histories are padded to a rectangle, and on sparse data most of it is padding. Whatever looks at one position at a time
(maps, norms, dropout) costs a fraction on the real ones alone.
"""

from __future__ import annotations

from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor


class PackedRows:
    """The real positions of a rectangle, with conversions in both directions.

    Attributes:
        shape: ``(b, l)`` of the rectangle.
        slots: Place of each row in the flattened rectangle, shape ``(n,)``, user by user, oldest first.

    Args:
        real: Which positions are real, shape ``(b, l)``: in each history the last ones.
    """

    def __init__(self, real: Bool[Tensor, "b l"]) -> None:
        self.real = real
        self.shape = tuple(real.shape)
        self.slots = real.flatten().nonzero().squeeze(1)

    @property
    def earlier(self) -> Int[Tensor, "n"]:
        """How many rows each row's history has before it."""
        return self.pack(self.real.cumsum(1)) - 1

    def unpack(self, rows: Float[Tensor, "n d"], fill: Float[Tensor, "d"] | None = None) -> Float[Tensor, "b l d"]:
        """Puts rows into the rectangle, shape ``(b, l, d)``; ``fill`` (default zero) goes into padded slots."""
        count, width = self.shape[0] * self.shape[1], rows.size(1)
        blank = rows.new_zeros(count, width) if fill is None else fill.to(rows.dtype).expand(count, width)
        return blank.index_copy(0, self.slots, rows).view(*self.shape, width)

    def pack(self, states: Shaped[Tensor, "b l *d"]) -> Shaped[Tensor, "n *d"]:
        """Takes the real positions out of the rectangle, shape ``(n, …)``."""
        return states.flatten(0, 1).index_select(0, self.slots)
