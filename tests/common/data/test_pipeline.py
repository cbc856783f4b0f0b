"""From a source to tables: ids, order, candidates, and nothing of held-out items in what is trained on."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.data import synthetic
from common.data.pipeline import build
from common.data.recipes import BEFORE_EVENTS, DATASETS, FIVE_CORE, DataSet, Recipe, choose_recipe
from common.data.schema import INTERACTIONS, ITEMS, RELATIONS, ReadySplit, Source
from common.data.store import StoreTables
from common.errors import DataError

OWN = DataSet("own", "", "", (FIVE_CORE,))
WHOLE = Recipe("whole", "", filter="none")


def source_of(rows: list[tuple[str, str, int]], **changes: object) -> Source:
    frame = pl.DataFrame(rows, schema=["user", "item", "timestamp"], orient="row")
    events = frame.with_columns(rating=pl.lit(4.0)).cast(INTERACTIONS)
    items = pl.DataFrame({"item": events["item"].unique()}).with_columns(title="item", brand=pl.lit("b"))
    items = items.with_columns(description=pl.lit(""), category=pl.lit("")).select(list(ITEMS))
    base = Source("own", events, items, RELATIONS.to_frame(), "real", "hash")
    return replace(base, **changes)  # type: ignore[arg-type]  # values of several types


def random_rows(seed: int, users: int = 12, items: int = 150, length: int = 6) -> list[tuple[str, str, int]]:
    rng = np.random.default_rng(seed)
    chosen = [rng.permutation(items)[:length] for _ in range(users)]
    return [(f"u{u}", str(item), 100 * place + u) for u in range(users) for place, item in enumerate(chosen[u])]


def tables_of(source: Source, recipe: Recipe = WHOLE, entry: DataSet = OWN, seed: int = 0) -> StoreTables:
    return build(entry, source, recipe, seed, lambda _: None)[1]


def trained(tables: StoreTables) -> list[tuple[int, int, int]]:
    ends = tables.splits["leave_one_out"]["train_end"].tolist()
    rows = tables.interactions.select("user", "item", "timestamp").rows()
    return [row for place, row in enumerate(rows) if place < ends[row[0]]]


@settings(max_examples=10)
@given(st.integers(0, 1000))
def test_shuffling_held_out_items_changes_no_training_tensor(seed: int) -> None:
    rows = random_rows(seed)
    held = [place for place, row in enumerate(rows) if row[2] >= 400]
    moved = np.random.default_rng(seed + 1).permutation(held)
    shuffled = list(rows)
    for place, other in zip(held, moved, strict=True):
        shuffled[place] = (rows[place][0], rows[other][1], rows[place][2])
    recipe = replace(WHOLE, repeats="keep")
    before, after = (tables_of(source_of(case), recipe) for case in (rows, shuffled))
    assert trained(before) == trained(after)
    assert before.items.equals(after.items)
    assert torch.equal(before.splits["leave_one_out"]["train_end"], after.splits["leave_one_out"]["train_end"])


@settings(max_examples=10)
@given(st.integers(0, 1000))
def test_the_order_of_the_file_does_not_matter(seed: int) -> None:
    rows = [(user, item, time // 300) for user, item, time in random_rows(seed)]
    shuffled = [rows[place] for place in np.random.default_rng(seed).permutation(len(rows))]
    before, after = (tables_of(source_of(case)) for case in (rows, shuffled))
    assert before.interactions.drop("row").equals(after.interactions.drop("row"))
    negatives = [tables.candidates["leave_one_out", "sampled-19"]["test"] for tables in (before, after)]
    assert torch.equal(*negatives)


def test_ids_follow_sorted_tokens() -> None:
    tables = tables_of(source_of(random_rows(3)))
    assert tables.items["item"].to_list() == sorted(tables.items["item"].to_list(), key=int)
    assert tables.users["user"].to_list() == sorted(tables.users["user"].to_list())
    first = tables.interactions.row(0, named=True)
    assert random_rows(3)[first["row"]][:2] == (
        tables.users["user"][first["user"] - 1],
        tables.items["item"][first["item"] - 1],
    )


def test_an_item_without_events_is_kept_only_on_request() -> None:
    source = source_of(random_rows(0))
    row = {"item": "999", "title": "never bought", "description": "", "category": "", "brand": ""}
    source = replace(source, items=pl.concat([source.items, pl.DataFrame([row])]))
    assert "999" not in tables_of(source).items["item"]
    assert "999" in tables_of(source, replace(WHOLE, items="all")).items["item"]


def test_only_real_time_has_a_global_split_and_leakage() -> None:
    described = {}
    for time in ("real", "imputed", "ordinal"):
        manifest, tables = build(OWN, source_of(random_rows(0), time=time), WHOLE, 0, lambda _: None)
        assert set(manifest.splits) == set(tables.splits)
        described[time] = (set(manifest.splits), "leakage" in manifest.splits["leave_one_out"])
    assert described["real"] == ({"leave_one_out", "global_temporal"}, True)
    assert described["imputed"] == described["ordinal"] == ({"leave_one_out"}, False)


def test_protocols_with_too_few_items_are_left_out_by_name() -> None:
    manifest, tables = build(OWN, source_of(random_rows(0, items=40)), WHOLE, 0, lambda _: None)
    assert ("leave_one_out", "sampled-19") in tables.candidates
    assert ("leave_one_out", "sampled-99") not in tables.candidates
    warning = manifest.warnings["no-candidates-leave_one_out-sampled-99"]
    assert "30 of 36 items to draw 99" in warning
    # The source's name for the user: an id from 1 would be somebody else's there.
    user = next(user for user in tables.users["user"] if f"user {user!r} " in warning)
    events = tables.interactions.filter(pl.col("user") == tables.users["user"].to_list().index(user) + 1)
    assert events["item"].n_unique() == 36 - 30


def test_filters_that_leave_nothing_say_so() -> None:
    with pytest.raises(DataError, match="leaves nothing of own"):
        tables_of(source_of([("u", "1", 0), ("u", "2", 1)]), FIVE_CORE)


def test_a_printed_figure_that_differs_is_a_warning() -> None:
    entry = DATASETS["amazon-games"]
    recipe = choose_recipe(entry, "allmrec-released", ready=False)
    manifest, _ = build(entry, source_of(random_rows(0, items=9)), recipe, 0, lambda _: None)
    assert "prints 64,073 users; this store has 12" in manifest.warnings["printed-users"]


def test_warnings_about_the_files_stand_in_the_manifest() -> None:
    source = source_of(random_rows(0), warnings={"not-in-items.csv": "Some."})
    assert build(OWN, source, WHOLE, 0, lambda _: None)[0].warnings["not-in-items.csv"] == "Some."


def test_lrd_buckets_are_the_borders_passed() -> None:
    source = source_of([("u", str(item), item) for item in range(4)])
    years = pl.DataFrame({"item": ["0", "1", "2", "3"], "year": ["1995", "1899", "", "1985"]})
    source = replace(source, items=source.items.join(years, "item", maintain_order="left"))
    tables = tables_of(source, replace(WHOLE, year="lrd-buckets"))
    assert tables.items["year"].to_list() == ["13", "0", "", "7"]


def ready(test_negatives: list[list[str]]) -> Source:
    train = [(user, item, 0) for user in ("2", "10") for item in ("3", "1", "2")]
    held = [
        pl.DataFrame({"user": ["10", "2"], "item": items, "timestamp": [0, 0]}) for items in (["4", "5"], ["5", "4"])
    ]
    split = ReadySplit(held[0], held[1], [["6", "6"], ["7", "6"]], test_negatives)
    items = pl.DataFrame({"item": [str(i) for i in range(1, 10)]})
    texts = {name: pl.lit("") for name in ("title", "description", "category", "brand")}
    return source_of(train, split=split, items=items.with_columns(**texts))


def test_a_ready_made_split_keeps_order_ids_and_negatives() -> None:
    recipe = choose_recipe(DATASETS["amazon-office"], "released", ready=True)
    manifest, tables = build(DATASETS["amazon-office"], ready([["8", "7"], ["9", "9"]]), recipe, 0, lambda _: None)
    assert tables.interactions["item"].to_list() == [3, 1, 2, 5, 4, 3, 1, 2, 4, 5]
    assert manifest.num_items == 9
    stored = tables.candidates["leave_one_out", "sampled-2"]
    assert {phase: negatives.tolist() for phase, negatives in stored.items()} == {
        "val": [[7, 6], [6, 6]],
        "test": [[9, 9], [8, 7]],
    }


def test_a_ready_made_split_that_does_not_follow_time_has_no_split_by_time() -> None:
    recipe = choose_recipe(DATASETS["amazon-office"], "released", ready=True)
    source = ready([["8", "7"], ["9", "9"]])
    late = source.interactions.with_columns(timestamp=pl.lit(9, pl.Int64))
    source = replace(source, interactions=late, time="real")
    manifest, tables = build(DATASETS["amazon-office"], source, recipe, 0, lambda _: None)
    assert set(tables.splits) == {"leave_one_out"}
    assert "in order of time" in manifest.warnings["no-global-temporal"]


def test_unique_negatives_keep_what_was_shipped_and_no_more_than_once() -> None:
    recipe = choose_recipe(DATASETS["amazon-office"], "released-unique", ready=True)
    tables = tables_of(ready([["8", "7"], ["9", "9"]]), recipe, DATASETS["amazon-office"])
    first, second = tables.candidates["leave_one_out", "sampled-2"]["test"].tolist()
    assert 9 in first
    assert len(set(first)) == 2
    assert second == [8, 7]


def test_negatives_that_are_none_are_counted_where_they_are_kept() -> None:
    # User 10 is tested on item 5 and trained on 1, 2 and 3.
    source, entry = ready([["5", "3"], ["9", "8"]]), DATASETS["amazon-office"]
    kept, drawn = (
        build(entry, source, choose_recipe(entry, name, ready=True), 0, lambda _: None)[0].warnings
        for name in ("released", "released-unique")
    )
    assert kept["target-negatives-test"].startswith("1 of 2 cases have")
    assert kept["trained-negatives-test"].startswith("1 of 4 negatives are")
    assert len([name for name in (*kept, *drawn) if "negatives" in name]) == 2


def test_unknown_or_ragged_shipped_negatives_are_refused() -> None:
    recipe = choose_recipe(DATASETS["amazon-office"], "released", ready=True)
    for wrong, found in (
        ([["8", "7"], ["x", "9"]], "items of the source, found 'x'"),
        ([["8", "7"], ["9"]], "2 items as in the first row, found 1"),
    ):
        with pytest.raises(DataError, match=f"test negatives of own, user '2': expected {found}"):
            tables_of(ready(wrong), recipe, DATASETS["amazon-office"])


def test_a_user_held_out_twice_is_refused() -> None:
    source = ready([])
    assert source.split is not None
    twice = replace(source.split, val=pl.concat([source.split.val] * 2), val_negatives=[])
    recipe = choose_recipe(DATASETS["amazon-office"], "released", ready=True)
    with pytest.raises(DataError, match="split of own, user '2': expected one val event, found several"):
        tables_of(replace(source, split=twice), recipe)


def test_truth_follows_its_items() -> None:
    world = synthetic.read("planted", users=60, items=70, interactions=400)
    entry = DATASETS["synthetic"]
    shuffled = np.random.default_rng(0).permutation(70)
    assert world.truth is not None
    moved = {name: np.concatenate([array[:1], array[1:][shuffled]]) if name.startswith("item_") else array
             for name, array in world.truth.items()}  # fmt: skip
    recipe = choose_recipe(entry, "planted", ready=False)
    tables = tables_of(world, recipe, entry)
    again = tables_of(replace(world, items=world.items[shuffled], truth=moved), recipe, entry)
    assert tables.truth is not None
    assert again.truth is not None
    assert all(torch.equal(tables.truth[name], again.truth[name]) for name in tables.truth)
    assert len(tables.items) == 70
    assert entry.snapshot == BEFORE_EVENTS
