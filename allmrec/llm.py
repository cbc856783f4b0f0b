"""A frozen language model that reads vectors where its prompt has slots."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from allmrec.frozen import Frozen
from allmrec.prompts import SLOTS
from allmrec.tokens import Tokens, positions, splice
from common.errors import UserError
from common.text.encoders import revision

Precision = Literal["bf16", "fp32"]
Quantization = Literal["none", "8bit", "4bit"]
IGNORED = -100
"""Label of a token that is not learnt."""


class FrozenLLM(Frozen[PreTrainedModel]):
    """Any causal language model that Transformers loads, with slots for vectors, frozen and out of checkpoints.

    The tokenizer learns three slot tokens, but the model's vocabulary does not grow: a slot's own vector is never
    read and its logit never wanted. The released code enlarges the vocabulary, which puts four random rows into every
    softmax. Dropout is off also where gradient checkpointing needs training mode.

    Args:
        name: Name on the hub, or a folder in Hugging Face layout.
        precision: Type of weights and activations; parts that are quantised follow their own.
        quantization: Weights in 8 or 4 bits (bitsandbytes), or as they are.
        device_map: ``auto`` spreads the layers over devices; ``None`` keeps the model with its owner.
        gradient_checkpointing: Whether layers are computed again in the backward pass rather than kept.

    Raises:
        UserError: If the model cannot be loaded: folder absent or incomplete, hub unreachable, quantisation without
            bitsandbytes.
    """

    def __init__(
        self,
        name: str,
        precision: Precision = "bf16",
        quantization: Quantization = "none",
        device_map: str | None = None,
        gradient_checkpointing: bool = False,
    ) -> None:
        check_folder(name)
        bits = quantization_config(quantization)
        try:
            tokenizer = AutoTokenizer.from_pretrained(name)
            model = AutoModelForCausalLM.from_pretrained(
                name,
                config=without_dropout(AutoConfig.from_pretrained(name)),
                dtype=torch.bfloat16 if precision == "bf16" else torch.float32,
                quantization_config=bits,
                device_map=device_map,
            )
        except (OSError, ValueError) as error:
            raise unreachable(name, error) from error
        if gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})  # type: ignore[no-untyped-call]
        placed = device_map is not None or quantization != "none"
        super().__init__(model, movable=not placed, training=gradient_checkpointing)
        self.name = name
        self.tokenizer: PreTrainedTokenizerBase = tokenizer
        tokenizer.add_special_tokens({"additional_special_tokens": list(SLOTS)}, replace_extra_special_tokens=False)
        self.slot_ids = torch.tensor(tokenizer.convert_tokens_to_ids(list(SLOTS)))
        self.end_id = end_token(tokenizer, name)

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
        """Tokens of prompts, behind the beginning token if the tokenizer has one."""
        rows: list[list[int]] = self.tokenizer(list(texts))["input_ids"]
        return [row[:-1] if row[-1:] == [self.end_id] and len(row) > 1 else row for row in rows]

    def answer_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of answers, each with the end token behind."""
        if not texts:
            return []
        rows: list[list[int]] = self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        return [[*row, self.end_id] for row in rows]

    def is_slot(self, ids: Int[Tensor, "b t"]) -> Bool[Tensor, "b t"]:
        """Which tokens are slots."""
        return torch.isin(ids, self.slot_ids.to(ids.device))

    def embed(self, tokens: Tokens, soft: Float[Tensor, "s d"] | None = None) -> Float[Tensor, "b t d"]:
        """Vectors of tokens with ``soft`` in the slots, in order, row after row."""
        slots = self.is_slot(tokens.ids) & tokens.real
        # Slots may lie beyond the model's vocabulary.
        embeddings = self.embedding(tokens.ids.masked_fill(slots, 0))
        return embeddings if soft is None else splice(embeddings, slots, soft)

    def logits(
        self, embeddings: Float[Tensor, "b t d"], real: Bool[Tensor, "b t"], keep: int
    ) -> Float[Tensor, "b {keep} v"]:
        """Logits of what follows each of the last ``keep`` tokens.

        Args:
            embeddings: Vectors of tokens, padded on the left.
            real: Which are no padding.
            keep: Columns wanted; only for those is the vocabulary scored.
        """
        answer = self.module(
            inputs_embeds=embeddings,
            attention_mask=real.long(),
            position_ids=positions(real),
            logits_to_keep=keep,
            use_cache=False,
        )
        logits: Tensor = answer.logits
        return logits

    def answer_loss(
        self, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], soft: Float[Tensor, "s d"] | None
    ) -> Tensor:
        """Mean next-token loss over all answer tokens of the batch, the paper's stage-2 objective.

        Args:
            prompts: Tokens of each prompt.
            answers: Tokens of each answer, the end token included.
            soft: Vectors for the prompts' slots.
        """
        tokens, labels = labelled(prompts, answers, self.device)
        keep = max(map(len, answers)) + 1
        logits = self.logits(self.embed(tokens, soft), tokens.real, keep)[:, :-1]
        return answer_loss(logits, labels[:, 1 - keep :])


def labelled(
    prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], device: torch.device | None = None
) -> tuple[Tokens, Int[Tensor, "b t"]]:
    """Prompts with their answers behind, and the label of each place: the answers' tokens, ``IGNORED`` elsewhere."""
    rows = zip(prompts, answers, strict=True)
    tokens = Tokens.of([[*prompt, *answer] for prompt, answer in rows], device)
    width, lengths = tokens.ids.size(1), torch.tensor([len(answer) for answer in answers], device=device)
    learnt = torch.arange(width, device=device) >= (width - lengths)[:, None]
    return tokens, tokens.ids.masked_fill(~learnt, IGNORED)


def answer_loss(logits: Float[Tensor, "b t v"], labels: Int[Tensor, "b t"]) -> Tensor:
    """``−log P(y_k | prompt, y_<k)``, averaged over all labelled tokens of the batch, in fp32 or finer.

    Args:
        logits: Scores of the token at each place.
        labels: The token that stands there, or ``IGNORED``.
    """
    precise = logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
    return F.cross_entropy(precise.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)


def without_dropout(config: PretrainedConfig) -> PretrainedConfig:
    """The configuration with every dropout at zero."""
    for key, value in config.to_dict().items():
        if isinstance(value, float) and ("drop" in key or key.endswith("pdrop")):
            setattr(config, key, 0.0)
    return config


def quantization_config(quantization: Quantization) -> Any:  # noqa: ANN401
    """Settings of bitsandbytes, or ``None`` for weights as they are.

    Raises:
        UserError: If bitsandbytes is not installed.
    """
    if quantization == "none":
        return None
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(
            f"quantization {quantization} needs bitsandbytes, which is not installed",
            "Install it with `pip install 'recbench[quant]'`, or choose quantization none.",
        )
    from transformers import BitsAndBytesConfig

    if quantization == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)  # type: ignore[no-untyped-call]
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.bfloat16)  # type: ignore[no-untyped-call]


def end_token(tokenizer: PreTrainedTokenizerBase, name: str) -> int:
    """Id of the token that ends an answer.

    Raises:
        UserError: If the tokenizer has none.
    """
    if tokenizer.eos_token_id is None:
        raise UserError(
            f"the tokenizer of {name!r} has no end token, so an answer would never end",
            "Set `eos_token` in its tokenizer_config.json, or choose another language model.",
        )
    return int(tokenizer.eos_token_id)


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
