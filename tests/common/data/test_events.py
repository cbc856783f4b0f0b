"""Ids, codes and order of events."""

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from common.data.events import compact, encode, keyed_hash, sort_events, sort_tokens

TOKENS = st.lists(st.one_of(st.integers(0, 2000).map(str), st.text("ab01", min_size=1, max_size=3)), min_size=1)


@given(TOKENS)
def test_numbers_sort_by_value_before_words(tokens: list[str]) -> None:
    def key(token: str) -> tuple[bool, int, str]:
        return (False, int(token), token) if token.isdigit() else (True, 0, token)

    assert sort_tokens(pl.Series(tokens)).to_list() == sorted(set(tokens), key=key)


@given(TOKENS)
def test_codes_lead_back_to_their_tokens(tokens: list[str]) -> None:
    ordered = sort_tokens(pl.Series(tokens))
    assert ordered.gather(encode(pl.Series(tokens), ordered)).to_list() == tokens


def test_an_unknown_token_has_no_code() -> None:
    assert encode(pl.Series(["a", "x"]), pl.Series(["a", "b"])).to_list() == [0, None]


@given(st.lists(st.integers(0, 9), min_size=1))
def test_compact_ids_keep_the_order_without_gaps(codes: list[int]) -> None:
    ids, present = compact(pl.Series(codes), 10)
    assert present.tolist() == sorted(set(codes))
    assert [int(present[i - 1]) for i in ids] == codes


def tied(users: int, items: int) -> pl.DataFrame:
    pairs = [(user, item) for user in range(1, users + 1) for item in range(1, items + 1)]
    frame = pl.DataFrame(pairs, schema={"user": pl.Int32, "item": pl.Int32}, orient="row")
    return frame.with_columns(timestamp=pl.lit(0), part=pl.lit(0)).with_row_index("row")


def test_hashed_ties_tell_nothing_of_ids() -> None:
    items = sort_events(tied(400, 20), "hash", 0)["item"].to_numpy().reshape(400, 20)
    assert abs((np.diff(items) > 0).mean() - 0.5) < 0.03


def test_file_ties_keep_the_order_of_the_source() -> None:
    events = tied(3, 5)
    assert sort_events(events.reverse(), "file", 0).equals(events)


def test_the_order_of_ties_depends_on_the_seed_and_not_on_the_input_order() -> None:
    events = tied(20, 10)
    first = sort_events(events, "hash", 0)
    assert first.equals(sort_events(events.sample(fraction=1.0, shuffle=True, seed=1), "hash", 0))
    assert not first.equals(sort_events(events, "hash", 1))


def test_the_hash_spreads_over_64_bits() -> None:
    users, items = np.divmod(np.arange(100_000), 300)
    values = keyed_hash(users, items, 0)
    assert len(np.unique(values)) == 100_000
    bits = (values[:, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)
    assert np.abs(bits.mean(0) - 0.5).max() < 0.01
