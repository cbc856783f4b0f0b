"""What a suite file may say, what it inherits, and what is refused."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.experiments import find_suite, suite_names
from benchmarks.launch.suites import read_suite
from common.errors import UserError
from tests.benchmarks.made_suites import suite_file


def test_seeds_of_language_models_are_among_the_seeds(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"seeds_llm \[3\] are not all among the seeds \[1, 2\]"):
        read_suite(suite_file(tmp_path, seeds_llm=[3]))


def test_a_suite_like_another_says_what_differs(tmp_path: Path) -> None:
    whole = read_suite(suite_file(tmp_path, methods=["sasrec"], seeds=[3, 4], options={"model.width": 8}))
    (tmp_path / "other.yaml").write_text("like: toy\nabout: another\nseeds: [5]\n")
    assert read_suite(tmp_path / "other.yaml") == replace(whole, about="another", seeds=[5])
    for own, options in (("model.lr: 0.1", {"model.width": 8, "model.lr": 0.1}), ("model.width: null", {})):
        (tmp_path / "other.yaml").write_text(f"like: toy\noptions: {{{own}}}\n")
        assert read_suite(tmp_path / "other.yaml").options == options
    usual: dict[str, dict[str, float]] = {"sasrec": {"model.width": 8, "model.lr": 0.1}, "gru4rec": {"model.lr": 0.2}}
    suite_file(tmp_path, changes=usual)
    (tmp_path / "other.yaml").write_text(
        "like: toy\nchanges: {sasrec: {model.lr: null, model.blocks: 1}, ncf: {model.lr: 1}}"
    )
    merged = usual | {"sasrec": {"model.width": 8, "model.blocks": 1}, "ncf": {"model.lr": 1}}
    assert read_suite(tmp_path / "other.yaml").changes == merged
    (tmp_path / "other.yaml").write_text("like: baselines-synthetic\nmethods: [ncf]\n")
    shipped = read_suite(find_suite("baselines-synthetic"))
    assert read_suite(tmp_path / "other.yaml") == replace(shipped, methods=["ncf"])
    namesake = tmp_path / "baselines-synthetic.yaml"
    namesake.write_text("like: baselines-synthetic\nmethods: [ncf]\n")
    assert read_suite(namesake) == replace(shipped, methods=["ncf"])
    (tmp_path / "other.yaml").write_text("like: baselines-synthetics\nabout: another\n")
    with pytest.raises(UserError, match="Did you mean 'baselines-synthetic'"):
        read_suite(tmp_path / "other.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("about: [toy\n", " is not valid YAML"),
        ("- toy\n", " is not a suite file"),
        ("about: a\nseeds: [1]\nseeds: [2]\n", ", line 3: seeds is already in line 2"),
        ("about: a\nchanges: {1: {model.width: 8}}\n", ", line 2: '1' is no text"),
        ("about: a\nreports: [{command: [analyse]}]\n", ": \\['analyse'\\] is not a command for reports"),
        ("about: a", ": the suite has no datasets"),
    ],
)
def test_a_file_that_is_no_suite_is_refused_by_its_name(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "toy.yaml").write_text(text)
    with pytest.raises(UserError, match=f"toy.yaml{message}"):
        read_suite(tmp_path / "toy.yaml")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"options": ["a"]}, r"options is \['a'\], expected a mapping"),
        ({"vary": {"model.lr": 0.1}}, "vary, model.lr is 0.1, expected a list"),
        ({"changes": {"sasrec": 3}}, "changes, sasrec is 3, expected a mapping"),
        ({"variants": {"x": {"of": "sasrec", "options": ["a"]}}}, "the variant x is malformed"),
        ({"methods": [1]}, "methods holds 1, expected a name"),
        ({"seeds": []}, "seeds is empty"),
        ({"across": "synthetic"}, r"across is 'synthetic', expected a list.\nWrite across: \[synthetic\]"),
        ({"like": "toy"}, "the suite is like itself"),
        ({"floors": None}, "toy.yaml: floors has no value, expected a list"),
        ({"changes": None}, "toy.yaml: changes has no value, expected a mapping"),
        ({"vary": {"model.lr": []}}, "toy.yaml: vary, model.lr has no values"),
        ({"floors": ["populrity"]}, "toy.yaml: floors holds 'populrity'.*\nDid you mean 'popularity'"),
        ({"floors": ["my/floor.yaml"]}, "toy.yaml: floors holds 'my/floor.yaml'.*\nName it among methods"),
        ({"optional": ["nope"]}, "toy.yaml: optional holds 'nope', a method that no data set ships"),
        ({"variants": {"x": {"of": "x"}}}, "toy.yaml: the variant x is named like a method"),
        ({"variants": {"sasrec": {"of": "gru4rec"}}}, "toy.yaml: the variant sasrec is named like a method"),
        ({"variants": {"x": {"of": ["sasrec"]}}}, "the variant x is malformed"),
        ({"reports": [{"command": "analyse", "methods": "sasrec"}]}, r"is 'sasrec', .*\nWrite `methods: \[sasrec\]`"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_suite(suite_file(tmp_path, **changes))


def test_a_suite_that_is_like_itself_by_another_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the suite is like itself"):
        read_suite(suite_file(tmp_path, like=f"../{tmp_path.name}/toy.yaml"))


@pytest.mark.parametrize(
    ("option", "cure"),
    [
        ("seed_everything", "seeds: "),
        ("name", "variants: "),
        ("runs", "--runs"),
        ("data.root", "--root"),
        ("data.init_args.dataset", "datasets: "),
        ("data.store", "datasets: "),
        ("predecessors", "with: "),
        ("needs", "file of the method"),
        ("wandb", "--wandb"),
        ("predecessors.sasrec_allmrec", "with: "),
    ],
)
@pytest.mark.parametrize(
    ("place", "changes"),
    [
        ("options", lambda option: {"options": {option: 1}}),
        ("vary", lambda option: {"vary": {option: [1]}}),
        ("changes, sasrec", lambda option: {"changes": {"sasrec": {option: 1}}}),
        ("variants, x, options", lambda option: {"variants": {"x": {"of": "sasrec", "options": {option: 1}}}}),
    ],
)
def test_what_the_suite_itself_sets_is_no_option(
    tmp_path: Path, option: str, cure: str, place: str, changes: Callable[[str], dict[str, object]]
) -> None:
    message = f"toy.yaml: {place}, {option} is what the suite itself sets.*\n.*{cure}"
    with pytest.raises(UserError, match=message):
        read_suite(suite_file(tmp_path, **changes(option)))


def test_what_the_suite_itself_sets_is_no_option_within_a_mapping_either(tmp_path: Path) -> None:
    nested = {"init_args": {"dataset": "ml-100k"}}
    for changes in ({"options": {"data": nested}}, {"vary": {"data": [{"init_args": {}}, nested]}}):
        with pytest.raises(UserError, match=r"data.dataset is what the suite itself sets"):
            read_suite(suite_file(tmp_path, **changes))


@pytest.mark.parametrize("name", suite_names())
def test_suites_select_by_the_metric_of_their_paper(name: str) -> None:
    options = read_suite(find_suite(name)).options
    rule = {"lrd": ("sampled-99", "val/ndcg@5"), "allmrec": ("sampled-19", "val/hr@1")}
    rule["quickstart-allmrec"] = rule["allmrec"]
    expected = rule.get(name, rule.get(name.partition("-")[0], (None, None)))
    assert (options.get("data.val_protocol"), options.get("early_stopping.monitor")) == expected


@pytest.mark.parametrize("name", [name for name in suite_names() if name.startswith("lrd-")])
def test_kda_stands_beside_itself_without_the_time_of_the_query(name: str) -> None:
    suite = read_suite(find_suite(name))
    table = name.count("-") == 1 or name == "lrd-ml-100k" or name.endswith("controls")
    for method in {"kda", "kda_lrd"} & set(suite.methods):
        assert not table or f"{method}_last_event" in suite.methods
