"""The catalogue of data sets and recipes."""

import re
from dataclasses import replace

import pytest

from common.data.recipes import DATASETS, choose_recipe, find_data_set
from common.errors import UserError

RAW = [key for key in DATASETS if key != "synthetic"]


def test_every_key_of_the_suite_is_there() -> None:
    movielens = {"ml-100k", "ml-1m", "ml-latest-small", "ml-20m", "ml-32m"}
    amazon = {"office", "electronics", "beauty", "movies", "games", "luxury-beauty", "toys"}
    assert set(DATASETS) == movielens | {f"amazon-{name}" for name in amazon} | {"synthetic"}


@pytest.mark.parametrize("key", RAW)
def test_raw_data_default_to_an_iterated_5_core(key: str) -> None:
    recipe = choose_recipe(DATASETS[key], None, ready=False)
    assert (recipe.name, recipe.filter, recipe.threshold) == ("5-core", "k_core", 5)


def test_a_ready_made_split_defaults_to_staying_as_it_is() -> None:
    recipe = choose_recipe(DATASETS["amazon-office"], None, ready=True)
    assert (recipe.name, recipe.filter, recipe.ties, recipe.negatives) == ("released", "none", "file", "shipped")


def test_names_of_recipes_are_unique_and_safe_as_folders() -> None:
    for entry in DATASETS.values():
        names = [recipe.name for recipe in entry.recipes]
        assert len(set(names)) == len(names)
        assert all(re.fullmatch(r"[a-z0-9-]+", name) for name in names)
        assert set(entry.printed) <= set(names)


def test_a_store_is_named_by_what_a_recipe_does_and_not_by_what_it_says() -> None:
    recipe = choose_recipe(DATASETS["ml-100k"], None, ready=False)
    assert replace(recipe, summary="other words").settings == recipe.settings
    others = [{"name": "own"}, {"version": 2}, {"threshold": 4}, {"repeats": "keep"}, {"text": "allmrec"}]
    assert all(replace(recipe, **change).settings != recipe.settings for change in others)  # type: ignore[arg-type]  # values of several types


def test_the_released_code_of_allmrec_counts_once_and_the_paper_rates() -> None:
    released = choose_recipe(DATASETS["amazon-toys"], "allmrec-released", ready=False)
    assert (released.filter, released.threshold, released.uncounted_below) == ("min_count", 4, 3.0)
    printed = choose_recipe(DATASETS["amazon-toys"], "allmrec", ready=False)
    assert (printed.filter, printed.threshold, printed.rating_above) == ("k_core", 4, 3.0)
    games = choose_recipe(DATASETS["amazon-games"], "allmrec-released", ready=False)
    assert (games.threshold, games.uncounted_below) == (5, None)


def test_a_near_miss_is_corrected() -> None:
    with pytest.raises(UserError, match="Did you mean 'amazon-beauty'"):
        find_data_set("amazon-beuty")
    with pytest.raises(UserError, match="Did you mean 'lrd-released'"):
        choose_recipe(DATASETS["ml-100k"], "lrd-relesed", ready=False)


def test_a_recipe_must_fit_the_source() -> None:
    with pytest.raises(UserError, match=r"ships a ready-made split(?s:.*)released"):
        choose_recipe(DATASETS["amazon-office"], "5-core", ready=True)
    with pytest.raises(UserError, match="ships no ready-made split"):
        choose_recipe(DATASETS["amazon-office"], "released", ready=False)


def test_own_data_go_by_a_name_of_their_own() -> None:
    assert find_data_set("my-shop_2", own=True).recipes[0].name == "5-core"
    with pytest.raises(UserError, match=r"'\.\./x' cannot name"):
        find_data_set("../x", own=True)
