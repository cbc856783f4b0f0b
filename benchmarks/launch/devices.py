"""The accelerators of this machine, and their assignment to runs."""

from __future__ import annotations

import math
import os

VISIBLE = "CUDA_VISIBLE_DEVICES"


def accelerators() -> int:
    """Number of accelerators, without initialising CUDA: after that, a process cannot fork others that use it."""
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    import torch

    return torch.cuda.device_count()


class Devices:
    """Assigns accelerators to runs.

    Runs on one device share it if there are more runs than devices. A run on several devices has them to itself, so
    that its processes never wait for another run.

    Args:
        number: How many there are; 0 to assign none.
    """

    def __init__(self, number: int) -> None:
        visible = os.environ.get(VISIBLE)
        names = visible.split(",")[:number] if visible else [str(index) for index in range(number)]
        self._load: dict[str, float] = dict.fromkeys(names, 0)

    def take(self, number: int) -> list[str] | None:
        """Names of ``number`` devices, or of all if there are fewer; ``None`` while they are not free."""
        if not self._load:
            return []
        if number == 1:
            name = min(self._load, key=lambda name: self._load[name])
            if self._load[name] == math.inf:
                return None
            self._load[name] += 1
            return [name]
        free = [name for name, load in self._load.items() if not load]
        wanted = min(number, len(self._load))
        if len(free) < wanted:
            return None
        self._load |= dict.fromkeys(free[:wanted], math.inf)
        return free[:wanted]

    def give_back(self, names: list[str]) -> None:
        """Releases devices that :meth:`take` has assigned."""
        for name in names:
            self._load[name] = 0 if self._load[name] == math.inf else self._load[name] - 1


def only_visible(names: list[str]) -> dict[str, str]:
    """The environment variables that make only these devices visible to a process; none for no devices."""
    return {VISIBLE: ",".join(names)} if names else {}
