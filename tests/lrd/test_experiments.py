"""What the shipped rows of LRD take from its authors, and which of them do without."""

from typing import Any

import pytest

from benchmarks.experiments import experiment_names, find_experiment, find_suite, read_yaml
from benchmarks.launch.suites import read_suite
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


@pytest.mark.parametrize("dataset", ["amazon-electronics", "amazon-office", "ml-100k", "synthetic"])
def test_baselines_after_lrds_code_are_set_as_there(dataset: str) -> None:
    def arguments(method: str) -> dict[str, Any]:
        given: dict[str, Any] = read_yaml(find_experiment(f"{dataset}/{method}"))["model"]["init_args"]
        return given

    assert arguments("tisasrec_lrd")["max_unit"] == 65_535
    assert arguments("sasrec_lrd")["betas"] == arguments("tisasrec_lrd")["betas"] == [0.9, 0.999]
    assert arguments("caser_prefix")["padding"] == "masked"
