import hashlib
from functools import cache
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from common.data import synthetic
from common.data.schema import INTERACTIONS, ITEMS, RELATIONS, Source
from common.data.synthetic import WORLDS, true_relation
from common.data.synthetic_graph import FIRST_LATENT
from common.data.synthetic_graph import RELATIONS as NAMES
from common.errors import UserError


@cache
def world(name: str = "planted", **arguments: float) -> Source:
    return synthetic.read(name, **arguments)  # type: ignore[arg-type]  # values of several types


def truth_of(source: Source) -> dict[str, NDArray[Any]]:
    assert source.truth is not None
    return source.truth


def ids(source: Source, tokens: pl.Series) -> NDArray[np.int64]:
    return np.searchsorted(source.items["item"].to_numpy(), tokens.to_numpy()) + 1


def true_matrix(source: Source) -> NDArray[np.uint8]:
    everything = np.arange(1, source.items.height + 1)
    return true_relation(truth_of(source), everything[:, None], everything)


def observed_matrix(source: Source) -> NDArray[np.uint8]:
    table = source.relations
    observed = np.zeros((source.items.height,) * 2, np.uint8)
    named = table["relation"].replace_strict({name: i for i, name in enumerate(NAMES)}, return_dtype=pl.UInt8)
    observed[ids(source, table["head"]) - 1, ids(source, table["tail"]) - 1] = named
    return observed


@pytest.mark.parametrize("name", WORLDS)
def test_every_world_has_the_sizes_asked_for_and_repeats_no_pair(name: str) -> None:
    source = world(name, users=300, items=400, interactions=3_000)
    events = source.interactions
    assert (events.height, events["user"].n_unique(), source.items.height) == (3_000, 300, 400)
    assert events.select("user", "item").is_duplicated().sum() == 0
    assert events["item"].is_in(source.items["item"].implode()).all()


def test_tables_have_the_columns_of_the_schema_and_the_rule() -> None:
    source = world()
    assert source.interactions.drop("rule").schema == INTERACTIONS
    assert source.items.schema == ITEMS
    assert source.relations.schema == RELATIONS
    assert source.time == "real"
    assert source.items["item"].is_sorted()


def test_the_seed_decides_everything() -> None:
    small: dict[str, Any] = {"users": 200, "items": 200, "interactions": 1_500}
    first, again, other = synthetic.read(**small), synthetic.read(**small), synthetic.read(seed=1, **small)
    for table in ("interactions", "items", "relations"):
        assert getattr(first, table).equals(getattr(again, table))
        assert not getattr(first, table).equals(getattr(other, table))
    assert first.content_hash == again.content_hash != other.content_hash


@pytest.mark.parametrize(
    "change", [{"users": 201}, {"items": 201}, {"interactions": 1_501}, {"rho": 0.3}, {"tau": 0.5}]
)
def test_content_hash_names_every_argument(change: dict[str, Any]) -> None:
    small: dict[str, Any] = {"users": 200, "items": 200, "interactions": 1_500}
    assert synthetic.read(**small).content_hash != synthetic.read(**{**small, **change}).content_hash


def test_the_worlds_of_this_version_never_change() -> None:
    source = world(users=200, items=200, interactions=1_500)
    digest = hashlib.sha256()
    for table in (source.interactions, source.items, source.relations):
        digest.update(table.with_columns(pl.all().cast(pl.String)).write_csv().encode())
    assert (synthetic.VERSION, digest.hexdigest()[:16]) == (1, "79db0d6c35299220")


def test_default_shares_stand_in_the_arguments() -> None:
    assert world().arguments["rho"] == 0.4
    assert world("null-relations").arguments["rho"] == 0.0
    assert world("observed-only").arguments["kappa"] == 1.0


def test_true_relation_agrees_with_a_naive_reading_of_the_tables() -> None:
    source = world()
    truth = truth_of(source)
    heads, tails = np.random.default_rng(0).integers(0, 1_001, (2, 4_000))
    expected = []
    for head, tail in zip(heads, tails, strict=True):
        family, other = truth["item_family"][head], truth["item_family"][tail]
        joined = 1 if family == other else 2 if truth["next_family"][family] == other else 0
        layer = truth["function_relation"][joined]
        related = layer[truth["item_function"][head], truth["item_function"][tail]]
        expected.append(0 if head == tail else related)
    assert true_relation(truth, heads, tails).tolist() == expected
    assert sum(e > 0 for e in expected) > 50


def test_padding_is_related_to_nothing() -> None:
    everything = np.arange(1_001)
    truth = truth_of(world())
    assert not true_relation(truth, np.zeros(1, np.int64), everything).any()
    assert not true_relation(truth, everything, np.zeros(1, np.int64)).any()


def test_triplets_are_true_and_never_latent() -> None:
    source = world()
    observed, true = observed_matrix(source), true_matrix(source)
    assert (observed[observed > 0] == true[observed > 0]).all()
    assert set(source.relations["relation"]) == {"complement", "substitute"}
    assert (true >= FIRST_LATENT).sum() > 5_000


def test_no_latent_pair_is_a_triplet_read_backwards() -> None:
    true = true_matrix(world(kappa=1.0))
    observed = (true > 0) & (true < FIRST_LATENT)
    assert not (observed.T & (true >= FIRST_LATENT)).any()


@pytest.mark.parametrize("kappa", [0.25, 0.5, 0.9])
def test_kappa_is_the_observed_share_of_complements_and_substitutes(kappa: float) -> None:
    source = world(kappa=kappa)
    true = true_matrix(source)
    edges = int(((true > 0) & (true < FIRST_LATENT)).sum())
    assert source.relations.height / edges == pytest.approx(kappa, abs=4 * (kappa * (1 - kappa) / edges) ** 0.5)


def test_observed_only_holds_every_relation() -> None:
    source = world("observed-only")
    assert (observed_matrix(source) == true_matrix(source)).all()
    assert set(source.relations["relation"]) == set(NAMES[1:])


def test_text_taste_has_no_relation() -> None:
    source = world("text-taste")
    assert source.relations.is_empty()
    assert not true_matrix(source).any()
    assert set(source.interactions["rule"].cast(pl.String)) == {"taste", "popularity"}


def test_text_taste_shows_in_the_style_words_of_a_user_and_only_there() -> None:
    def agreement(name: str) -> float:
        source = world(name, tau=1.0)
        style = source.items.select("item", "category", style=pl.col("title").str.extract(r", (\w+), model"))
        events = source.interactions.join(style, on="item", maintain_order="left")
        same_user = pl.col("user") == pl.col("user").shift(1)
        steps = events.with_columns(before=pl.col("style").shift(1), place=pl.col("category").shift(1)).filter(
            same_user
        )
        near = steps.filter(pl.col("category") == pl.col("place"))
        return float((near["style"] == near["before"]).cast(pl.Float64).mean())  # type: ignore[arg-type]  # polars has one type for all means

    assert agreement("text-taste") > 2 / 12
    assert agreement("planted") < 1.3 / 12


def test_null_text_keeps_the_texts_and_breaks_their_tie_to_the_item() -> None:
    planted, permuted = world(tau=1.0), world("null-text", tau=1.0)
    assert sorted(planted.items["title"]) == sorted(permuted.items["title"])
    assert planted.items.drop("title", "description").equals(permuted.items.drop("title", "description"))
    assert planted.interactions.equals(permuted.interactions)
    brand_in_title = permuted.items["title"].str.split(" ").list.first() == permuted.items["brand"]
    assert brand_in_title.mean() < 0.1  # type: ignore[operator]  # polars has one type for all means
    assert not truth_of(permuted)["item_readable"].any()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"world": "plantd"}, "Did you mean 'planted'"),
        ({"rho": 1.5}, "from 0 to 1"),
        ({"tau": -0.1}, "from 0 to 1"),
        ({"world": "text-taste", "rho": 0.2}, "has no relations"),
        ({"seed": -1}, "seed from 0"),
        ({"items": 20}, "at least 64 items"),
        ({"users": 0}, "users"),
        ({"users": 7_000}, "at least 21000 interactions"),
        ({"users": 10, "interactions": 20_000}, "for more users or items"),
    ],
)
def test_impossible_worlds_name_the_cure(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        synthetic.read(**arguments)
