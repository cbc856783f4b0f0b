"""A frozen Transformers model that reads vectors where its text has slots."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int
from lightning.pytorch.utilities.memory import is_oom_error
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from allmrec.frozen import Frozen
from allmrec.prompts import SLOTS
from allmrec.tokens import Tokens, splice
from common.errors import UserError
from common.text.revisions import revision, same_model

LLM = "llm"
"""Key of a checkpoint that holds the identity of the frozen model."""
TOKENIZERS = {"tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model"}
TOKENIZERS |= {"vocab.txt", "sentencepiece.bpe.model", "spm.model"}
"""Files of which a tokenizer needs one; the last three are of BERT, XLM-RoBERTa and DeBERTa."""


class SlottedModel(Frozen[PreTrainedModel]):
    """A frozen model and its tokenizer, which learns three slot tokens.

    The model's vocabulary does not grow: a slot's own vector is never read and its logit never wanted. The released
    code of A-LLMRec enlarges the vocabulary, which puts four random rows into every softmax.

    Args:
        name: Name on the hub, or a folder in Hugging Face layout.
        model: The model.
        tokenizer: Its tokenizer.
        movable: Whether the model follows its owner to a device.
        follows_training: Whether it is in training mode while its owner is.
    """

    def __init__(
        self,
        name: str,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        movable: bool = True,
        follows_training: bool = False,
    ) -> None:
        super().__init__(model, movable, follows_training)
        self.name = name
        self.tokenizer = tokenizer
        tokenizer.add_special_tokens({"additional_special_tokens": list(SLOTS)}, replace_extra_special_tokens=False)
        self.slot_ids = torch.tensor(tokenizer.convert_tokens_to_ids(list(SLOTS)))
        self.first_position = first_position(model)

    @property
    def title(self) -> str:
        """What a table calls the model: its name on the hub or its folder's."""
        return Path(self.name).name if Path(self.name).is_dir() else self.name

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
        most = int(getattr(self.text_config, "max_position_embeddings", None) or 0)
        # A model without a limit reports none, or -1.
        return (most if most > 0 else 2**31) - self.first_position

    @property
    def text_config(self) -> PretrainedConfig:
        """The configuration of what reads text; that of a model which sees pictures, too, only contains it."""
        return self.module.config.get_text_config()

    @property
    def device(self) -> torch.device:
        """Where token vectors are looked up."""
        return self.embedding.weight.device

    def require_place(self, device: torch.device, whole: bool = False) -> None:
        """Checks that the model reads where its owner works; one that was placed as it was loaded does not follow it.

        Args:
            device: Where the owner works.
            whole: Whether all of the model must lie there, too.

        Raises:
            UserError: If it does not.
        """
        places = {weights.device for weights in self.module.parameters()} if whole else {self.device}
        # Weights that Transformers fetches when they are needed are on no device.
        elsewhere = places - {device, torch.device("meta")}
        if not self.movable and elsewhere:
            raise UserError(
                f"the language model was placed on {', '.join(sorted(map(str, elsewhere)))}, the trainer works on "
                f"{device}",
                "Choose devices with the variable CUDA_VISIBLE_DEVICES, or leave --model.device_map and "
                "--model.quantization out.",
            )

    @cached_property
    def identity(self) -> dict[str, str]:
        """Name and revision, or the hash of a folder's files: what a checkpoint says of the model below it."""
        return revision(self.name)

    def sign(self, checkpoint: dict[str, Any]) -> None:
        """Puts the model's identity into a checkpoint of what was trained on top of it."""
        checkpoint[LLM] = self.identity

    def refuse_other(self, checkpoint: Mapping[str, Any]) -> None:
        """Checks that a checkpoint was trained on top of this model; its folder may have been renamed since.

        Raises:
            UserError: If it is another one.
        """
        if not same_model(checkpoint[LLM], self.identity):
            raise UserError(
                f"the checkpoint was trained on the frozen model {checkpoint[LLM]}, and this is {self.identity}",
                "Give the model of the training with --model.llm, or .reader in retrieval style.",
            )

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


def position_table(model: nn.Module) -> nn.Embedding | None:
    """An encoder's table of learnt positions, if it has one."""
    tables = (module for name, module in model.named_modules() if name.endswith("position_embeddings"))
    return next((table for table in tables if isinstance(table, nn.Embedding)), None)


def first_position(model: nn.Module) -> int:
    """Number of a text's first place: models of RoBERTa's kind count from behind their padding."""
    table = position_table(model)
    return 0 if table is None or table.padding_idx is None else table.padding_idx + 1


@contextmanager
def loading(name: str) -> Iterator[None]:
    """Makes what goes wrong while a model of this name is loaded one clear error.

    Libraries raise errors of many kinds over a damaged file, bare exceptions among them.

    Raises:
        UserError: If the model cannot be loaded.
    """
    try:
        check_folder(name)
        yield
    except Exception as error:
        if isinstance(error, UserError) or is_oom_error(error):
            raise
        raise unreachable(name, error) from error


def refuse_missing(name: str, model: PreTrainedModel, report: Mapping[str, Any]) -> None:
    """Checks that a model's files hold all its weights, except a pooler, which is never read.

    Args:
        name: Name or folder of the model.
        model: The model, as it was loaded.
        report: What Transformers says of the loading.

    Raises:
        UserError: If some are missing, which would be random.
    """
    missing = sorted(key for key in report["missing_keys"] if "pooler" not in key)
    if missing:
        kind, held = type(model).__name__, " or ".join(model.config.architectures or ["model of no given kind"])
        raise UserError(
            f"the files of language model {name!r}, a {held}, lack {len(missing)} weights of a {kind}, {missing[0]} "
            "among them",
            "Choose another model, or download this one whole with `hf download NAME --local-dir FOLDER`.",
        )


def check_folder(name: str) -> None:
    """Checks that a folder holds all that a language model needs; a hub name passes.

    Raises:
        UserError: If the folder is absent or lacks a file.
    """
    folder = Path(name)
    if not folder.is_dir():
        if name.startswith((".", "/", "~")) or name.count("/") > 1:
            raise UserError(f"language model folder {name} does not exist", "Give an existing folder, or a hub name.")
        return
    files = {path.name for path in folder.iterdir()}
    missing = {"config.json"} - files
    if not files & TOKENIZERS:
        missing.add("tokenizer.json")
    if not any(file.endswith((".safetensors", ".bin")) for file in files):
        missing.add("model.safetensors")
    # The first that is there is what Transformers loads; indices of other frameworks do not count.
    indices = [file for file in ("model.safetensors.index.json", "pytorch_model.bin.index.json") if file in files]
    if indices and "model.safetensors" not in files:
        missing |= set(json.loads((folder / indices[0]).read_text("utf-8"))["weight_map"].values()) - files
    if missing:
        raise UserError(
            f"language model folder {name} is incomplete: no {', '.join(sorted(missing))}",
            "Download it whole with `hf download NAME --local-dir FOLDER`, or save model and tokenizer into it with "
            "`save_pretrained`.",
        )


def unreachable(name: str, error: Exception) -> UserError:
    """The error of a model that could not be loaded."""
    reason = next(iter(str(error).splitlines()), type(error).__name__)
    if Path(name).is_dir():
        return UserError(
            f"language model folder {name} cannot be loaded: {reason}",
            "A file of it is damaged or of another model: download it again, or save it again with `save_pretrained`.",
        )
    return UserError(
        f"language model {name!r} (name on the hub) cannot be loaded: {reason}",
        f"Check the name. Without network, run `hf download {name} --local-dir FOLDER` where there is one, copy the "
        "folder here and give its path; without any, build the stand-in with `recbench prepare DATASET --standin-llm`.",
    )
