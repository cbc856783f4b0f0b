"""Which of several stores is meant, and what is said if none is."""

from pathlib import Path

import pytest

from common.data.recipes import DATASETS
from common.data.stores import find_store
from common.errors import UserError
from tests.common.data.made_stores import write


def test_a_missing_store_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"`recbench prepare ml-1m --recipe 5-core --root {tmp_path}`"):
        find_store(tmp_path, "ml-1m", "5-core")
    with pytest.raises(UserError, match="Did you mean '5-core'"):
        find_store(tmp_path, "ml-1m", "5core")
    with pytest.raises(UserError, match="give their folder with --root"):
        find_store(tmp_path, "ml-1m", store="5-core-0123456789ab")


def test_of_several_stores_one_must_be_named(tmp_path: Path) -> None:
    first, second = write(tmp_path), write(tmp_path, fingerprint="f" * 16)
    with pytest.raises(UserError, match=f"{first.path.name}, {second.path.name}"):
        find_store(tmp_path, "tiny")
    assert find_store(tmp_path, "tiny", store=second.path.name).path == second.path
    assert find_store(tmp_path, "tiny", second.path.name).path == second.path
    assert find_store(tmp_path, "tiny", "5-core", first.path.name).manifest == first.manifest


def test_of_several_recipes_the_first_of_the_data_set_is_meant(tmp_path: Path) -> None:
    first, second, *_ = recipes = DATASETS["ml-100k"].recipes
    for recipe in reversed(recipes):
        write(tmp_path, dataset="ml-100k", recipe=recipe.name, recipe_version=recipe.version)
    assert find_store(tmp_path, "ml-100k").manifest.recipe == first.name
    assert find_store(tmp_path, "ml-100k", second.name).manifest.recipe == second.name


def test_an_unknown_data_set_is_corrected(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no data set 'ml-10k'(?s:.*)'ml-100k'"):
        find_store(tmp_path, "ml-10k")


def test_a_store_of_an_older_recipe_is_taken_by_its_id_alone(tmp_path: Path) -> None:
    (recipe,) = (one for one in DATASETS["ml-100k"].recipes if one.name == "lrd")
    old = write(tmp_path, dataset="ml-100k", recipe="lrd", recipe_version=recipe.version - 1)
    for named in (None, "lrd"):
        with pytest.raises(UserError, match=rf"{old.path.name}, of an older version(?s:.*)recbench prepare ml-100k"):
            find_store(tmp_path, "ml-100k", named)
    assert find_store(tmp_path, "ml-100k", store=old.path.name).path == old.path
    assert find_store(tmp_path, "ml-100k", old.path.name).path == old.path
    new = write(tmp_path, dataset="ml-100k", recipe="lrd", recipe_version=recipe.version, fingerprint="f" * 16)
    assert find_store(tmp_path, "ml-100k", "lrd").path == new.path
