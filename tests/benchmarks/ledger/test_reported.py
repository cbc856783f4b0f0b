"""Figures of the papers are read whole, and what has no table or is no number is refused."""

from pathlib import Path

import pytest

from benchmarks.ledger.reported import REPORTED, Paper, paper_names, read_paper
from common.data.recipes import DATASETS
from common.errors import UserError

TINY = """
paper: Tiny
source: https://example.org
tolerance: 0.1
requires: {recipe: [5-core]}
protocol: full
metric: hr@10
statistics: {table: Table 1, datasets: {ml-100k: {users: 943}}}
tables:
  - table: Table 2
    about: all users
    columns:
      - {dataset: ml-100k, best: sasrec, values: {sasrec: 0.2, caser: {hr@10: 0.1, ndcg@10: 0.05}}}
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(text)
    return path


@pytest.fixture(params=paper_names())
def paper(request: pytest.FixtureRequest) -> Paper:
    """A paper whose figures ship."""
    return read_paper(REPORTED / f"{request.param}.yaml")


def test_shipped_figures_are_shares_or_counts_of_known_data_sets(paper: Paper) -> None:
    assert paper.cells
    for cell in paper.cells:
        assert cell.place.table
        assert cell.place.dataset in DATASETS
        low, high = (0, 1) if "@" in cell.metric else (1, 10**7)
        assert low < cell.value <= high, cell


def test_shipped_figures_agree_with_the_recipes_and_with_each_other(paper: Paper) -> None:
    for dataset, metric, value in [(c.place.dataset, c.metric, c.value) for c in paper.cells if not c.method]:
        printed = [entry for recipe, entry in DATASETS[dataset].printed.items() if recipe in paper.recipes]
        assert all(getattr(entry, metric, value) == value for entry in printed)
    # The method itself stands in several tables, always with the same figure.
    own = [c for c in paper.cells if c.method == "allmrec" and c.metric == "hr@1"]
    overall = {(c.place.dataset, c.value) for c in own if c.place.part == c.place.scenario == "overall"}
    assert len(overall) == len({dataset for dataset, _ in overall})


def test_best_of_a_column_is_the_highest_figure_printed(paper: Paper) -> None:
    figures = {(c.place, c.method): c.value for c in paper.cells}
    stated = [claim for claim in paper.claims if claim.place.table != "text"]
    assert all(figures[claim.place, claim.better] > figures[claim.place, claim.worse] for claim in stated)


def test_figures_and_orderings_of_a_file(tmp_path: Path) -> None:
    paper = read_paper(written(tmp_path, TINY))
    assert [(c.method, c.metric, c.value) for c in paper.cells] == [
        ("", "users", 943), ("sasrec", "hr@10", 0.2), ("caser", "hr@10", 0.1), ("caser", "ndcg@10", 0.05)
    ]  # fmt: skip
    assert [(claim.better, claim.worse) for claim in paper.claims] == [("sasrec", "caser")]
    assert {cell.tolerance for cell in paper.cells} == {0.1}


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("    about: all users\n", "", "something reported has no 'about'"),
        ("  - table: Table 2\n    about", "  - about", "something reported has no 'table'"),
        ("{dataset: ml-100k, best", "{best", "something reported has no 'dataset'"),
        ("sasrec: 0.2", "sasrec: high", "Table 2, ml-100k, sasrec: hr@10 'high' is no number"),
        ("sasrec: 0.2", "sasrec: null", "Table 2, ml-100k, sasrec: hr@10 None is no number"),
        ("best: sasrec", "best: tisasrec", "Table 2, ml-100k: 'tisasrec' is best, and has no figure"),
        (TINY, "- nothing", "reports nothing"),
    ],
)
def test_a_figure_without_table_or_cell_is_refused(tmp_path: Path, before: str, after: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_paper(written(tmp_path, TINY.replace(before, after)))


def test_an_unknown_paper_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Did you mean 'allmrec'"):
        read_paper(tmp_path / "allmrek.yaml")
