from functools import cache

import numpy as np
import polars as pl
import pytest

from common.data import synthetic
from common.data.schema import Source
from common.data.synthetic_text import DEPARTMENTS, draw_names

DEVICE = r"^\w+ (?<family>\w+ \d) (?<function>[a-z ]+), \w+, model \d+$"
OTHER = r"^\w+ (?<function>[a-z ]+) for (?<family>\w+ \d), \w+, model \d+$"


@cache
def planted(tau: float = 0.8) -> Source:
    return synthetic.read(tau=tau)


def reading(source: Source) -> pl.DataFrame:
    assert source.truth is not None
    groups = [
        pl.col("title").str.extract_groups(pattern).alias(name) for name, pattern in (("d", DEVICE), ("o", OTHER))
    ]
    said = source.items.select(*groups).select(
        function=pl.coalesce(pl.col("d").struct.field("function"), pl.col("o").struct.field("function")),
        family=pl.coalesce(pl.col("d").struct.field("family"), pl.col("o").struct.field("family")),
    )
    truth = {name: source.truth[f"item_{name}"][1:] for name in ("function", "family", "readable")}
    return said.with_columns(**{f"true_{name}": pl.Series(values) for name, values in truth.items()})


@pytest.mark.parametrize("tau", [0.0, 0.3, 0.8, 1.0])
def test_tau_is_the_share_of_titles_that_a_pattern_can_read(tau: float) -> None:
    read = reading(planted(tau))
    assert (read["family"].is_not_null() == read["true_readable"]).all()
    assert read["true_readable"].mean() == pytest.approx(tau, abs=0.05)


@pytest.mark.parametrize("name", ["function", "family"])
def test_what_is_read_is_the_truth(name: str) -> None:
    read = reading(planted()).drop_nulls()
    pairs = read.select(name, f"true_{name}").unique()
    assert pairs[name].is_unique().all()
    assert pairs[f"true_{name}"].is_unique().all()
    assert len(pairs) > 30


def test_descriptions_of_readable_items_repeat_function_and_family() -> None:
    source = planted(1.0)
    read = reading(source).with_columns(source.items["description"])
    assert read.select(pl.col("description").str.contains(pl.col("function"), literal=True).all()).item()
    assert read.select(pl.col("description").str.contains(pl.col("family"), literal=True).all()).item()


def test_uninformative_texts_name_no_product_and_no_family() -> None:
    plain = planted(0.0).items
    products = [product for _, words in DEPARTMENTS for product in words.split("|")]
    for column in ("title", "description"):
        assert not plain[column].str.contains_any(products).any()
        assert not plain[column].str.contains(r"[A-Z]\w+ \d\b").any()


def test_uninformative_texts_have_the_length_of_the_others() -> None:
    plain, told = (planted(tau).items["title"].str.split(" ").list.len().mean() for tau in (0.0, 1.0))
    assert plain == pytest.approx(told, abs=1.0)


def test_titles_and_product_words_are_distinct() -> None:
    assert planted().items["title"].is_unique().all()
    products = [product for _, words in DEPARTMENTS for product in words.split("|")]
    assert len(set(products)) == len(products) == 8 * len(DEPARTMENTS)


def test_names_are_distinct_and_enough_for_the_largest_world() -> None:
    names = draw_names(14_832, np.random.default_rng(0))
    assert len(set(names)) == 14_832
