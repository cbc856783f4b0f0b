"""A frozen language model that reads vectors where its prompt has slots."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Sequence
from functools import cached_property
from inspect import signature
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from allmrec.slotted import SlottedModel, loading, refuse_missing, without_dropout
from allmrec.tokens import Tokens, positions
from common.errors import UserError
from common.text.revisions import revision

Precision = Literal["auto", "bf16", "fp32"]
Quantization = Literal["none", "8bit", "4bit"]
Weights = Literal["trained", "random"]
PLACE_BOUND = ("bloom", "mpt", "gpt_neo")
"""Models with linear biases or local windows over places in memory."""
IGNORED = -100
"""Label of a token that is not learnt."""


def dtype_of(precision: Precision, config: PretrainedConfig) -> torch.dtype:
    """Type of the weights of a frozen model; ``auto`` takes fp32 where they are stored so, else bf16."""
    # Old configurations, such as GPT-2's, do not tell the type: weights were fp32 then.
    stored = config.dtype or config.get_text_config().dtype or torch.float32
    whole = precision == "fp32" or (precision == "auto" and stored == torch.float32)
    return torch.float32 if whole else torch.bfloat16


class FrozenLLM(SlottedModel):
    """Any causal language model that Transformers loads, with slots for vectors, frozen and out of checkpoints.

    Dropout is off also where gradient checkpointing needs training mode.

    Args:
        name: Name on the hub, or a folder in Hugging Face layout.
        precision: Type of weights and activations; ``auto`` takes fp32 where they are stored so, else bf16. Parts that
            are quantised follow their own.
        quantization: Weights in 8 or 4 bits (bitsandbytes), or as they are.
        device_map: ``auto`` spreads the layers over devices; ``None`` keeps the model with its owner.
        gradient_checkpointing: Whether layers are computed again in the backward pass rather than kept.
        weights: The model's own, or ``random`` ones of its shape, always the same: a control.

    Raises:
        UserError: If the model cannot be loaded: folder absent or incomplete, hub unreachable, quantisation without
            bitsandbytes, or of random weights.
    """

    def __init__(
        self,
        name: str,
        precision: Precision = "auto",
        quantization: Quantization = "none",
        device_map: str | dict[str, int] | None = None,
        gradient_checkpointing: bool = False,
        weights: Weights = "trained",
    ) -> None:
        bits = quantization_config(quantization)
        if bits is not None and device_map is None and torch.cuda.is_available():
            # Quantised weights are placed as they are loaded, before a trainer says where each process of a node works.
            device_map = {"": int(os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", 0)))}
        with loading(name):
            tokenizer = AutoTokenizer.from_pretrained(name)
            config = without_dropout(AutoConfig.from_pretrained(name))
            refuse_unfit(name, config)
            dtype = dtype_of(precision, config)
            if weights == "random":
                model = random_model(config, dtype, bits or device_map)
            else:
                loaded: Any = AutoModelForCausalLM.from_pretrained(
                    name,
                    config=config,
                    dtype=dtype,
                    quantization_config=bits,
                    device_map=device_map,
                    output_loading_info=True,
                )
                model = loaded[0]
                refuse_missing(name, *loaded)
        if gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        placed = device_map is not None or quantization != "none"
        super().__init__(name, model, tokenizer, movable=not placed, follows_training=gradient_checkpointing)
        self.weights: Weights = weights
        self.end_id = end_token(tokenizer, name)
        self.end_ids = {self.end_id, *further_ends(model, tokenizer)}
        self.sharded = False

    def shard(self, device: torch.device) -> None:
        """Divides the weights of the layers over all processes, which gather a layer while they need it (FSDP2).

        Every process must then run the model equally often. Y. Zhao et al., "PyTorch FSDP", VLDB 2023
        (https://arxiv.org/abs/2304.11277).

        Args:
            device: Where this process works.

        Raises:
            UserError: If the model lies on several devices, or is quantised.
        """
        if not self.movable:
            raise UserError(
                "a quantised language model, or one with a device_map, cannot be divided over processes",
                "Leave trainer/fsdp out: trainer/ddp keeps a whole copy on each device.",
            )
        layers = max((m for m in self.module.modules() if isinstance(m, nn.ModuleList)), key=len)
        mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
        for layer in layers:
            # Each is a root of its own, which would stay whole once it was gathered.
            fully_shard(layer, mesh=mesh, reshard_after_forward=True)
        self.sharded = True

    def all_done(self, done: bool) -> bool:
        """Whether all processes that share the weights are done; without others, whether this one is."""
        if not self.sharded:
            return done
        flag = torch.tensor(int(done), device=self.device)
        torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MIN)
        return bool(flag)

    def most(self, count: int) -> int:
        """The largest of the counts of all processes that share the weights."""
        largest = torch.tensor(count, device=self.device)
        torch.distributed.all_reduce(largest, op=torch.distributed.ReduceOp.MAX)
        return int(largest)

    @property
    def context(self) -> int:
        """Tokens that fit into the model's context, and into the window of its attention.

        Beyond the window, candidates side by side would see more of their prompt than one alone.
        """
        config, most = self.text_config, super().context
        window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
        return min(most, window or most)

    @cached_property
    def identity(self) -> dict[str, str]:
        """As :attr:`SlottedModel.identity`, and whether weights are random."""
        return revision(self.name) | ({} if self.weights == "trained" else {"weights": self.weights})

    @cached_property
    def cache_argument(self) -> str:
        """What the model calls the keys and values that it reads and adds to; Transformers renames it in 5.40."""
        return "cache" if "cache" in signature(self.module.forward).parameters else "past_key_values"

    @property
    def title(self) -> str:
        """As :attr:`SlottedModel.title`, and whether weights are random."""
        return super().title if self.weights == "trained" else f"{super().title}, random weights"

    def prompt_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of prompts, behind the beginning token if the tokenizer has one."""
        rows = super().prompt_ids(texts)
        return [row[:-1] if row[-1:] == [self.end_id] and len(row) > 1 else row for row in rows]

    def answer_ids(self, texts: Sequence[str], behind: str = "") -> list[list[int]]:
        """Tokens of answers, each with the end token behind.

        Args:
            texts: The answers.
            behind: The end of a prompt: some tokenizers, such as Llama 2's, put a space in front of a text alone.

        Raises:
            UserError: If answers have no tokens of their own behind the prompt.
        """
        whole = [behind, *(behind + text for text in texts)]
        front, *rows = self.tokenizer(whole, add_special_tokens=False)["input_ids"]
        if any(row[: len(front)] != front for row in rows):
            raise UserError(
                f"the tokenizer of {self.name!r} joins the last word of a prompt with an answer",
                "Choose another language model.",
            )
        return [[*row[len(front) :], self.end_id] for row in rows]

    def logits(
        self, embeddings: Float[Tensor, "b t d"], real: Bool[Tensor, "b t"], keep: int
    ) -> Float[Tensor, "b {keep} v"]:
        """Logits of what follows each of the last ``keep`` tokens.

        Args:
            embeddings: Vectors of tokens, padded on the left.
            real: Which positions are not padding.
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
    ) -> Float[Tensor, ""]:
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


def precise(logits: Float[Tensor, "*b v"]) -> Float[Tensor, "*b v"]:
    """Logits in fp32 or finer."""
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits


def answer_loss(logits: Float[Tensor, "b t v"], labels: Int[Tensor, "b t"]) -> Float[Tensor, ""]:
    """``−log P(y_k | prompt, y_<k)``, averaged over all labelled tokens of the batch, in fp32 or finer.

    Args:
        logits: Scores of the token at each place.
        labels: The token that stands there, or ``IGNORED``.
    """
    return F.cross_entropy(precise(logits).flatten(0, 1), labels.flatten(), ignore_index=IGNORED)


def refuse_unfit(name: str, config: PretrainedConfig) -> None:
    """Checks that a model's family can read candidates side by side behind one prompt.

    Short texts, as :func:`allmrec.decoding.require_side_by_side` tries them, would not always tell.

    Raises:
        UserError: If its attention follows places in memory rather than the given positions.
    """
    if config.model_type in PLACE_BOUND or getattr(config, "alibi", False):
        raise unfit(name, config.model_type, "its attention goes by places in memory")


def unfit(name: str, kind: str, reason: str) -> UserError:
    """The error of a model that cannot read candidates side by side behind one prompt.

    Args:
        name: Name or folder of the model.
        kind: Its family.
        reason: Why it cannot.
    """
    return UserError(
        f"language model {name!r} ({kind}) cannot score candidates side by side: {reason}",
        "Choose a model with positions of its own, such as OPT, Llama, Qwen, Mistral, Gemma, Phi or GPT-NeoX.",
    )


def random_model(config: PretrainedConfig, dtype: torch.dtype, placed: object) -> PreTrainedModel:
    """A model of random weights, the same at every call.

    Raises:
        UserError: If it is to be quantised or spread over devices.
    """
    if placed is not None:
        raise UserError(
            "a model of random weights can be neither quantised nor spread over devices",
            "Leave quantization and device_map at their defaults.",
        )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=dtype)
    return model


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

    # It would say at every product of every layer that inputs are cast to fp16, as its algorithm does.
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    if quantization == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.bfloat16)


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


def further_ends(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Special tokens that end an answer, too: chat models name one for the end of a turn beside that of a text."""
    given = getattr(model.generation_config, "eos_token_id", None)
    ends = {given} if isinstance(given, int) else set(given or ())
    known = tokenizer.added_tokens_decoder
    # A configuration that was left at its defaults may name any word.
    return {token for token in ends if token in known and known[token].special}
