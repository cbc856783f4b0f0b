"""Ablations of stage 2: prompts that lack something, in training as well as in tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from allmrec.composer import Shown

Ablation = Literal[
    "none", "no_user", "no_joint", "random_joint", "vectors_only", "anonymous_titles", "shuffled_history"
]
"""What stage 2 goes without; titles alone, with neither user nor joint vectors, are the row of ``LLMOnly``.

* ``no_user``, ``no_joint``: no vector of the user, or none of items. The first three are the paper's table 9: S. Kim et
  al., "Large Language Models meet Collaborative Filtering", KDD 2024 (https://arxiv.org/abs/2404.11343).
* ``random_joint``: in the place of each item's joint vector one that is drawn at random and stays.
* ``vectors_only``: no title in the prompt, so that one has to be named from its vector.
* ``anonymous_titles``: names without meaning instead of titles, in the prompt and in the answer.
* ``shuffled_history``: the history's shown items in random order; the user's vector still reflects the true one.
"""

SHOWN: dict[Ablation, Shown] = {
    "no_user": Shown(user=False),
    "no_joint": Shown(joint=False),
    "vectors_only": Shown(titles=False),
    "shuffled_history": Shown(in_order=False),
}
SEED = 0
"""Seed of names and vectors: never a run's own, so that all runs of an ablation differ in training alone."""


def anonymous(titles: Sequence[str]) -> list[str]:
    """Names of equal length for all items, numbered at random, since ids may tell time; index 0 is padding.

    >>> sorted(anonymous(["", "red wolf", "sea"]))
    ['', 'item 1', 'item 2']
    """
    count = len(titles) - 1
    numbers = 1 + torch.randperm(count, generator=torch.Generator().manual_seed(SEED))
    return ["", *(f"item {number:0{len(str(count))}d}" for number in numbers.tolist())]


def random_like(joint: Float[Tensor, "i_plus_1 z"]) -> Float[Tensor, "i_plus_1 z"]:
    """Random vectors as large as joint vectors are, one an item; row 0 is padding and zero."""
    drawn = torch.randn(joint.shape, generator=torch.Generator().manual_seed(SEED)).to(joint)
    drawn[0] = 0
    return drawn * joint[1:].std()
