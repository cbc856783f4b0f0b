"""Hyper-parameters of models that are built on other models."""

from __future__ import annotations

import inspect

import lightning as L


def keep_own(model: L.LightningModule) -> None:
    """Forgets hyper-parameters that a parent class has saved and the model's own class does not take as arguments."""
    for name in model.hparams.keys() - inspect.signature(type(model)).parameters.keys():
        model.hparams.pop(name)
