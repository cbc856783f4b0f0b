"""SASRec on items that carry their texts: the control that uses language-model vectors without any relation."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from common.models.hyperparameters import keep_own
from common.models.sasrec import SASRec
from common.nn.losses import Objective
from common.types import Catalogue, SequenceBatch
from lrd.entities import TextItemEmbedding
from lrd.text_model import TextModel


class TextSASRec(TextModel, SASRec):
    """SASRec as LRD's authors run it, with text added to the item vectors (:class:`TextItemEmbedding`).

    Args:
        num_items: Number of items.
        text_width: Width of the text vectors.
        max_history: Longest history that is read.
        width: Width of vectors and states.
        num_blocks: Number of blocks.
        num_heads: Attention heads of a block.
        dropout: Dropout rate.
        objective: Training loss.
        lr: Learning rate of Adam.
        weight_decay: L2 coefficient of Adam.
        betas: Decay rates of Adam's moments.
    """

    information_set = frozenset({"order", "text"})

    def __init__(
        self,
        num_items: int,
        text_width: int,
        max_history: int = 20,
        width: int = 64,
        num_blocks: int = 1,
        num_heads: int = 4,
        dropout: float = 0.0,
        objective: Objective = "bpr",
        lr: float = 1e-3,
        weight_decay: float = 1e-6,
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:
        super().__init__(
            num_items,
            max_history,
            "lrd",
            width=width,
            num_blocks=num_blocks,
            num_heads=num_heads,
            dropout=dropout,
            objective=objective,
            lr=lr,
            weight_decay=weight_decay,
            betas=betas,
        )
        self.save_hyperparameters()
        keep_own(self)
        vectors = TextItemEmbedding(num_items, width, text_width)
        vectors.weight = self.item_embedding.weight
        self.item_embedding = vectors

    def attach(self, catalogue: Catalogue) -> None:
        """Receives the text vectors."""
        super().attach(catalogue)
        self._vectors.attach(catalogue)

    def loss(self, batch: SequenceBatch) -> dict[str, Tensor]:
        """The objective, every text projected once."""
        with self._vectors.made_once():
            return super().loss(batch)

    def score(self, batch: SequenceBatch) -> Float[Tensor, "b c"]:
        """Scores candidates, every text projected once."""
        with self._vectors.made_once():
            return super().score(batch)

    def score_catalogue(self, batch: SequenceBatch) -> Float[Tensor, "b i_plus_1"]:
        """Scores every item, every text projected once."""
        with self._vectors.made_once():
            return super().score_catalogue(batch)

    @property
    def _vectors(self) -> TextItemEmbedding:
        assert isinstance(self.item_embedding, TextItemEmbedding)
        return self.item_embedding
