"""Content-addressed cache of text vectors, shared by all methods, seeds and sweeps."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from lightning.pytorch.utilities import rank_zero_warn
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from common.errors import UserError
from common.files import replacing
from common.text.encoders import TextEncoder


def text_vectors(encoder: TextEncoder, texts: Sequence[str], root: Path) -> Float[Tensor, "n w"]:
    """Vectors of ``texts``, from the cache where this encoder has seen these texts.

    The key covers all that the vectors depend on: the encoder's identity (model, revision, pooling, …) and every
    text, hence also the template that made it. Each distinct text is encoded once.

    Args:
        encoder: Makes the vectors.
        texts: Texts of the items, in order; none may be empty.
        root: Folder of the cache.

    Raises:
        UserError: If a text is empty, or a vector is empty, NaN or infinite; nothing is cached then.
    """
    return kept_vectors(encoder.identity, texts, root, lambda: _encode(encoder, texts))


def kept_vectors(
    identity: Mapping[str, str], texts: Sequence[str], root: Path, make: Callable[[], Float[Tensor, "n w"]]
) -> Float[Tensor, "n w"]:
    """What ``make`` returns, from the cache where it was made before.

    Args:
        identity: All that the vectors depend on beside the texts.
        texts: Texts of the items, in order.
        root: Folder of the cache.
        make: Makes a vector for each text.

    Raises:
        UserError: If a vector is empty, NaN or infinite; nothing is cached then.
    """
    path = root / f"{cache_key(identity, texts)}.safetensors"
    if path.exists():
        try:
            return load_file(path)["vectors"]
        except (OSError, KeyError, SafetensorError) as error:
            raise UserError(f"{path} cannot be read: {error}", "Delete it; it is made again.") from error
    vectors = make()
    _check(vectors)
    try:
        with replacing(path) as part:
            save_file({"vectors": vectors.contiguous()}, part, metadata={"encoder": json.dumps(dict(identity))})
    except (OSError, SafetensorError) as error:  # safetensors has its own for a full disk
        rank_zero_warn(f"{path} cannot be written, so that its vectors are made anew next time: {error}")
    return vectors


def cache_key(identity: Mapping[str, str], texts: Sequence[str]) -> str:
    """Name of the cache entry: a hash of the encoder's identity and of all texts."""
    sha = hashlib.sha256(json.dumps(dict(identity), sort_keys=True).encode())
    for text in texts:
        sha.update(hashlib.sha256(text.encode()).digest())
    return sha.hexdigest()[:32]


def _encode(encoder: TextEncoder, texts: Sequence[str]) -> Float[Tensor, "n w"]:
    missing = [i for i, text in enumerate(texts) if not text.strip()]
    if missing:
        raise UserError(
            f"{len(missing)} of {len(texts)} items have no text, the first is item {missing[0] + 1}.",
            "Give them a title or a description in the source, or put a placeholder where there is none.",
        )
    distinct = list(dict.fromkeys(texts))
    place = {text: row for row, text in enumerate(distinct)}
    positional = encoder.identity["kind"] == "file"
    vectors = encoder.encode(texts if positional else distinct)
    return vectors if positional else vectors[torch.tensor([place[text] for text in texts])]


def _check(vectors: Float[Tensor, "n w"]) -> None:
    if not vectors.size(1):
        raise UserError("the text vectors have width 0.", "Choose another encoder or vector file.")
    broken = (~vectors.isfinite()).any(1).nonzero()
    if len(broken):
        raise UserError(
            f"the vector of item {int(broken[0]) + 1} is NaN or infinite ({len(broken)} such rows).",
            "Fix the vector file, or choose another encoder.",
        )
