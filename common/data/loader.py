"""DataLoaders of batches: where an interrupted epoch goes on, and when workers start."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias, cast

from torch.utils.data import DataLoader

from common.data.datasets import EpochSampler
from common.types import SequenceBatch

Loader: TypeAlias = DataLoader[SequenceBatch]


class LazyLoader(DataLoader[SequenceBatch]):
    """A DataLoader whose workers start when the first batch is requested, and whose state is kept in checkpoints.

    Lightning creates the iterator of a resumed run before it sets the sampler's epoch; workers that started with the
    iterator would prefetch from the wrong epoch. A run that is resumed within an epoch goes on behind the batches that
    the epoch has had; Lightning alone would give it the epoch's first batches again.
    """

    _given = 0
    _resumed: Mapping[str, int] | None = None

    def __iter__(self) -> Iterator[SequenceBatch]:  # type: ignore[override]  # the parent names its class
        """Batches of one epoch, or the rest of one that was interrupted."""
        resumed, self._resumed = self._resumed, None
        self._given = resumed["given"] if resumed and resumed["epoch"] == self._epoch else 0
        if isinstance(self.sampler, EpochSampler):
            self.sampler.first = self._given * (self.batch_size or 1)
        for batch in super().__iter__():
            self._given += 1
            yield batch

    @property
    def _epoch(self) -> int:
        return self.sampler.epoch if isinstance(self.sampler, EpochSampler) else 0

    def state_dict(self) -> dict[str, int]:
        """The epoch, and the number of its batches that were given."""
        return {"epoch": self._epoch, "given": self._given}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Goes on in the epoch of ``state`` behind the batches that it had; other epochs begin at their start."""
        self._resumed = state


def as_is(batch: object) -> SequenceBatch:
    """The batch: datasets here answer a list of indices with a whole batch."""
    return cast(SequenceBatch, batch)
