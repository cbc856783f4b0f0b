"""Which parameters weight decay is for."""

from __future__ import annotations

from typing import Any

from torch import nn


def biases_apart(model: nn.Module) -> list[dict[str, Any]]:
    """Groups of weights, which decay, and of biases, which do not, as ReChorus and LRD's code tell them apart.

    >>> [len(group["params"]) for group in biases_apart(nn.LSTM(2, 3))]
    [2, 2]
    """
    biases = [value for name, value in model.named_parameters() if "bias" in name]
    weights = [value for name, value in model.named_parameters() if "bias" not in name]
    return [{"params": weights}, {"params": biases, "weight_decay": 0.0}]
