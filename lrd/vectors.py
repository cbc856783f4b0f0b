"""Item vectors from texts, and the controls that they are compared with (PROTOCOL S7)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Bool, Float
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from common.errors import UserError
from common.text.cache import text_vectors
from common.text.encoders import TextEncoder

Vectors = Literal["text", "centred", "random", "permuted", "tfidf"]
"""The encoder's vectors; the same without their mean; Gaussian ones; the encoder's, permuted over items; TF-IDF with
SVD. All of one width."""
CONTROLS = ("random", "permuted", "tfidf")
"""Vectors that depend on a seed."""
UNKNOWN = "unknown item"


def item_vectors(
    encoder: TextEncoder, texts: Sequence[str], cache: Path, kind: Vectors = "text", seed: int = 0
) -> Float[Tensor, "n_plus_1 w"]:
    """Vectors of all items, row 0 zero.

    An item without text gets the mean vector of the others. Controls and centred vectors have the mean length of the
    encoder's vectors, so that only what a vector says differs.

    Args:
        encoder: Makes the vectors, or gives their width to a control.
        texts: Text of each item from 1 on.
        cache: Folder of the cache of text vectors.
        kind: The encoder's vectors, the same without what all of them share, or a control.
        seed: Seed of the control.
    """
    known = torch.tensor([bool(text.strip()) for text in texts])
    from_file = encoder.identity["kind"] == "file"
    # A file has one row per item, by contract.
    if not from_file and not bool(known.all()):
        _warn_about_missing_texts(known)
    if kind == "tfidf" and not bool(known.any()):
        raise _nothing_to_read()
    vectors = text_vectors(encoder, [text.strip() or UNKNOWN for text in texts], cache)
    has_vector = torch.ones_like(known) if from_file else known
    vectors = _mean_where_unknown(vectors, has_vector)
    generator = torch.Generator().manual_seed(seed)
    if kind == "centred":
        # Rows that equal the mean up to rounding stay zero.
        centred, length = vectors - vectors.mean(0), torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
        noise = torch.linalg.vector_norm(centred, dim=1, keepdim=True) < 1e-4 * length
        vectors = _of_length(centred.masked_fill(noise, 0), vectors)
    elif kind == "permuted":
        vectors = vectors[torch.randperm(len(vectors), generator=generator)]
    elif kind == "random":
        drawn = torch.randn(vectors.shape, generator=generator)
        vectors = _of_length(_mean_where_unknown(drawn, has_vector), vectors)
    elif kind == "tfidf":
        vectors = _of_length(_mean_where_unknown(tfidf(texts, vectors.size(1), seed), known), vectors)
    return torch.nn.functional.pad(vectors, (0, 0, 1, 0))


def tfidf(texts: Sequence[str], width: int, seed: int = 0) -> Float[Tensor, "n {width}"]:
    """TF-IDF of the texts, reduced to ``width`` by a truncated SVD; zeros fill up where there are too few words.

    Raises:
        UserError: If there are not two items and two words.
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    try:
        counts = TfidfVectorizer(sublinear_tf=True).fit_transform(texts)
    except ValueError as error:
        raise _nothing_to_read() from error
    if min(counts.shape) < 2:
        raise UserError(
            "TF-IDF tells items apart by their words, and there is one item or one word.",
            "Choose other --data.vectors, or data with more.",
        )
    rank = min(width, min(counts.shape) - 1)
    reduced = torch.from_numpy(TruncatedSVD(rank, random_state=seed).fit_transform(counts)).float()
    return torch.nn.functional.pad(reduced, (0, width - rank))


def _warn_about_missing_texts(known: Bool[Tensor, "n"]) -> None:
    if not bool(known.any()):
        raise _nothing_to_read()
    missing = (~known).nonzero().flatten()
    rank_zero_warn(
        f"{len(missing):,} of {len(known):,} items have no text and get the mean vector; the first is item "
        f"{int(missing[0]) + 1}."
    )


def _nothing_to_read() -> UserError:
    return UserError(
        "No item has a text with words in it.",
        "Give titles in the source, or vectors with --data.text_encoder file:PATH.",
    )


def _mean_where_unknown(vectors: Float[Tensor, "n w"], known: Bool[Tensor, "n"]) -> Float[Tensor, "n w"]:
    return vectors if bool(known.all()) else torch.where(known[:, None], vectors, vectors[known].mean(0))


def _of_length(vectors: Float[Tensor, "n w"], like: Float[Tensor, "n w"]) -> Float[Tensor, "n w"]:
    length: Tensor = torch.linalg.vector_norm(like, dim=1).mean()
    return torch.nn.functional.normalize(vectors, dim=1) * length
