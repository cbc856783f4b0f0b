"""A frozen Transformers model that reads vectors where its text has slots."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from allmrec.frozen import Frozen
from allmrec.prompts import SLOTS
from allmrec.tokens import Tokens, splice
from common.errors import UserError
from common.text.encoders import revision


class SlottedModel(Frozen[PreTrainedModel]):
    """A frozen model and its tokenizer, which learns three slot tokens.

    The model's vocabulary does not grow: a slot's own vector is never read and its logit never wanted. The released
    code of A-LLMRec enlarges the vocabulary, which puts four random rows into every softmax.

    Args:
        name: Name on the hub, or a folder in Hugging Face layout.
        model: The model.
        tokenizer: Its tokenizer.
        movable: Whether the model follows its owner to a device.
        training: Whether it is in training mode while its owner is.
    """

    def __init__(
        self,
        name: str,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        movable: bool = True,
        training: bool = False,
    ) -> None:
        super().__init__(model, movable, training)
        self.name = name
        self.tokenizer = tokenizer
        tokenizer.add_special_tokens({"additional_special_tokens": list(SLOTS)}, replace_extra_special_tokens=False)
        self.slot_ids = torch.tensor(tokenizer.convert_tokens_to_ids(list(SLOTS)))

    @property
    def embedding(self) -> nn.Embedding:
        """The table of token vectors."""
        return cast(nn.Embedding, self.module.get_input_embeddings())

    @property
    def width(self) -> int:
        """Width of token vectors; not always that of the model's states."""
        return self.embedding.weight.size(1)

    @property
    def context(self) -> int:
        """Tokens that fit into the model's context."""
        return int(getattr(self.module.config, "max_position_embeddings", 0) or 2**31)

    @property
    def device(self) -> torch.device:
        """Where token vectors are looked up."""
        return self.embedding.weight.device

    def identity(self) -> dict[str, str]:
        """Name and revision, or the hash of a folder's files: what a checkpoint says of the model below it."""
        return revision(self.name)

    def prompt_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of texts, with those that the tokenizer puts around any text."""
        rows: list[list[int]] = self.tokenizer(list(texts))["input_ids"]
        return rows

    def is_slot(self, ids: Int[Tensor, "b t"]) -> Bool[Tensor, "b t"]:
        """Which tokens are slots."""
        return torch.isin(ids, self.slot_ids.to(ids.device))

    def embed(self, tokens: Tokens, soft: Float[Tensor, "s d"] | None = None) -> Float[Tensor, "b t d"]:
        """Vectors of tokens with ``soft`` in the slots, in order, row after row."""
        slots = self.is_slot(tokens.ids) & tokens.real
        # Slots may lie beyond the model's vocabulary.
        embeddings = self.embedding(tokens.ids.masked_fill(slots, 0))
        return embeddings if soft is None else splice(embeddings, slots, soft)


def without_dropout(config: PretrainedConfig) -> PretrainedConfig:
    """The configuration with every dropout at zero."""
    for key, value in config.to_dict().items():
        if isinstance(value, float) and ("drop" in key or key.endswith("pdrop")):
            setattr(config, key, 0.0)
    return config


def check_folder(name: str) -> None:
    """Looks whether a folder holds all that a language model needs; a hub name passes.

    Raises:
        UserError: If the folder is absent or lacks a file.
    """
    folder = Path(name)
    if not folder.is_dir():
        if name.startswith((".", "/", "~")):
            raise UserError(f"language model folder {name} does not exist", "Give an existing folder, or a hub name.")
        return
    files = {path.name for path in folder.iterdir()}
    missing = {"config.json"} - files
    if not files & {"tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model"}:
        missing.add("tokenizer.json")
    if not any(file.endswith((".safetensors", ".bin")) for file in files):
        missing.add("model.safetensors")
    for index in folder.glob("*.index.json"):
        missing |= set(json.loads(index.read_text())["weight_map"].values()) - files
    if missing:
        raise UserError(
            f"language model folder {name} is incomplete: no {', '.join(sorted(missing))}",
            "Download it whole with `hf download NAME --local-dir FOLDER`, or save model and tokenizer into it with "
            "`save_pretrained`.",
        )


def unreachable(name: str, error: Exception) -> UserError:
    """The error of a model that could not be loaded."""
    where = "folder" if Path(name).is_dir() else "name on the hub"
    return UserError(
        f"language model {name!r} ({where}) cannot be loaded: {str(error).splitlines()[0]}",
        f"Check the name. Without network, run `hf download {name} --local-dir FOLDER` where there is one, copy the "
        "folder here and give its path; without any, build the stand-in with `recbench prepare DATASET --standin-llm`.",
    )
