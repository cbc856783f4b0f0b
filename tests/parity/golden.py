"""Reads parity tensors and compares a module with them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

TOLERANCE = 1e-6


class Golden(NamedTuple):
    """Tensors by their full key and the arguments of the released model."""

    tensors: dict[str, Tensor]
    args: dict[str, Any]

    def group(self, prefix: str) -> dict[str, Tensor]:
        return {key.removeprefix(prefix): value for key, value in self.tensors.items() if key.startswith(prefix)}


def read(path: Path) -> Golden:
    """All tensors of a file, and its metadata with ``args`` decoded and laid over the rest."""
    with safe_open(path, "pt") as file:
        metadata = dict(file.metadata())
    return Golden(load_file(path), {**metadata, **json.loads(metadata["args"])})


def load(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copies weights by our names into a model in float64; every parameter of the model must be named."""
    model.double().load_state_dict(weights, strict=True)


def assert_same(ours: Tensor, theirs: Tensor) -> None:
    """Equal within 1e-6, relative to each value, with a floor of 1e-6 times the largest."""
    floor = TOLERANCE * float(theirs.abs().max())
    torch.testing.assert_close(ours, theirs, rtol=TOLERANCE, atol=floor)


def assert_same_gradients(model: nn.Module, theirs: Mapping[str, Tensor]) -> None:
    """All gradients equal within 1e-6 relative, with a floor of 1e-6 times the largest of the file."""
    floor = TOLERANCE * max(float(gradient.abs().max()) for gradient in theirs.values())
    ours = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert set(ours) == set(theirs)
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, rtol=TOLERANCE, atol=floor, msg=f"{name}: ".__add__)
