"""What the shipped rows of LRD take from its authors, and which of them do without."""

from typing import Any

import pytest

from benchmarks.configuration import RunCLI
from benchmarks.experiments import experiment_names, find_experiment, find_suite, read_yaml
from benchmarks.launch.plan import options_of
from benchmarks.launch.rows import SuiteRow, experiment_of, rows_of
from benchmarks.launch.suites import Suite, read_suite
from benchmarks.sweeps.space import find_space

ROWS = [name for name in experiment_names() if name.rpartition("/")[2].startswith(("rcf", "kda"))]


@pytest.mark.parametrize("name", ROWS)
def test_rows_that_know_held_out_events_as_the_authors_do_say_so(name: str) -> None:
    content = read_yaml(find_experiment(name))
    negatives, weight = content["data"]["init_args"]["negatives"], content["model"]["init_args"].get("weight_kge")
    assert negatives == ("train" if name.endswith(("rcf_train", "kda_train", "_lrd_train")) else "complete")
    assert weight == (None if negatives == "train" else 0.0 if name.endswith("_no_kge") else "released")


@pytest.mark.parametrize("base", ["rcf", "kda"])
def test_backbone_and_lrd_are_tuned_over_the_same_ranges(base: str) -> None:
    plain, latent = (
        {parameter.name: parameter for parameter in find_space(f"amazon-office/{method}").parameters}
        for method in (base, f"{base}_lrd")
    )
    assert plain == {name: latent[name] for name in plain}


def test_discovery_in_made_worlds_is_judged_beside_its_controls() -> None:
    suite = read_suite(find_suite("lrd-synthetic-discovery"))
    judged = {f"kda_lrd{control}" for control in ("", "_permuted", "_random", "_uniform")}
    (report,) = suite.reports
    assert judged <= set(suite.methods) & set(report["methods"])


def rows(name: str) -> tuple[Suite, dict[str, SuiteRow]]:
    suite = read_suite(find_suite(name))
    return suite, {row.label: row for row in rows_of(suite, suite.datasets[0])}


def parsed(suite: Suite, row: SuiteRow) -> RunCLI:
    arguments = ["--config", experiment_of(suite.datasets[0], row.method), *options_of(suite, row)]
    return RunCLI([*arguments, "--data.dataset=any", "--name=any"])


@pytest.mark.parametrize("data", ["electronics", "ml-100k", "paper"])
def test_controls_have_the_rows_of_office_where_the_data_have_their_graphs(data: str) -> None:
    (_, office), (_, others) = rows("lrd-office-controls"), rows(f"lrd-{data}-controls")
    graphs = {label for label in office if "_kg_" in label} if data == "ml-100k" else set()
    assert len(graphs) in (0, 6)
    assert set(others) == set(office) - graphs


def test_controls_made_from_the_rows_of_the_table_are_those_of_office() -> None:
    (own, office), (suite, others) = rows("lrd-office-controls"), rows("lrd-electronics-controls")
    made = suite.variants.keys() - own.variants.keys()
    assert len(made) == 18
    assert all(parsed(suite, others[label]).resolved() == parsed(own, office[label]).resolved() for label in made)


def test_controls_as_printed_have_the_vectors_as_printed_or_none() -> None:
    suite, others = rows("lrd-paper-controls")
    reading = [row for row in others.values() if "_lrd" in row.label or row.label.endswith("_text")]
    encoders = {row.label: parsed(suite, row).resolved()["data"]["init_args"].get("text_encoder") for row in reading}
    without = {label for label, encoder in encoders.items() if encoder is None}
    assert without == {"sasrec_lrd", "rcf_lrd_free", "rcf_lrd_uniform", "kda_lrd_free", "kda_lrd_uniform"}
    assert {encoders[label] for label in encoders.keys() - without} == {"openai:text-embedding-ada-002"}


@pytest.mark.parametrize("dataset", ["amazon-electronics", "amazon-office", "ml-100k", "synthetic"])
def test_baselines_after_lrds_code_are_set_as_there(dataset: str) -> None:
    def arguments(method: str) -> dict[str, Any]:
        given: dict[str, Any] = read_yaml(find_experiment(f"{dataset}/{method}"))["model"]["init_args"]
        return given

    assert arguments("tisasrec_lrd")["max_unit"] == 65_535
    assert arguments("sasrec_lrd")["betas"] == arguments("tisasrec_lrd")["betas"] == [0.9, 0.999]
    assert arguments("caser_prefix")["padding"] == "masked"
