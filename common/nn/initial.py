"""Initial weights as the authors of the attention models draw them."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from common.nn.attention import AttentionMaps

Initial = Literal["xavier_uniform", "xavier_normal", "normal", "pytorch"]


@torch.no_grad()
def initialise_weights(model: nn.Module, initial: Initial) -> None:
    """Draws the weights of a model's tables and linear maps; padding rows become zero, layer norms stay as they are.

    Args:
        model: The model whose :class:`~torch.nn.Embedding` and :class:`~torch.nn.Linear` modules are drawn.
        initial: ``xavier_uniform``: uniform with Xavier's bound for each table and map, biases zero, as TensorFlow has
            it. ``xavier_normal``: normal with Xavier's deviation, where the maps to queries, keys and values count as
            one matrix; biases of attention are zero, others PyTorch's. ``normal``: N(0, 0.01²) for weights and biases.
            ``pytorch``: PyTorch's own values are kept.
    """
    if initial == "pytorch":
        return
    attentions = [module for module in model.modules() if isinstance(module, AttentionMaps)]
    joint = {attention.in_proj for attention in attentions}
    of_attention = joint | {attention.out_proj for attention in attentions}
    for module in model.modules():
        if not isinstance(module, nn.Embedding | nn.Linear):
            continue
        bias = getattr(module, "bias", None)
        if initial == "normal":
            nn.init.normal_(module.weight, std=0.01)
            if bias is not None:
                nn.init.normal_(bias, std=0.01)
        elif initial == "xavier_normal":
            nn.init.xavier_normal_(module.weight)
            if module in of_attention:
                nn.init.zeros_(module.bias)
        else:
            for part in module.weight.chunk(3 if module in joint else 1):
                nn.init.xavier_uniform_(part)
            if bias is not None:
                nn.init.zeros_(bias)
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            module.weight[module.padding_idx] = 0
