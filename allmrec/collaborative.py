"""The collaborative filter below A-LLMRec, and the vectors that stage 1 hands to stage 2."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from allmrec.frozen import Frozen, digest_of
from common.data.datasets import least_events
from common.errors import UserError
from common.models.base import Recommender, SequentialRecommender
from common.models.finished import finished_model
from common.models.ncf import NCF
from common.nn.embedding import ItemEmbedding
from common.types import Catalogue, SequenceBatch

CONFIG = "config.yaml"
"""File of a run folder that says how its data were made."""


class CollaborativeFilter(Frozen[Recommender]):
    """A trained recommender as a source of user vectors x and item vectors E.

    A sequential model's user vector is its last state and its item vectors are those that states are compared with.
    NCF scores a pair with layers, of which the paper does not say where its vectors are; here they are both tables
    side by side, users' product vectors weighted as its output weighs them, so that for GMF the dot product is the
    model's score without the bias.

    Args:
        model: A trained model, or the folder of its run.
        dropout: Whether its dropout is on while its owner learns, as it is by oversight in the released stage 2.

    Raises:
        UserError: If the folder holds no model, or the model has no item vectors.
    """

    def __init__(self, model: Recommender | str, dropout: bool = False) -> None:
        run = model if isinstance(model, str) else None
        if isinstance(model, str):
            model = finished_model(model)
        own_table = isinstance(getattr(model, "item_embedding", None), ItemEmbedding)
        if not isinstance(model, NCF) and not (isinstance(model, SequentialRecommender) and own_table):
            raise UserError(
                f"{type(model).__name__} has no user and item vectors to align",
                "Choose SASRec, GRU4Rec, NextItNet, Caser, TiSASRec or NCF as collaborative filter.",
            )
        super().__init__(model, follows_training=dropout)
        self.least_events = None if run is None else events_needed(run)
        self.width = self.item_vectors().size(1)
        # Now, because a trainer may round the weights.
        self.digest = digest_of(model)

    def attach(self, catalogue: Catalogue) -> None:
        """Tells the model which items and users were trained, so that others have the mean vector.

        Its own training says how many events a user needed for that: NCF learns from a single one, which is no
        instance for a method that reads histories.

        Raises:
            UserError: If the model does not know as many items as the data set has.
        """
        if self.module.num_items != catalogue["num_items"]:
            raise UserError(
                f"the collaborative filter knows {self.module.num_items} items, the data set has "
                f"{catalogue['num_items']}",
                "Give a run of the same data set and recipe.",
            )
        own: Catalogue = {} if self.least_events is None else {"least_events": self.least_events}
        self.module.attach({**catalogue, **own})

    def adopt(self, items: Float[Tensor, "i_plus_1 d"]) -> None:
        """Lets the model read other items than those of its training.

        Args:
            items: Their vectors, in the space of the model's own; row 0 is padding.

        Raises:
            UserError: If the model reads users by their ids, or items by other vectors than its states are compared
                with.
        """
        model, reason = self.module, None
        own = getattr(model, "item_embedding", None)
        if "user_id" in model.information_set:
            reason = "reads users by their ids"
        elif not isinstance(own, ItemEmbedding) or getattr(model, "output_embedding", None) not in (None, own):
            reason = "has other vectors for the items that it reads than for those that it scores"
        if reason is not None:
            raise UserError(
                f"{type(model).__name__} {reason}: on items of another data set it is not applicable",
                "Choose SASRec or GRU4Rec as collaborative filter.",
            )
        assert isinstance(own, ItemEmbedding)
        table = ItemEmbedding(len(items) - 1, items.size(1), own.padding_idx).requires_grad_(False)
        table.weight.copy_(items)
        model.item_embedding, model.num_items = table.eval(), len(items) - 1

    @torch.no_grad()
    def item_vectors(self) -> Float[Tensor, "i_plus_1 d"]:
        """E: a vector of each item; row 0 is padding."""
        model = self.module
        if isinstance(model, NCF):
            names = [name for name in ("item_product", "item_tower") if hasattr(model, name)]
            return torch.cat([getattr(model, name).table() for name in names], dim=1)
        assert isinstance(model, SequentialRecommender)
        return model.output_table()

    @torch.no_grad()
    def user_vectors(self, batch: SequenceBatch) -> Float[Tensor, "b d"]:
        """x: the vector of each row's user after its history."""
        return self.states(batch)[:, -1]

    @torch.no_grad()
    def states(self, batch: SequenceBatch) -> Float[Tensor, "b p d"]:
        """The user's vector after each event, or after the last alone; NCF's is the same after every event."""
        model = self.module
        if not isinstance(model, NCF):
            assert isinstance(model, SequentialRecommender)
            # Caser repeats its last state for every target that it is shown.
            past: SequenceBatch = {key: value for key, value in batch.items() if key != "targets"}  # type: ignore[assignment]  # a comprehension loses the keys
            return model.encode(past)
        sides = []
        if model.variant != "mlp":
            sides.append(model.user_product(batch["user_id"]) * model.product_output.weight)
        if model.variant != "gmf":
            sides.append(model.user_tower(batch["user_id"]))
        return torch.cat(sides, dim=1)[:, None].expand(-1, batch["history"].size(1), -1)


def events_needed(run: str) -> int | None:
    """Training events that a user needed in the training of a run folder, where it says how instances were made."""
    path = Path(run) / CONFIG
    if not path.is_file():
        return None
    data: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))["data"]["init_args"]
    return least_events(data.get("instances", "prefix"), int(data.get("min_history", 1)))


JOINT = "joint.safetensors"
"""File of a stage-1 run folder that holds its joint vectors."""


class JointVectors(NamedTuple):
    """Stage 1's result: each item's latents; row 0 is padding."""

    items: Float[Tensor, "i_plus_1 z"]
    """e, from the collaborative filter."""
    texts: Float[Tensor, "i_plus_1 z"]
    """q, from the text: for items with few events, or of another data set."""
    text_encoder: str
    """The sentence model of stage 1."""
    filter: str
    """:attr:`CollaborativeFilter.digest` of the filter that they were made from."""

    def save(self, path: Path) -> None:
        """Writes both tables, and what they were made with."""
        tables = {"items": self.items.cpu().contiguous(), "texts": self.texts.cpu().contiguous()}
        save_file(tables, path, metadata={"text_encoder": self.text_encoder, "filter": self.filter})

    @classmethod
    def load(cls, path: Path | str, collaborative: CollaborativeFilter, latent: int | None = None) -> JointVectors:
        """Reads what stage 1 left.

        Args:
            path: The file, or the run folder of stage 1.
            collaborative: The filter that they are used with.
            latent: Width that they must have; ``None`` takes any.

        Raises:
            UserError: If the file is absent or damaged, or of another filter or width.
        """
        path = Path(path) / JOINT if Path(path).is_dir() else Path(path)
        if not path.is_file():
            raise UserError(f"joint vectors {path} do not exist", "Run stage 1 first, and give its run folder.")
        try:
            with safe_open(path, "pt") as file:
                vectors = cls(file.get_tensor("items"), file.get_tensor("texts"), **file.metadata())
        except (SafetensorError, TypeError) as error:
            raise UserError(f"{path} holds no joint vectors: {error}", "Run stage 1 again with --force.") from error
        if vectors.filter != collaborative.digest:
            raise UserError(
                f"{path} was made from another collaborative filter than the one given",
                "Give the run that stage 1 was made from, or run stage 1 on this one.",
            )
        if latent not in (None, vectors.items.size(1)):
            raise UserError(
                f"joint vectors {path} have width {vectors.items.size(1)}, not {latent}",
                f"Give --model.latent {vectors.items.size(1)}.",
            )
        return vectors
