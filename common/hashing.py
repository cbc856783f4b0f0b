"""SplitMix64's mixing function: hashes of integers that are the same on every machine and device.

G. L. Steele, D. Lea and C. H. Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014
(https://doi.org/10.1145/2660193.2660195). Tensors hold the 64-bit words as ``int64``, whose products wrap around as
those of unsigned words do.
"""

from __future__ import annotations

from jaxtyping import Int
from torch import Tensor

GOLDEN_GAMMA = 0x9E3779B97F4A7C15 - 2**64
"""The increment of SplitMix64, 2⁶⁴ divided by the golden ratio, as ``int64``."""

_ROUNDS = ((30, 0xBF58476D1CE4E5B9 - 2**64), (27, 0x94D049BB133111EB - 2**64))


def multiply_rounds(words: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """The two xor-shift-multiply rounds of :func:`mix64`, enough where only the order of the results matters."""
    for shift, factor in _ROUNDS:
        words = (words ^ _shifted(words, shift)) * factor
    return words


def mix64(words: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """SplitMix64's finaliser, a one-to-one map in which each input bit changes about half of the output bits.

    ``mix64(seed + i * GOLDEN_GAMMA)`` is the ``i``-th output of the generator, counted from 1.
    """
    words = multiply_rounds(words)
    return words ^ _shifted(words, 31)


def _shifted(words: Tensor, bits: int) -> Tensor:
    """Shifts to the right and fills with zeros; ``>>`` alone would repeat the sign bit."""
    return (words >> bits) & ((1 << (64 - bits)) - 1)
