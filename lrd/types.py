"""The batches through which the data of relations and the models that learn them communicate.

Shapes as in :mod:`common.types`, with ``t`` triplets and ``k`` a true one beside its corruptions.
"""

from __future__ import annotations

from typing import TypedDict

from jaxtyping import Int
from torch import Tensor

from common.types import SequenceBatch


class TripletBatch(TypedDict):
    """True triplets in column 0 and their corruptions behind; ``value`` is added to the relation (0: none)."""

    head: Int[Tensor, "t k"]
    relation: Int[Tensor, "t"]
    tail: Int[Tensor, "t k"]
    value: Int[Tensor, "t"]


class RelationalBatch(SequenceBatch, total=False):
    """A training batch with what relations are learnt from."""

    negative_history: Int[Tensor, "b l"]
    """One sampled item per history slot."""
    triplets: TripletBatch
