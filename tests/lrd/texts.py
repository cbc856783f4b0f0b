"""A toy catalogue with vectors of texts."""

import torch

from common.types import Catalogue
from tests.common.models import toy

VECTORS = torch.nn.functional.pad(torch.randn(toy.NUM_ITEMS, 5), (0, 0, 1, 0))


def catalogue() -> Catalogue:
    return {**toy.catalogue(), "text_vectors": VECTORS}
