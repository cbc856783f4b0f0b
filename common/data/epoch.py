"""The number of the current epoch, shared with the processes that load data."""

from __future__ import annotations

import torch


class SharedEpoch:
    """An epoch's number in shared memory, so that loader workers that outlive an epoch see the next one's number."""

    def __init__(self) -> None:
        self._number = torch.zeros(1, dtype=torch.long)
        self._number.share_memory_()

    def set(self, epoch: int) -> None:
        """Sets the number in all processes."""
        self._number.fill_(epoch)

    def __int__(self) -> int:
        return int(self._number)
