"""Tables state means, spreads, floors and marks, and refuse to mix protocols."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from benchmarks.experiments import find_suite, suite_names
from benchmarks.launch.rows import experiment_of, rows_of, seeds_of
from benchmarks.launch.suites import read_suite
from benchmarks.leaderboard.formats import as_markdown
from benchmarks.leaderboard.rows import build_table, build_tables, primary_metric
from benchmarks.runs import Result
from benchmarks.settings import setting_of
from common.errors import UserError
from tests.benchmarks.made_results import made_result


def test_the_primary_metric_is_that_of_the_protocol() -> None:
    expected = {"full": "ndcg@10", "full-unmasked": "ndcg@10", "sampled-99": "ndcg@5", "sampled-19": "hr@1"}
    assert {protocol: primary_metric(protocol) for protocol in expected} == expected


def test_mean_and_sample_deviation_over_seeds() -> None:
    values = [0.1, 0.2, 0.4, 0.3, 0.5]
    row = build_table([made_result("a", value, seed) for seed, value in enumerate(values)], "full").rows[0]
    cell = row.metrics["ndcg@10"]
    assert cell.n == 5
    assert cell.mean == pytest.approx(np.mean(values))
    assert cell.std == pytest.approx(np.std(values, ddof=1))


def test_rows_are_sorted_and_only_five_seeds_are_ranked() -> None:
    few = [made_result("few", 0.9, seed) for seed in range(4)]
    many = [made_result("many", 0.5, seed) for seed in range(5)]
    more = [made_result("more", 0.6, seed) for seed in range(6)]
    rows = build_table([*many, *few, *more], "full").rows
    assert [(row.method, row.rank) for row in rows] == [("few", None), ("more", 1), ("many", 2)]


def test_floors_are_ranked_beside_a_trained_row_with_enough_seeds_or_alone() -> None:
    floor = made_result("floor", 0.1, closed_form=True)
    few, enough = ([made_result("model", 0.2, seed) for seed in range(count)] for count in (1, 5))
    assert [row.rank for row in build_table([floor, *few], "full").rows] == [None, None]
    assert [row.rank for row in build_table([floor, *enough], "full").rows] == [1, 2]
    assert [row.rank for row in build_table([floor], "full").rows] == [1]


def test_one_seed_has_no_deviation() -> None:
    assert build_table([made_result("a", 0.1)], "full").rows[0].metrics["ndcg@10"].std is None


def test_mixed_protocol_ids_are_refused_with_the_field() -> None:
    other = made_result("b", 0.2, fields={"split": "global_temporal"})
    with pytest.raises(UserError, match=r"split: leave_one_out \| global_temporal"):
        build_table([made_result("a", 0.1), other], "full")


def test_tables_are_apart_by_protocol_id_and_say_why() -> None:
    other = made_result("b", 0.2, fields={"split": "global_temporal"})
    tables = build_tables([made_result("a", 0.1), other])
    assert [len(table.rows) for table in tables] == [1, 1]
    assert all("split" in table.note for table in tables)
    assert {table.variant for table in tables} == {"split leave_one_out", "split global_temporal"}
    assert "## toy, full (split global_temporal)\n" in as_markdown(tables)


def test_headings_name_recipes_and_not_what_follows_from_other_fields() -> None:
    one = made_result("a", 0.1, fields={"data": "0f" * 32, "candidates": "aa", "cases": 9, "test_users": 9})
    other = made_result(
        "a", 0.1, fields={"data": "1e" * 32, "candidates": "bb", "test_users": "all"}, data={"recipe": "whole"}
    )
    assert {table.variant for table in build_tables([one, other])} == {
        f"data {'0f' * 6}, test users 9",
        "recipe whole, test users all",
    }


def test_tables_are_headed_by_their_scenario() -> None:
    tables = build_tables([made_result("a", 0.1), made_result("a", 0.1, fields={"scenario": "few-shot-30"})])
    assert {table.scenario for table in tables} == {"overall", "few-shot-30"}
    text = as_markdown(tables)
    assert "## toy, full\n" in text
    assert "## toy, full, few-shot-30\n" in text
    assert "scenario: overall | few-shot-30" in text


def test_fields_of_words_are_told_whole() -> None:
    results = [made_result("a", 0.1), made_result("a", 0.1, fields={"scenario": "cold-users (truncated) on overall"})]
    assert {table.note for table in build_tables(results)} == {
        "differs in scenario: overall | cold-users (truncated) on overall",
        "differs in scenario: cold-users (truncated) on overall | overall",
    }


def test_share_of_the_gap_uses_the_best_floor_that_reads_no_more() -> None:
    floors = [
        made_result("weak", 0.1, information_set=[], closed_form=True),
        made_result("fair", 0.2, information_set=["order"], closed_form=True),
        made_result("rich", 0.5, information_set=["order", "query_time"], closed_form=True),
    ]
    rows = build_table([*floors, made_result("model", 0.4)], "full").rows
    model = next(row for row in rows if row.method == "model")
    assert model.share == pytest.approx((0.4 - 0.2) / (1 - 0.2))
    assert [row.share for row in rows if row.floor] == [None] * 3


def test_a_method_below_its_floor_says_so() -> None:
    floor = made_result("popularity", 0.3, information_set=[], closed_form=True)
    rows = build_table([floor, made_result("model", 0.2)], "full").rows
    assert "below floor popularity" in rows[1].marks


def test_a_perfect_floor_leaves_no_gap_and_a_method_below_it_says_so() -> None:
    floor = made_result("popularity", 1.0, information_set=[], closed_form=True)
    rows = build_table([floor, made_result("model", 0.2), made_result("peer", 1.0)], "full").rows
    found = {row.method: (row.share, row.marks) for row in rows if not row.floor}
    assert found == {"model": (None, ("below floor popularity",)), "peer": (None, ())}


def test_undertrained_ties_time_and_selection_are_marked() -> None:
    result = made_result(
        "a", 0.2, training={"undertrained": True}, imputed_time=True, fields={"selection": "sampled-99 ndcg@5"}
    )
    result.metrics["test/full/overall/tie_share"] = 0.02
    marks = build_table([result], "full").rows[0].marks
    assert marks == ("undertrained (1 of 1)", "ties 2.0%", "imputed time", "selected on sampled-99")


def test_seeds_of_other_code_or_another_torch_are_marked() -> None:
    def marks(*environments: dict[str, dict[str, str]]) -> tuple[str, ...]:
        runs = [made_result("a", 0.2, seed, environment=given) for seed, given in enumerate(environments)]
        return build_table(runs, "full").rows[0].marks

    one = {"code": {"sha": "1"}, "versions": {"torch": "2.9"}}
    assert marks(one, one) == ()
    assert marks(one, one | {"code": {"sha": "2"}}) == ("seeds of 2 code revisions",)
    assert marks(one, one | {"versions": {"torch": "2.10"}}) == ("seeds of 2 versions of torch",)


def test_equal_labels_of_two_configurations_are_told_apart() -> None:
    rows = build_table(
        [made_result("a", 0.1, config_id="c1" * 6), made_result("a", 0.2, config_id="d2" * 6)], "full"
    ).rows
    assert {row.method for row in rows} == {"a [c1c1]", "a [d2d2]"}


def test_a_seed_counts_once_and_the_run_itself_before_its_evaluations() -> None:
    own = made_result("a", 0.1)
    again = made_result("a", 0.9, checkpoint=f"runs/toy/a/{own.run_id}")
    row = build_table([again, own], "full").rows[0]
    assert (row.metrics["ndcg@10"].mean, row.marks) == (0.1, ())


def test_three_seeds_rank_a_row_with_a_language_model() -> None:
    rows = build_table([made_result("a", 0.5, seed, language_model="opt-6.7b") for seed in range(3)], "full").rows
    assert rows[0].rank == 1


def test_a_sentence_encoder_needs_the_seeds_of_other_methods() -> None:
    runs = [made_result("a", 0.5, seed, language_model="minilm") for seed in range(5)]
    assert [build_table(runs[:count], "full").rows[0].rank for count in (3, 5)] == [None, 1]


@pytest.mark.parametrize("name", [name for name in suite_names() if name.startswith("allmrec")])
def test_suites_plan_fewer_seeds_for_the_models_that_need_fewer(name: str) -> None:
    suite = read_suite(find_suite(name))
    for data in suite.datasets:
        for row in rows_of(suite, data):
            values = [
                row.options.get(option, setting_of(experiment_of(data, row.method), option))
                for option in ("model.llm", "model.reader")
            ]
            inside = next((value for value in values if value), None)
            result = made_result("a", 0.5, language_model=inside)
            needed = build_table([result], "full").rows[0].needed
            assert needed == (3 if seeds_of(replace(suite, seeds=[1, 2], seeds_llm=[2]), data, row) == [2] else 5)


def test_a_seed_that_a_configuration_was_chosen_with_earns_no_rank() -> None:
    tuning = {"trials": 8, "seed": 2}
    apart, among = ([made_result("a", 0.5, seed, tuning=tuning) for seed in seeds] for seeds in (range(3, 8), range(5)))
    row = build_table(apart, "full").rows[0]
    assert (row.rank, row.marks) == (1, ())
    row = build_table(among, "full").rows[0]
    assert (row.rank, row.seeds, row.marks) == (None, 4, ("tuned on one of its seeds",))
    alone = build_table([made_result("a", 0.5, 2, tuning=tuning)], "full").rows[0]
    assert (alone.rank, alone.seeds) == (None, 1)


def test_marks_are_those_of_the_seeds_that_count() -> None:
    def run(seed: int, late: bool, made_from: str) -> Result:
        own: dict[str, Any] = {"training": {"undertrained": late}, "predecessors": {"sasrec": made_from}}
        return made_result("a", 0.5, seed, tuning={"trials": 8, "seed": 0}, **own)

    row = build_table([run(0, True, "p"), *(run(seed, False, "opqrst"[seed]) for seed in range(1, 6))], "full").rows[0]
    assert (row.rank, row.seeds, row.marks) == (1, 5, ("tuned on one of its seeds",))
    row = build_table([run(0, False, "o"), run(1, True, "p"), run(2, False, "q")], "full").rows[0]
    assert row.marks == ("undertrained (1 of 2)", "tuned on one of its seeds")


def test_seeds_on_one_predecessor_earn_no_rank() -> None:
    def runs(filters: str) -> list[Result]:
        own = [{"standin": "s", "sasrec": name} for name in filters]
        return [made_result("a", 0.5, seed, predecessors=made_from) for seed, made_from in enumerate(own)]

    apart, shared = (build_table(runs(filters), "full").rows[0] for filters in ("pqrst", "pqrsp"))
    assert (apart.rank, apart.marks) == (1, ())
    assert (shared.rank, shared.seeds, shared.marks) == (None, 5, ("seeds share a predecessor",))


def test_runs_of_one_seed_on_several_predecessors_are_marked() -> None:
    runs = [made_result("a", 0.5, run_id=name, predecessors={"sasrec": name}) for name in ("p", "q")]
    row = build_table(runs, "full").rows[0]
    assert (row.seeds, row.marks) == (1, ("one of several runs of a seed",))


def test_a_training_made_again_for_other_protocols_is_no_other_run() -> None:
    twice = [made_result("a", 0.5, run_id=name, predecessors={"sasrec": "p"}) for name in "vw"]
    twice.append(made_result("a", 0.5, run_id="of w", checkpoint="runs/toy/a/w", predecessors={"sasrec": "p"}))
    twice[2].predecessors["checkpoint"] = "w"
    assert build_table(twice, "full").rows[0].marks == ()
    other = made_result("a", 0.6, run_id="x", predecessors={"sasrec": "p"})
    assert build_table([*twice, other], "full").rows[0].marks == ("one of several runs of a seed",)


def test_evaluations_of_such_runs_are_marked_like_them() -> None:
    def evaluation(seed: int, name: str, base: str = "p") -> Result:
        made_from = {"checkpoint": name, "sasrec": base}
        return made_result("a", 0.5, seed, checkpoint=f"runs/toy/a/{name}", run_id=f"of {name}", predecessors=made_from)

    shared = build_table([evaluation(seed, str(seed)) for seed in range(5)], "full").rows[0]
    assert (shared.rank, shared.seeds, shared.marks) == (None, 5, ("seeds share a predecessor",))
    twice = build_table([evaluation(0, name, name) for name in "pq"], "full").rows[0]
    assert (twice.seeds, twice.marks) == (1, ("one of several runs of a seed",))


def test_batches_that_were_halved_are_marked() -> None:
    runs = [made_result("a", 0.5, training={"batches_a_step": 2}), made_result("b", 0.4, training={"steps": 9})]
    assert [row.marks for row in build_table(runs, "full").rows] == [("halved batches",), ()]


def test_stand_in_is_marked_and_a_real_model_is_not() -> None:
    names = {"made": "standin-text", "real": "facebook/opt-6.7b"}
    rows = build_table([made_result(m, 0.5, language_model=name) for m, name in names.items()], "full").rows
    assert {row.method: "stand-in LLM" in row.marks for row in rows} == {"made": True, "real": False}
    assert {row.name for row in rows} == {"made (stand-in LLM)", "real"}


@pytest.mark.parametrize("closed_form", [False, True])
def test_a_stand_in_earns_no_rank_and_the_table_says_why(closed_form: bool) -> None:
    own: dict[str, Any] = {"language_model": "standin-text", "closed_form": closed_form}
    made = [made_result("made", 0.5, seed, **own) for seed in range(5)]
    others = [made_result(name, rate, seed) for name, rate in (("a", 0.6), ("b", 0.4)) for seed in range(5)]
    table = build_table([*made, *others], "full")
    assert [(row.method, row.rank) for row in table.rows] == [("a", 1), ("made", None), ("b", 2)]
    assert "Rows on a stand-in LLM have none either" in as_markdown([table])


def test_costs_are_means_and_what_is_unknown_is_absent() -> None:
    runs = [made_result("a", 0.5, s, seconds={"train": 10.0 * s, "test": 2.0}, tuning={"trials": 8}) for s in (1, 3)]
    assert build_table(runs, "full").rows[0].costs == {"train_seconds": 20.0, "users_per_second": 100.0, "trials": 8.0}


def test_interval_over_seeds_equals_scipy() -> None:
    values = [0.1, 0.2, 0.4]
    cell = build_table([made_result("a", v, seed) for seed, v in enumerate(values)], "full").rows[0].metrics["hr@10"]
    low, _ = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert cell.reach == pytest.approx(np.mean(values) - low)


@pytest.mark.parametrize(
    ("reads", "late", "marked"), [(["graph"], True, True), (["graph"], False, False), ([], True, False)]
)
def test_a_graph_from_after_the_split_is_told(reads: list[str], late: bool, marked: bool) -> None:
    (row,) = build_table([made_result("kda", 0.1, information_set=reads, data={"post_hoc_graph": late})], "full").rows
    assert ("post-hoc graph" in row.marks) == marked


def test_figures_that_are_no_ranks_make_no_slice() -> None:
    metrics = {"overall/ndcg@10": 0.2, "overall/generated/hr@1": 0.3, "cold/ndcg@10": 0.1, "cold/generated/hr@1": 0.4}
    cases = {"test/full/overall": 200, "test/full/cold": 12}
    made = made_result("a", 0.2, metrics={f"test/full/{key}": value for key, value in metrics.items()}, cases=cases)
    row, cold = (build_table([made], "full", slice).rows[0] for slice in ("overall", "cold"))
    assert {name: cell.mean for name, cell in row.slices.items()} == {"cold": 0.1}
    assert {name: cell.mean for name, cell in cold.metrics.items()} == {"ndcg@10": 0.1, "generated/hr@1": 0.4}
