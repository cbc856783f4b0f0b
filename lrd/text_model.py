"""What models that read item texts remember of them: whose vectors they are, for tables and for checkpoints."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from common.errors import UserError
from common.models.base import Recommender
from common.types import Catalogue

DIGEST = "texts_digest"


class TextModel(Recommender):
    """A model that may read vectors of item texts; its checkpoints refuse those of another encoder or file."""

    texts_digest: Tensor

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 (forwarded)
        super().__init__(*args, **kwargs)
        self.register_buffer(DIGEST, torch.zeros((), dtype=torch.long))
        self.text_name = ""

    def attach(self, catalogue: Catalogue) -> None:
        """Remembers what the item vectors are, if the model reads them."""
        super().attach(catalogue)
        source = catalogue.get("text_source")
        if source is None or "text" not in self.information_set:
            return
        self.text_name = source["name"]
        sha = hashlib.sha256(source["identity"].encode()).digest()
        self.texts_digest.fill_(int.from_bytes(sha[:7], "big") + 1)

    def table_marks(self) -> list[str]:
        """Whose vectors of texts the model reads; the papers' own are not to be had."""
        return [*super().table_marks(), *([f"texts by {self.text_name}"] if self.text_name else [])]

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 (PyTorch's)
        """Loads weights.

        Raises:
            UserError: If they were trained on other vectors of the texts. Weights that say nothing of them are taken.
        """
        own = self.texts_digest.clone()
        trained = state_dict.get(DIGEST, own)
        if own and trained and int(trained) != int(own):
            raise UserError(
                f"These weights were trained on other item vectors than those of {self.text_name}: the encoder or the "
                "vector file has changed since.",
                "Give the vectors of the training, or train again with --force.",
            )
        return super().load_state_dict({**state_dict, DIGEST: own}, *args, **kwargs)
