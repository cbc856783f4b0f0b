"""Events as integers: ids by sorted token, and the order that a store keeps them in."""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from common.data.schema import ReadySplit
from common.hashing import GOLDEN_GAMMA, mix64

TieRule = Literal["hash", "file"]


def sort_tokens(tokens: pl.Series) -> pl.Series:
    """The distinct tokens in order, whole numbers first and by value.

    Ids follow this order and thus reveal nothing about time or popularity.

    >>> sort_tokens(pl.Series(["10", "B1", "9", "10"])).to_list()
    ['9', '10', 'B1']
    """
    table = pl.DataFrame({"token": tokens}).unique()
    digits = pl.col("token").str.strip_chars_start("0")
    number = pl.col("token").str.contains(r"^\d+$")
    # Without leading zeros, numbers of equal length compare like their texts, and no number overflows.
    keys = [~number, pl.when(number).then(digits.str.len_bytes()), pl.when(number).then(digits), pl.col("token")]
    return table.sort(keys)["token"]


def encode(tokens: pl.Series, sorted_tokens: pl.Series) -> pl.Series:
    """The position of each token in ``sorted_tokens``, from 0; null for a token that is not there."""
    return tokens.cast(pl.Enum(sorted_tokens), strict=False).to_physical().cast(pl.Int32)


def gather(interactions: pl.DataFrame, split: ReadySplit | None) -> pl.DataFrame:
    """The events of a source with their position in it (``row``) and their ``part`` of a ready-made split.

    ``part`` is 0, 1 or 2 for training, validation and test, and 0 throughout where no split is shipped.
    """
    tables = [interactions] if split is None else [interactions, split.val, split.test]
    parts = [table.with_columns(part=pl.lit(part, pl.Int8)) for part, table in enumerate(tables)]
    return pl.concat(parts, how="diagonal").with_row_index("row").with_columns(pl.col("row").cast(pl.Int64))


def keyed_hash(users: NDArray[np.integer], items: NDArray[np.integer], seed: int) -> NDArray[np.uint64]:
    """A 64-bit hash of each (user, item) pair under a seed."""
    value = users.astype(np.uint64) << np.uint64(32) | items.astype(np.uint64)
    value += np.uint64((seed + 1) * GOLDEN_GAMMA % 2**64)
    return mix64(torch.from_numpy(value.view(np.int64))).numpy().view(np.uint64)


def sort_events(events: pl.DataFrame, ties: TieRule, seed: int) -> pl.DataFrame:
    """The events by (user, part, timestamp, key).

    Args:
        events: ``user, item, timestamp, row, part``, integers.
        ties: ``hash`` orders tied events by a hash of user, item and seed, which the ids do not predict;
            ``file`` keeps the source's order, which in same-day data may reveal the target (PROTOCOL D5).
        seed: The data seed.
    """
    if ties == "file":
        return events.sort("user", "part", "timestamp", "row")
    key = pl.Series("key", keyed_hash(events["user"].to_numpy(), events["item"].to_numpy(), seed))
    return events.with_columns(key).sort("user", "part", "timestamp", "key", "row").drop("key")


def compact(codes: pl.Series, size: int) -> tuple[pl.Series, NDArray[np.int64]]:
    """Ids from 1 without gaps in the order of the codes, and the codes that occur.

    Args:
        codes: Codes from 0.
        size: Number of possible codes.
    """
    occurs = np.bincount(codes.to_numpy(), minlength=size) > 0
    ids = np.cumsum(occurs, dtype=np.int32)
    return pl.Series(codes.name, ids[codes.to_numpy()]), np.flatnonzero(occurs)
