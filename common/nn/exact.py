"""Where numbers of double precision are computed."""

from __future__ import annotations

import torch


def float64_device(device: torch.device) -> torch.device:
    """The device itself, or the CPU beside an Apple GPU, which has no float64.

    >>> float64_device(torch.device("cuda")), float64_device(torch.device("mps"))
    (device(type='cuda'), device(type='cpu'))
    """
    return torch.device("cpu") if device.type == "mps" else device
