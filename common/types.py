"""The batch and catalogue types through which data and models communicate; besides, they share only `common.errors`.

Ids of users and items start at 1; 0 is padding. Times are Unix seconds (``int64``). Shapes use one vocabulary:
``b`` batch, ``l`` history length, ``p`` trained positions (``l``, or 1 for a single next item), ``c`` candidates,
``k`` negatives, ``d`` width, ``s`` seen items, ``n`` events, ``m`` cases, ``u`` users, ``i`` items.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypedDict, runtime_checkable

if TYPE_CHECKING:
    # Only annotations need PyTorch, which takes seconds to import.
    from jaxtyping import Float, Int
    from torch import Tensor

PAD = 0
"""Id of the padding user and item, and the value of every padded slot."""

TimeKind = Literal["real", "imputed", "ordinal"]
"""Whether a source's times were recorded, imputed, or are mere positions in a user's history."""


class SequenceBatch(TypedDict, total=False):
    """What a DataLoader yields and a model reads. Which keys are present depends on the use.

    Always: ``user_id``, ``history``, ``history_time``, ``target_time``. In training: ``targets`` and, if the
    objective needs them, ``negatives``. In evaluation: ``protocol``, ``case_id``, ``target`` and either
    ``candidates`` (sampled protocols) or ``seen`` (full ranking).
    """

    user_id: Int[Tensor, "b"]
    history: Int[Tensor, "b l"]
    """Item ids, oldest first, right-aligned: the newest event is in the last column, ``PAD`` fills the left."""
    history_time: Int[Tensor, "b l"]
    """Time of each history event; 0 where padded."""
    target_time: Int[Tensor, "b"]
    """Time of the (newest) target event, which is the query time for models that use one."""

    targets: Int[Tensor, "b p"]
    """Next item at each of the last ``p`` history positions, ``PAD`` where there is none."""
    negatives: Int[Tensor, "b q k"]
    """``k`` sampled items per position; ``q`` is ``p``, or 1 where all positions of a window share one draw."""

    protocol: str
    """Name of the evaluation protocol: ``full``, ``full-unmasked``, ``sampled-99``, …"""
    case_id: Int[Tensor, "b"]
    """Index of the test case in its stored split; a case may occur twice, to give every process as many batches."""
    target: Int[Tensor, "b"]
    candidates: Int[Tensor, "b c"]
    """Items to rank, the target in column 0."""
    seen: Int[Tensor, "b s"]
    """Distinct items that full ranking leaves out, never the target; ``PAD`` fills the right."""


class Sequences(TypedDict):
    """Events in compressed rows: those of user ``u`` are ``offsets[u]:offsets[u + 1]``, oldest first."""

    offsets: Int[Tensor, "u_plus_2"]
    """Row 0 belongs to the padding user and is empty."""
    items: Int[Tensor, "n"]
    times: Int[Tensor, "n"]


class Cases(TypedDict):
    """Evaluation cases: ``position`` indexes the target in ``Sequences.items``; earlier events are the history."""

    user: Int[Tensor, "m"]
    position: Int[Tensor, "m"]


class Split(TypedDict):
    """Sequences with their division into training events and evaluation cases."""

    sequences: Sequences
    train_end: Int[Tensor, "u_plus_1"]
    """First position of each user that is not a training event (an index into ``sequences.items``)."""
    val: Cases
    test: Cases


class Catalogue(TypedDict, total=False):
    """Everything known about items and training events; passed once to ``Recommender.attach``."""

    num_users: int
    num_items: int
    num_interactions: int
    """Number of events of all users, held-out ones included; the total reveals nothing about a single one."""
    time: TimeKind
    train: Sequences
    """Training events only."""
    train_count: Int[Tensor, "i_plus_1"]
    """Number of training events of each item; 0 for padding and for items never trained on."""
    least_events: int
    """Training events that a user needs to be trained on: where instances have a history, one event makes none."""
    titles: list[str]
    """Title of each item, ``""`` where it has none; index 0 is padding."""
    texts: list[str]
    """Text of each item by the recipe's template; index 0 is padding."""
    text_cache: Path
    """Folder in which vectors of texts are kept, for whoever makes some."""
    text_vectors: Float[Tensor, "i_plus_1 w"]
    """Language-model vector of each item's text; row 0 is padding."""
    text_source: dict[str, str]
    """Origin of the vectors: a ``name`` for tables, and the ``identity`` of encoder and post-processing."""
    relations: dict[str, Int[Tensor, "m 2"]]
    """Head and tail items of each item-item relation, by name."""
    attributes: dict[str, Int[Tensor, "i_plus_1"]]
    """Value id of each item for each attribute, by name; 0 where unknown."""
    words: dict[str, list[str]]
    """Each attribute's values in words, by name, ``""`` where unknown; index 0 is padding. Genres are one attribute."""


@runtime_checkable
class DataModule(Protocol):
    """What a model may ask of the trainer's DataModule."""

    @property
    def catalogue(self) -> Catalogue:
        """Everything known about items and training events."""

    def case_loader(self, phase: Literal["val", "test"], protocol: str) -> Iterable[SequenceBatch]:
        """Evaluation cases of ``phase`` under ``protocol``, in batches."""
