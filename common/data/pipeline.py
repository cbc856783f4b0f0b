"""From a source to the tables of a store: the stages of a recipe, in order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from common.data import filters, graph, splits, statistics
from common.data.candidates import CandidateSampler, TooFewItemsError, title_groups
from common.data.events import compact, encode, gather, sort_events, sort_tokens
from common.data.recipes import BEFORE_EVENTS, DataSet, Recipe
from common.data.schema import ITEMS, Manifest, Source
from common.data.store import NOT_ATTRIBUTES, StoreTables
from common.data.templates import TEXT_ONLY, build_text
from common.errors import DataError
from common.types import Split

CANDIDATE_SEED = 0
NEGATIVES = [99, 19]
CONSTANTS: dict[str, Any] = {
    "candidate_seed": CANDIDATE_SEED,
    "negatives": NEGATIVES,
    "quantiles": list(splits.QUANTILES),
}
"""Constants of every store, as they enter its manifest and its fingerprint."""

LINK_SAMPLE = 100_000
"""Most training targets that link rates are measured on."""

_LRD_YEARS = (1900, 1940, 1950, 1960, 1970, 1980, 1985)
_PARTS = ("val", "test")
_COLUMNS = ("user", "item", "timestamp")


@dataclass(frozen=True)
class _Kept:
    """Events after all filters, with ids from 1, and the items and users they refer to."""

    events: pl.DataFrame
    items: pl.DataFrame
    users: pl.DataFrame
    stages: list[dict[str, Any]]


def build(
    entry: DataSet, source: Source, recipe: Recipe, seed: int, show: Callable[[str], None]
) -> tuple[Manifest, StoreTables]:
    """Applies a recipe to a source.

    Args:
        entry: The data set.
        source: Its three tables.
        recipe: The recipe.
        seed: Data seed.
        show: Called with the name of each step.

    Returns:
        The manifest, without fingerprint and hashes, and the tables.

    Raises:
        DataError: If nothing is left after the filters, or a ready-made split contradicts itself.
    """
    show("Filtering")
    kept = _filter(source, recipe)
    show("Sorting")
    events = sort_events(kept.events, recipe.ties, seed)
    divided, described, warnings = _split(source, events, kept.users["user"])
    first = divided["leave_one_out"]
    show("Linking")
    relations = graph.restrict(source.relations, kept.items["item"])
    attributes = kept.items.select(pl.exclude(NOT_ATTRIBUTES))
    triplets = graph.count_triplets(relations, attributes)
    linked = _describe_graph(entry, recipe, relations, attributes, first, seed)
    show("Drawing candidates")
    candidates, too_few = _candidates(source, recipe, kept, divided)
    ties = statistics.tie_shares(first, events["row"].to_numpy(), _token_order(kept.items))
    sizes = {"users": len(kept.users), "items": len(kept.items), "interactions": len(events)}
    manifest = Manifest(
        dataset=entry.key,
        recipe=recipe.name,
        recipe_version=recipe.version,
        store_version=0,
        fingerprint="",
        time=source.time,
        time_resolution=statistics.time_resolution(events["timestamp"].to_numpy(), source.time),
        num_users=sizes["users"],
        num_items=sizes["items"],
        num_interactions=sizes["interactions"],
        num_triplets=sum(triplets.values()),
        triplets=triplets,
        stages=kept.stages,
        ties=ties,
        splits=described,
        graph=linked,
        warnings=source.warnings
        | warnings
        | too_few
        | _strangers(entry, source)
        | _perhaps_positions(source)
        | statistics.tie_warnings(ties)
        | _printed(entry, recipe, sizes),
    )
    tables = StoreTables(
        interactions=events.drop("part"),
        items=kept.items,
        users=kept.users,
        relations=relations,
        splits=divided,
        candidates=candidates,
        truth=_truth(source, kept.items["item"]),
    )
    return manifest, tables


def _filter(source: Source, recipe: Recipe) -> _Kept:
    """Encodes tokens, applies the recipe's filters and gives ids from 1, in the order of the tokens."""
    raw = gather(source.interactions, source.split)
    users = sort_tokens(raw["user"])
    occurring = [raw["item"], source.items["item"]] if recipe.items == "all" else [raw["item"]]
    tokens = sort_tokens(pl.concat(occurring))
    items = _item_table(source.items, tokens, recipe)
    has_text = (items["text"] != "").to_numpy()
    events = raw.with_columns(user=encode(raw["user"], users), item=encode(raw["item"], tokens))
    stages = [statistics.describe("raw", events, has_text)]
    for name, stage in _stages(recipe):
        events = stage(events)
        stages.append(statistics.describe(name, events, has_text))
    if events.is_empty():
        raise DataError(
            f"Recipe {recipe.name!r} leaves nothing of {source.name}; users and items need {recipe.threshold} events.",
            "Choose the recipe 'whole', or a larger source.",
        )
    user_ids, user_codes = compact(events["user"], len(users))
    item_ids, item_codes = compact(events["item"], len(tokens))
    if recipe.items == "all":
        item_ids, item_codes = events["item"] + 1, np.arange(len(tokens))
    return _Kept(
        events.with_columns(user_ids.alias("user"), item_ids.alias("item")),
        items[item_codes],
        pl.DataFrame({"user": users[user_codes]}),
        stages,
    )


def _stages(recipe: Recipe) -> list[tuple[str, Callable[[pl.DataFrame], pl.DataFrame]]]:
    stages: list[tuple[str, Callable[[pl.DataFrame], pl.DataFrame]]] = []
    rating = recipe.rating_above
    if rating is not None:
        stages.append((f"rating above {rating:g}", lambda events: filters.keep_above(events, rating)))
    if recipe.repeats != "keep":
        stages.append((f"{recipe.repeats} of repeats", lambda events: filters.drop_repeats(events, recipe.repeats)))
    if recipe.filter == "k_core":
        stages.append((f"{recipe.threshold}-core", lambda events: filters.k_core(events, recipe.threshold)))
    if recipe.filter == "min_count":
        name = f"{recipe.threshold} events or more, single pass"
        stages.append((name, lambda events: filters.min_count(events, recipe.threshold, recipe.uncounted_below)))
    return stages


def _item_table(items: pl.DataFrame, tokens: pl.Series, recipe: Recipe) -> pl.DataFrame:
    """A row for each token, in their order, with the recipe's text and attributes; row ``i`` is code ``i``."""
    table = tokens.rename("item").to_frame().join(items, "item", "left", maintain_order="left")
    table = table.with_columns(pl.exclude("item").fill_null(""))
    if recipe.year == "lrd-buckets" and "year" in table.columns:
        year = pl.col("year").cast(pl.Int32, strict=False)
        borders = [*_LRD_YEARS, *range(1990, 2100)]
        bucket = pl.sum_horizontal((year >= border).cast(pl.Int32) for border in borders)
        table = table.with_columns(
            pl.when(year.is_null()).then(pl.lit("")).otherwise(bucket.cast(pl.String)).alias("year")
        )
    text = build_text(table, recipe.text)
    attributes = [name for name in table.columns if name not in (*ITEMS, *TEXT_ONLY)]
    return table.with_columns(text).select("item", "title", "text", "description", "category", "brand", *attributes)


def _split(
    source: Source, events: pl.DataFrame, users: pl.Series
) -> tuple[dict[str, Split], dict[str, dict[str, Any]], dict[str, str]]:
    """The splits, their descriptions for the manifest, and warnings."""
    user, item, time = (torch.from_numpy(events[name].to_numpy().astype(np.int64)) for name in _COLUMNS)
    sequences = splits.build_sequences(user, item, time, int(user.max()))
    if source.split is None:
        divided = {"leave_one_out": splits.leave_one_out(sequences)}
    else:
        twice = events.filter(pl.struct("user", "part").is_duplicated() & (pl.col("part") > 0))
        if not twice.is_empty():
            who, kind = twice.select("user", "part").row(0)
            whose = f"The ready-made split of {source.name}, user {users[who - 1]!r}"
            raise DataError(
                f"{whose}: expected one {_PARTS[kind - 1]} event, found several.",
                "Keep one row per user in its validation and test files.",
            )
        part = torch.from_numpy(events["part"].to_numpy().copy())
        divided = {"leave_one_out": splits.ready_made(sequences, part)}
    described = {name: _describe_split(split) for name, split in divided.items()}
    warnings: dict[str, str] = {}
    if source.time != "real":
        return divided, described, warnings
    described["leave_one_out"]["leakage"] = splits.leakage(divided["leave_one_out"])
    cuts = splits.cut_times(sequences)
    try:
        temporal = splits.global_temporal(sequences, cuts)
    except ValueError as error:
        # A ready-made split need not follow time.
        warnings["no-global-temporal"] = f"There is no split by time: {error}."
        return divided, described, warnings
    if not len(temporal["val"]["user"]) or not len(temporal["test"]["user"]):
        warnings["no-global-temporal"] = f"No user has events before and after the cuts at times {cuts}."
        return divided, described, warnings
    divided["global_temporal"] = temporal
    described["global_temporal"] = _describe_split(temporal) | {
        "cuts": list(cuts),
        "target": "first event of the period",
    }
    return divided, described, warnings


def _describe_split(split: Split) -> dict[str, Any]:
    offsets = split["sequences"]["offsets"]
    train = split["train_end"] - offsets[:-1]
    return {
        "train_events": int(train.sum()),
        "train_instances": int((train - 1).clamp(min=0).sum()),
        "val_cases": len(split["val"]["user"]),
        "test_cases": len(split["test"]["user"]),
    }


def _describe_graph(
    entry: DataSet, recipe: Recipe, relations: pl.DataFrame, attributes: pl.DataFrame, split: Split, seed: int
) -> dict[str, Any]:
    values = {column.name: graph.value_ids(column) for column in attributes}
    known = {name: ids for name, ids in values.items() if ids.any()}
    sequences = split["sequences"]
    places = {"train": graph.training_targets(split, LINK_SAMPLE, seed)}
    places |= {"val": split["val"]["position"].numpy(), "test": split["test"]["position"].numpy()}
    return {
        "recipe": recipe.relations,
        "snapshot": None if relations.is_empty() else entry.snapshot or "unknown",
        # Lists crawled after the data ended, or at an unknown time, may reveal held-out events.
        "post_hoc": not relations.is_empty() and entry.snapshot != BEFORE_EVENTS,
        "link_rates": {name: graph.link_rates(sequences, place, relations, known) for name, place in places.items()},
    }


def _perhaps_positions(source: Source) -> dict[str, str]:
    """A warning about recorded times that are so small that they may be row numbers."""
    latest = source.interactions["timestamp"].max()
    if source.time != "real" or not isinstance(latest, int) or not 0 < latest <= source.interactions.height:
        return {}
    what = f"The latest time is {latest:,}, less than the number of events: is it a position instead of a second?"
    return {"times": f"{what} Then prepare again with --time ordinal."}


def _strangers(entry: DataSet, source: Source) -> dict[str, str]:
    """Warns of relations to items that the source lacks, unless they are a shop's lists, which have a snapshot date.

    Whoever ships a split has cut these lists to its items.
    """
    if source.relations.is_empty() or (entry.snapshot and source.split is None):
        return {}
    items = [gather(source.interactions, source.split)["item"], source.items["item"]]
    return graph.strangers(source.relations, sort_tokens(pl.concat(items)))


def _candidates(
    source: Source, recipe: Recipe, kept: _Kept, divided: dict[str, Split]
) -> tuple[dict[tuple[str, str], dict[str, torch.Tensor]], dict[str, str]]:
    """The candidates by split and protocol, and warnings: protocols with too few items, negatives that are none."""
    groups = title_groups(kept.items["title"].to_list())
    sampler = CandidateSampler(divided["leave_one_out"]["sequences"], groups)
    shipped = _shipped(source, kept) if recipe.negatives != "drawn" else {}
    candidates = {}
    warnings = _no_negatives(divided["leave_one_out"], shipped) if recipe.negatives == "shipped" else {}
    for place, (name, split) in enumerate(divided.items()):
        for count in sorted({*NEGATIVES, *(size for _, size, _ in shipped)}):
            key, found = f"sampled-{count}", {}
            try:
                for phase, cases in enumerate((split["val"], split["test"])):
                    initial = shipped.get((name, count, _PARTS[phase]))
                    seed = [CANDIDATE_SEED, count, place, phase]
                    if initial is None or recipe.negatives == "shipped-unique":
                        initial = sampler.draw(cases, count, seed, initial)
                    found[_PARTS[phase]] = torch.from_numpy(initial)
            except TooFewItemsError as error:
                who = kept.users["user"][error.user - 1]
                warnings[f"no-candidates-{name}-{key}"] = f"{key} is not stored for {name}: user {who!r} {error.reason}"
                continue
            candidates[name, key] = found
    return candidates, warnings


def _shipped(source: Source, kept: _Kept) -> dict[tuple[str, int, str], NDArray[np.int32]]:
    """The negatives that a ready-made split ships, in the order of its cases: ascending user id."""
    assert source.split is not None
    shipped: dict[tuple[str, int, str], NDArray[np.int32]] = {}
    for part, (name, rows) in enumerate(
        zip(_PARTS, (source.split.val_negatives, source.split.test_negatives), strict=True)
    ):
        if not rows:
            continue
        events = kept.events.filter(pl.col("part") == part + 1).sort("row")
        count = len(rows[0])
        flat = pl.Series([item for row in rows for item in row], dtype=pl.String)
        ids = encode(flat, kept.items["item"]) + 1
        users = kept.users["user"].gather(events["user"] - 1)
        whose = f"The {name} negatives of {source.name}, user "
        cure = "Fix the file, or leave its negatives out."
        if odd := [place for place, row in enumerate(rows) if len(row) != count]:
            what = f"expected {count} items as in the first row, found {len(rows[odd[0]])}."
            raise DataError(f"{whose}{users[odd[0]]!r}: {what}", cure)
        if len(unknown := ids.is_null().arg_true()):
            what = f"expected items of the source, found {flat[unknown[0]]!r}."
            raise DataError(f"{whose}{users[unknown[0] // count]!r}: {what}", cure)
        table = ids.to_numpy().reshape(len(rows), count).astype(np.int32)
        shipped["leave_one_out", count, name] = table[np.argsort(events["user"].to_numpy(), kind="stable")]
    return shipped


def _no_negatives(split: Split, shipped: dict[tuple[str, int, str], NDArray[np.int32]]) -> dict[str, str]:
    """Warnings about shipped negatives that are the target itself, or known from the user's training events."""
    sequences = split["sequences"]
    items = sequences["items"].numpy().astype(np.int64)
    pairs = splits.event_users(sequences).numpy() << 32 | items
    trained = pairs[splits.is_training(split).numpy()]
    warnings: dict[str, str] = {}
    for (_, _, name), table in shipped.items():
        cases = split["val"] if name == "val" else split["test"]
        targets = items[cases["position"].numpy()]
        ties = int((table == targets[:, None]).any(axis=1).sum())
        known = int(np.isin(cases["user"].numpy()[:, None] << 32 | table, trained).sum())
        cure = "Recipe released-unique draws others instead."
        if ties:
            what = f"{ties:,} of {len(table):,} cases have their target among the negatives, where it ties with itself."
            warnings[f"target-negatives-{name}"] = f"{what} {cure}"
        if known:
            what = f"{known:,} of {table.size:,} negatives are training items of their user."
            warnings[f"trained-negatives-{name}"] = f"{what} {cure}"
    return warnings


def _token_order(items: pl.DataFrame) -> NDArray[np.int64]:
    """The rank of each item, by id, in the order of its publisher's ids."""
    if "raw_id" not in items.columns:
        return np.arange(len(items) + 1)
    return np.concatenate([[0], items["raw_id"].rank("ordinal").to_numpy().astype(np.int64)])


def _truth(source: Source, items: pl.Series) -> dict[str, torch.Tensor] | None:
    """The known truth, with arrays about items in the order of the store's ids."""
    if source.truth is None:
        return None
    rows = encode(items, source.items["item"]).to_numpy() + 1
    order = np.concatenate([[0], rows])
    ordered = {name: array[order] if name.startswith("item_") else array for name, array in source.truth.items()}
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in ordered.items()}


def _printed(entry: DataSet, recipe: Recipe, sizes: dict[str, int]) -> dict[str, str]:
    printed = entry.printed.get(recipe.name)
    if printed is None:
        return {}
    figures = {name: getattr(printed, name) for name in sizes}
    return statistics.printed_warnings(figures, sizes, printed.where)
