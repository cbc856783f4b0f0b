"""Accelerators of this machine, and which run has which of them."""

from __future__ import annotations

import math
import os

VISIBLE = "CUDA_VISIBLE_DEVICES"


def accelerators() -> int:
    """Accelerators of this machine, without waking them: a process that has cannot fork others that use them."""
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    import torch

    return torch.cuda.device_count()


class Devices:
    """Hands accelerators out.

    Runs of one device share one where more of them are wanted at a time than there are; a run of several devices
    has each of its own to itself, so that its processes wait for nobody.

    Args:
        number: How many there are; 0 for none to hand out.
    """

    def __init__(self, number: int) -> None:
        visible = os.environ.get(VISIBLE)
        names = visible.split(",")[:number] if visible else [str(index) for index in range(number)]
        self._load: dict[str, float] = dict.fromkeys(names, 0)

    def take(self, number: int) -> list[str] | None:
        """Names of ``number`` devices, or of all where there are fewer; ``None`` as long as they are not free."""
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
        """Takes back what :meth:`take` handed out."""
        for name in names:
            self._load[name] = 0 if self._load[name] == math.inf else self._load[name] - 1


def environment(names: list[str]) -> dict[str, str]:
    """What a process must find in its environment to see these devices alone; nothing where there are none."""
    return {VISIBLE: ",".join(names)} if names else {}
