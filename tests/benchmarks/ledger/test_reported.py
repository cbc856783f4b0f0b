"""Figures of the papers are read whole, and what has no table or is no number is refused."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.description import parameter_counts
from benchmarks.experiments import find_suite, suite_names
from benchmarks.launch.rows import SuiteRow, experiment_of, key_of, rows_of
from benchmarks.launch.suites import Suite, read_suite
from benchmarks.ledger.command import record_of, texts_of
from benchmarks.ledger.conditions import named
from benchmarks.ledger.judge import LedgerEntry
from benchmarks.ledger.reported import REPORTED, Paper, paper_names, read_paper
from benchmarks.ledger.schema import SLICES
from benchmarks.settings import setting_of
from common.data.recipes import DATASETS
from common.data.scenarios import slices
from common.data.splits import leave_one_out
from common.errors import UserError
from common.types import Sequences
from lrd.backbones.kda import KDA
from lrd.backbones.rcf import RCF
from lrd.discovery import LatentRelationDiscovery
from lrd.module import LRD
from tests.benchmarks.ledger.made_papers import TINY, written


@pytest.fixture(params=paper_names())
def paper(request: pytest.FixtureRequest) -> Paper:
    """A paper whose figures ship."""
    return read_paper(REPORTED / f"{request.param}.yaml")


def test_shipped_figures_are_read_with_a_word_on_all_of_them(paper: Paper) -> None:
    assert paper.cells
    assert paper.note
    for cell in paper.cells:
        assert cell.value > 0 or cell.metric in ("pairs_category", "pairs_brand"), cell


def test_shipped_figures_are_shown_as_they_are_printed(paper: Paper) -> None:
    records = [record_of(paper.name, LedgerEntry(cell, None, "missing")) for cell in paper.cells]
    assert [float(texts_of(record)["printed"].replace(",", "")) for record in records] == [c.value for c in paper.cells]


def test_shipped_figures_agree_with_the_recipes_and_with_each_other(paper: Paper) -> None:
    for dataset, metric, value in [(c.place.dataset, c.metric, c.value) for c in paper.cells if not c.method]:
        printed = [entry for recipe, entry in DATASETS[dataset].printed.items() if recipe in paper.recipes]
        assert all(getattr(entry, metric, value) == value for entry in printed)
    # The method itself stands in several tables, always with the same figure.
    own = [c for c in paper.cells if c.method == "allmrec" and c.metric == "hr@1"]
    overall = {(c.place.dataset, c.value) for c in own if c.place.slice == c.place.scenario == "overall"}
    assert len(overall) == len({dataset for dataset, _ in overall})


def test_every_ordering_of_a_column_agrees_with_its_figures(paper: Paper) -> None:
    figures = {(c.place, c.metric, c.method): c.value for c in paper.cells}
    for claim in paper.claims:
        if not claim.suites:
            better, worse = (figures[claim.place, claim.metric, name] for name in (claim.better, claim.worse))
            assert better > worse, claim


def test_figures_and_orderings_of_a_file(tmp_path: Path) -> None:
    paper = read_paper(written(tmp_path, TINY))
    assert [(c.method, c.metric, c.value) for c in paper.cells] == [
        ("", "users", 943), ("sasrec", "hr@10", 0.2), ("caser", "hr@10", 0.1), ("caser", "ndcg@10", 0.05)
    ]  # fmt: skip
    assert [(claim.better, claim.worse) for claim in paper.claims] == [("sasrec", "caser")]
    assert {(not cell.method, cell.tolerance) for cell in paper.cells} == {(True, 0.0), (False, 0.1)}


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("    about: all users\n", "", "Table 2: expected a field 'about'"),
        ("  - table: Table 2\n    about", "  - about", "tables, 1: expected a field 'table'"),
        ("  - table: Table 2", "  - table: null", "tables, 1, table: expected a text, found None"),
        ("  - table: Table 2", "  - table: ''", "tables, 1, table: expected a text, found ''"),
        ("  - table: Table 2", "  - table: ''\n    metric: hr", "tables, 1, metric: expected a metric, found 'hr'"),
        ("dataset: ml-100k, best", "dataset: '', best", "Table 2, columns, 1, dataset: expected a data set, found ''"),
        ("{dataset: ml-100k, best", "{best", "Table 2, columns, 1: expected a field 'dataset'"),
        ("dataset: ml-100k, best", "dataset: ml-100, best", "expected a data set, found 'ml-100'"),
        ("sasrec: 0.2", "sasrec: high", "Table 2, ml-100k, values, sasrec: expected a number, found 'high'"),
        ("sasrec: 0.2", "sasrec: null", "Table 2, ml-100k, values, sasrec: expected a number, found None"),
        ("sasrec: 0.2", "sasrec: true", "Table 2, ml-100k, values, sasrec: expected a number, found True"),
        ("sasrec: 0.2", "sasrec: .nan", "Table 2, ml-100k, values, sasrec: expected a number, found nan"),
        ("sasrec: 0.2", "sasrec: 20", r"Table 2, ml-100k, values, sasrec: expected a share for hr@10, found 20"),
        ("sasrec: 0.2", "sasrec: 0.2, sasrec: 0.3", "line 17: sasrec is already in line 17"),
        ("sasrec: 0.2", "sasrek: 0.2", "expected a method, found 'sasrek'"),
        ("hr@10: 0.1,", "hits@10: 0.1,", "expected a metric, found 'hits@10'"),
        ("best: sasrec", "best: tisasrec", "Table 2, ml-100k, best: expected a method with a figure, found 'tisasrec'"),
        ("best: sasrec", "slice: cold", "Table 2, ml-100k, slice: expected a slice, found 'cold'"),
        (
            "    about: all",
            "    scenario: cold\n    about: all",
            "Table 2, scenario: expected a scenario, found 'cold'",
        ),
        ("    about: all", "    abuot: all\n    about: all", "Table 2: expected a known field, found 'abuot'"),
        ("0.1, ndcg@10: 0.05", "0.1, train_ratio: 2", "Table 2: expected a field 'relative_to' for ratios"),
        (
            "    about: all users",
            "    about: all users\n    metric: train_ratio\n    relative_to: caser",
            "Table 2: expected no orderings by ratio, found 'train_ratio'",
        ),
        (
            "0.1, ndcg@10: 0.05",
            "0.1, loss_lrd: 0.6",
            "Table 2: expected a field 'differs' or 'not_applicable' for what no run measures",
        ),
        (
            "recipe: [5-core]",
            "recipe: [5-core]\n  file_recipe: {ml-100k: [6-core]}",
            "requires, file_recipe, ml-100k, 1: expected a recipe, found '6-core'",
        ),
        ("    about", "    gpus: A6000\n    about", "Table 2, gpus: expected a list, found 'A6000'"),
        ("{users: 943}", "{users: many}", "statistics, datasets, ml-100k, users: expected a number, found 'many'"),
        (
            "statistics: {table",
            "statistics: {recipe: {ml-100k: [6-core]}, table",
            "statistics, recipe, ml-100k, 1: expected a recipe, found '6-core'",
        ),
        ("tolerance: 0.1", "tolerance: 5", "the file, tolerance: expected a share below 1, found 5.\n5 % is 0.05."),
        ("    about", "    tolerance: 1\n    about", "Table 2, tolerance: expected a share below 1, found 1"),
        ("protocol: full", "protocol: ful", "protocol: expected a protocol, found 'ful'"),
        ("recipe: [5-core]", "recipe: 5-core", "requires, recipe: expected a list, found '5-core'"),
        (
            "recipe: [5-core]",
            "recipe: [5-core]\n  epochs: {kdb*: 5}",
            r"epochs: expected a method or a pattern of some, found 'kdb\*'",
        ),
        (
            "recipe: [5-core]",
            "recipe: [5-core]\n  settings: {ml-100/caser: {data.negatives: train}}",
            "settings: expected a data set, found 'ml-100'.\nDid you mean 'ml-100k'",
        ),
        (
            "recipe: [5-core]",
            "recipe: [5-core]\n  settings: {caser: {negatives: train}}",
            "settings, caser: expected an option such as data.negatives, found 'negatives'",
        ),
        (
            "recipe: [5-core]",
            "recipe: [5-core]\n  settings: {caser: {data.negatives: [train]}}",
            r"settings, caser, data.negatives: expected a plain value, found \['train'\]",
        ),
        ("metric: hr@10", "metric: hr@10\nanswers: hr@2", "answers: expected a metric of answers, found 'hr@2'"),
        (TINY, "- nothing", "reports nothing"),
        (TINY, "a: [", "is not valid YAML"),
    ],
)
def test_a_file_of_another_form_is_refused_at_its_place(tmp_path: Path, before: str, after: str, message: str) -> None:
    assert before in TINY
    with pytest.raises(UserError, match=message):
        read_paper(written(tmp_path, TINY.replace(before, after)))


COLUMN = "      - {dataset: ml-100k, values: {caser: 0.1}}\n"
COPY = f"  - table: Table 2\n    about: all users\n    columns:\n{COLUMN}"


@pytest.mark.parametrize(("copy", "place"), [(COPY, "tables, 2, columns, 1"), (COLUMN, "tables, 1, columns, 2")])
def test_a_figure_that_stands_twice_is_refused_with_both_places(tmp_path: Path, copy: str, place: str) -> None:
    message = rf"Table 2, ml-100k, values, caser: expected hr@10 once, found \['tables, 1, columns, 1', '{place}'\]"
    with pytest.raises(UserError, match=message):
        read_paper(written(tmp_path, TINY + copy))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("all users", "others"),
        ("{dataset", "{slice: cold_user, dataset"),
        ("    columns", "    scenario: cold-users\n    columns"),
        ("    columns", "    protocol: sampled-99\n    columns"),
        ("ml-100k", "ml-1m"),
        ("0.1", "{hr@5: 0.1}"),
        ("caser", "gru4rec"),
    ],
)
def test_figures_under_other_conditions_stand_beside_it(tmp_path: Path, before: str, after: str) -> None:
    usual = read_paper(written(tmp_path, TINY))
    paper = read_paper(written(tmp_path, TINY + COPY.replace(before, after)))
    assert len(paper.cells) == len(usual.cells) + 1


def test_slices_that_a_file_may_name_are_those_of_a_split() -> None:
    sequences = Sequences(offsets=torch.tensor([0, 0, 3]), items=torch.tensor([1, 2, 3]), times=torch.tensor([1, 2, 3]))
    known = slices(leave_one_out(sequences), 3)
    assert set(known) | {"overall", "history_0", "trained_user", "other_user"} == SLICES


@pytest.mark.parametrize("name", [name for name in suite_names() if "paper" in name])
def test_suites_of_a_paper_have_its_data(name: str) -> None:
    suite = read_suite(find_suite(name))
    # Free text about genres is no printed figure, and MovieLens alone knows genres.
    accepted = (
        {"5-core"}
        if name == "allmrec-paper-generation"
        else read_paper(REPORTED / f"{name.partition('-')[0]}.yaml").recipes
    )
    text = comments(name)
    for other in re.findall(r"[Ss]ame requirements as ([\w-]+)", text):
        text += comments(other)
    for key, _, recipe in (data.partition("/") for data in (*suite.datasets, *suite.across)):
        assert recipe in accepted
        chosen = "" if recipe == "5-core" else f" --recipe {recipe}"
        for_several = re.search(rf"prepare KEY{chosen}[ `]", text) and re.search(rf"\b{key}\b", text)
        assert for_several or re.search(rf"prepare {key}{chosen}[ `]", text), f"{key}/{recipe}"


def comments(suite: str) -> str:
    return "\n".join(line for line in find_suite(suite).read_text().splitlines() if line.startswith("#"))


@pytest.mark.parametrize("name", [name for name in suite_names() if name.startswith("lrd-paper")])
def test_suites_of_lrds_paper_take_the_seeds_of_its_authors(name: str) -> None:
    seeds = read_suite(find_suite(name)).seeds
    assert seeds == list(range(2019, 2024)) or (name == "lrd-paper-relations" and seeds == [2019])


def test_a_recipe_that_makes_the_papers_data_is_printed_with_its_sizes(paper: Paper) -> None:
    for dataset in {cell.place.dataset for cell in paper.cells if not cell.method}:
        entry = DATASETS[dataset]
        raw = {recipe.name for recipe in entry.recipes if not recipe.ready}
        assert raw & set(paper.recipes) <= set(entry.printed)


COUNTING = ("filter", "threshold", "rating_above", "uncounted_below", "repeats")
"""Settings of a recipe that decide how many users, items and interactions there are."""


def test_counts_face_stores_that_are_filtered_like_the_papers(paper: Paper) -> None:
    for cell in (cell for cell in paper.cells if not cell.method):
        known = {recipe.name: recipe for recipe in DATASETS[cell.place.dataset].recipes if not recipe.ready}
        own = [tuple(known[name].settings[key] for key in COUNTING) for name in paper.recipes if name in known]
        accepted = known.keys() & set(cell.place.recipes)
        assert {tuple(known[name].settings[key] for key in COUNTING) for name in accepted} <= set(own)


def test_a_five_core_has_lrds_counts_and_no_other_figure_of_it() -> None:
    lrd = read_paper(REPORTED / "lrd.yaml")
    assert all("5-core" in cell.place.recipes for cell in lrd.cells if not cell.method)
    assert not any("5-core" in reported.place.recipes for reported in lrd.claims)


def test_methods_with_printed_epochs_lend_them_to_their_variants() -> None:
    allmrec, lrd = (read_paper(REPORTED / f"{name}.yaml") for name in ("allmrec", "lrd"))
    methods = ("allmrec", "allmrec_no_joint", "tallrec", "morec")
    assert [allmrec.epochs_of(method) for method in methods] == [5, 5, 5, None]
    assert [lrd.epochs_of(method) for method in ("kda_lrd_no_llm", "sasrec_lrd")] == [200, None]


def settings_in(
    suite: Suite, rows: dict[str, SuiteRow], data: str, row: SuiteRow, options: Iterable[str]
) -> dict[str, Any]:
    """The values of options of a row and, behind a role, of the row that fills it."""
    values = {}
    for option in options:
        role, _, rest = option.partition(".")
        own = rows[row.needs[role]] if role in row.needs else row
        name = rest if role in row.needs else option
        changed = {key.replace(".init_args", ""): value for key, value in (suite.options | own.options).items()}
        values[option] = changed[name] if name in changed else setting_of(experiment_of(data, own.method), name)
    return values


@pytest.mark.parametrize(
    "name", [n for n in suite_names() if n.startswith(("lrd-paper", "lrd-office", "allmrec-paper"))]
)
def test_rows_of_a_papers_suites_have_its_settings(name: str) -> None:
    suite, paper = read_suite(find_suite(name)), read_paper(REPORTED / f"{name.partition('-')[0]}.yaml")
    printed = {cell.method for cell in paper.cells} | {side for c in paper.claims for side in (c.better, c.worse)}
    for data in suite.datasets:
        rows = {row.key: row for row in rows_of(suite, data)}
        for row in rows.values():
            if row.label in printed:
                settings = paper.settings_of(row.label, key_of(data))
                assert settings_in(suite, rows, data, row, settings) == settings, row.label


def test_logged_figures_of_lrd_need_the_shipped_negatives_and_its_words_do_not() -> None:
    lrd = read_paper(REPORTED / "lrd.yaml")
    assert {cell.place.recipes for cell in lrd.cells if "seed 2019" in cell.place.about} == {("released",)}
    assert {claim.place.recipes for claim in lrd.claims} == {lrd.recipes}


def test_only_the_shipped_vectors_are_those_of_lrds_authors() -> None:
    encoders = read_paper(REPORTED / "lrd.yaml").encoders_of("rcf_lrd")
    names = ("file:data/Office/Office.feat.GPT:float64", "openai:text-embedding-ada-002")
    assert [named(name, encoders) for name in names] == [True, False]


@pytest.mark.parametrize(("method", "backbone", "latent"), [("rcf_lrd", RCF, 5), ("kda_lrd", KDA, 8)])
def test_lrds_parameters_but_its_texts_are_ours_but_one(method: str, backbone: type[RCF], latent: int) -> None:
    model = LRD(
        num_users=4905, num_items=2420, num_entities=2803, num_relations=5, text_width=1536,
        backbone=backbone(width=64, rounds=5, heads=4), discovery=LatentRelationDiscovery(num_latent=latent),
    )  # fmt: skip
    ours = sum(parameter_counts(model).values())
    cells = read_paper(REPORTED / "lrd.yaml").cells
    (printed,) = [cell for cell in cells if (cell.method, cell.metric) == (method, "parameters")]
    assert printed.value - 2421 * 1536 == ours + 1
    assert f"have {ours + 1:,}; {method} here has {ours:,}" in printed.note


def test_pairs_of_lrds_notebook_add_up() -> None:
    pairs = {c.metric: c.value for c in read_paper(REPORTED / "lrd.yaml").cells if c.metric.startswith("pairs")}
    assert sum(value for name, value in pairs.items() if name != "pairs" and "true" not in name) == pairs["pairs"]


def test_written_answers_face_hit_rates_of_writers_only() -> None:
    cells = [cell for cell in read_paper(REPORTED / "allmrec.yaml").cells if cell.method]
    assert {cell.answers for cell in cells if cell.method == "allmrec_retrieval" or cell.metric != "hr@1"} == {""}
    assert {c.answers for c in cells if c.method == "allmrec" and c.metric == "hr@1"} == {"generated/legacy_hr@1"}


def test_an_unknown_paper_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Did you mean 'allmrec'"):
        read_paper(tmp_path / "allmrek.yaml")
