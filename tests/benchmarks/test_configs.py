"""Every shipped configuration fits the signatures, and every method runs a batch of each phase."""

import inspect
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Union
from unittest.mock import Mock

import lightning as L
import numpy as np
import pytest
import yaml
from jsonargparse import ArgumentParser, Namespace

from allmrec.baselines.stages import require_budget, require_patience
from allmrec.data import PromptDataModule
from benchmarks.__main__ import main
from benchmarks.configuration import RunCLI, closed_form, whole_numbers_first
from benchmarks.experiments import CONFIGS, experiment_names, find_experiment, find_suite, suite_names
from benchmarks.launch.plan import SuiteRun, options_of
from benchmarks.launch.reports import reports_of
from benchmarks.launch.rows import experiment_of, key_of, model_of, rows_of, with_llm
from benchmarks.launch.suites import read_suite
from benchmarks.leaderboard.rows import RANKED_SEEDS, RANKED_SEEDS_LLM
from benchmarks.ledger.reported import REPORTED, read_paper
from benchmarks.runs import LABEL
from benchmarks.settings import setting_of
from benchmarks.standins import STANDIN
from common.data.datamodule import SequenceDataModule
from common.data.recipes import DATASETS
from common.errors import UserError
from lrd.data import RelationalDataModule
from tests.benchmarks.conftest import options

FEW = ["--data.batch_size=16", "--data.val_users=8", "--data.test_users=8"]
"""As few rows as a batch of each phase needs."""
IN_CHAINS = ("needs:", "llm: standin")
"""What is made from earlier runs or a stand-in runs in chains: test_allmrec.py."""
TINY = ("allmrec-synthetic-ablations", "allmrec-synthetic-backbones", "allmrec-synthetic-dimensions")
"""Suites on ``synthetic``, short forms of those on real data."""
HERE = ("allmrec-ml-100k", "allmrec-beauty", "allmrec-games")
"""Suites on real data with a budget for two cores."""
FIRST_STAGES = {"MoRec": "frozen_epochs", "CTRL": "align_epochs", "RecFormer": "pretrain_epochs"}
"""The argument that says how many epochs the first stage of a method has."""
KINDS: set[tuple[str, ...]] = set()
"""Experiments and the options of models that some suite gives them: one row of each is parsed."""
METHODS = [
    name
    for name in experiment_names()
    if name.startswith("synthetic/") and not any(word in find_experiment(name).read_text() for word in IN_CHAINS)
]


@cache
def parsed(experiment: str, *arguments: str) -> Namespace:
    """The configuration of a row, which several suites may have."""
    config: Namespace = RunCLI(["--config", experiment, *arguments]).config
    return config


@pytest.mark.parametrize("name", experiment_names())
def test_configuration_fits_the_signatures(name: str) -> None:
    cli = RunCLI(["--config", name])
    dataset, _, method = name.partition("/")
    assert cli.config.name == method
    assert cli.config.data.init_args.dataset == dataset
    assert dataset in DATASETS
    if cli.config.data.class_path.endswith("RelationalDataModule"):
        # Not the defaults of the default data class, which stay where a configuration changes the class alone.
        assert (cli.config.data.init_args.max_history, cli.config.data.init_args.batch_size) == (20, 256)


def test_every_data_set_has_its_methods() -> None:
    methods: dict[str, set[str]] = {}
    for name in experiment_names():
        dataset, _, method = name.partition("/")
        methods.setdefault(dataset, set()).add(method)
    of_lrd = {"ml-100k", "amazon-office", "amazon-electronics", "synthetic"}
    amazon = {f"amazon-{name}" for name in ("beauty", "games", "movies", "toys", "luxury-beauty")}
    of_allmrec = {"ml-100k", "synthetic"} | amazon
    assert set(methods) == of_lrd | of_allmrec
    assert all({"sasrec_allmrec", "allmrec", "llm_only", "popularity"} <= methods[dataset] for dataset in of_allmrec)
    baselines = {"feature_floor", "item_knn", "bpr_mf", "ncf", "caser", "gru4rec", "nextitnet", "sasrec", "gsasrec"}
    assert all(baselines <= methods[dataset] for dataset in of_lrd | {"amazon-beauty", "amazon-games"})
    floors = {"popularity", "item_knn_recency", "recent_popularity", "decay_popularity", "newest_first", "tisasrec"}
    assert all(floors <= methods[dataset] for dataset in of_lrd)
    assert all({"rcf", "kda", "rcf_lrd", "kda_lrd", "sasrec_lrd"} <= methods[dataset] for dataset in of_lrd)


@pytest.mark.parametrize("name", METHODS)
def test_method_runs_a_batch_of_each_phase(name: str, root: Path, tmp_path: Path) -> None:
    data = yaml.safe_load(find_experiment(name).read_text())["data"]
    more: list[str] = []
    if data.get("class_path") == "RelationalDataModule" and data["init_args"].get("text_encoder", "minilm"):
        np.save(tmp_path / "vectors.npy", np.eye(128, dtype=np.float32))
        more = [f"--data.text_encoder=file:{tmp_path / 'vectors.npy'}"]
    assert main(["run", "--config", name, "--trainer.fast_dev_run=true", *options(root, tmp_path, *FEW, *more)]) == 0
    assert not list(tmp_path.rglob("result.json"))


@pytest.mark.parametrize("place", ["file", "option"])
def test_what_is_not_said_of_data_is_the_default_of_their_class(tmp_path: Path, place: str) -> None:
    base = "model: {class_path: LLMOnly, init_args: {llm: standin}}\ndata: {init_args: {dataset: synthetic}}\n"
    (tmp_path / "base.yaml").write_text(base)
    (tmp_path / "data.yaml").write_text("data: {class_path: PromptDataModule}\n")
    said = {"file": ["--config", str(tmp_path / "data.yaml")], "option": ["--data", "PromptDataModule"]}[place]
    data = RunCLI([*said, "--config", str(tmp_path / "base.yaml")]).config.data
    assert data.class_path.endswith(".PromptDataModule")
    for name, parameter in inspect.signature(PromptDataModule).parameters.items():
        if name not in ("dataset", "seed"):
            default = parameter.default
            assert data.init_args[name] == (list(default) if isinstance(default, tuple) else default)


@pytest.mark.parametrize("kind", [PromptDataModule, RelationalDataModule])
def test_data_modules_share_all_arguments_but_those_of_their_instances(kind: type[SequenceDataModule]) -> None:
    shared, own = (set(inspect.signature(one).parameters) for one in (SequenceDataModule, kind))
    assert shared - own <= {"instances", "num_targets", "min_history"}


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONFIGS / "scenarios").glob("*.yaml")))
@pytest.mark.parametrize("method", ["sasrec", "allmrec"])
def test_a_scenario_is_a_file_behind_any_experiment(name: str, method: str) -> None:
    plain, put = (RunCLI(["--config", f"synthetic/{method}", *more]).config for more in ([], [f"scenarios/{name}"]))
    assert put.data.init_args.scenario == name != plain.data.init_args.scenario
    put.data.init_args.scenario = plain.data.init_args.scenario
    assert (put.data, put.model, put.name) == (plain.data, plain.model, plain.name)


def test_a_scenario_that_is_no_file_is_told_with_the_nearest() -> None:
    with pytest.raises(UserError, match="Did you mean 'scenarios/cold-users'"):
        RunCLI(["--config", "synthetic/sasrec", "scenarios/cold-user"])


@pytest.mark.parametrize("name", suite_names())
def test_suite_names_shipped_experiments(name: str) -> None:
    suite = read_suite(find_suite(name))
    shipped = set(experiment_names())
    needed = [method for method in suite.methods if method not in suite.optional]
    rows = {experiment_of(data, method) for data in suite.datasets for method in needed}
    assert rows <= shipped
    assert suite.about
    assert all(LABEL.fullmatch(row.label) for data in suite.datasets for row in rows_of(suite, data))


@pytest.mark.parametrize("name", [n for n in suite_names() if "-paper" in n or n in TINY])
def test_rows_of_a_suite_fit_the_signatures(name: str) -> None:
    suite = read_suite(find_suite(name))
    rows = rows_of(suite, suite.datasets[-1])
    assert set(suite.variants) <= {row.label for row in rows}
    for row in rows:
        if row.options:
            RunCLI(["--config", experiment_of(suite.datasets[-1], row.method), *options_of(suite, row)])


@pytest.mark.parametrize("name", suite_names())
def test_options_of_models_fit_every_row_of_a_suite(name: str) -> None:
    """Those of data and trainers fit all methods; values of one option are not compared, which would take minutes."""
    suite = read_suite(find_suite(name))
    for row in rows_of(suite, suite.datasets[-1]):
        experiment = experiment_of(suite.datasets[-1], row.method)
        arguments = [one for one in options_of(suite, row) if one.startswith("--model.")]
        kind = (experiment, *(argument.partition("=")[0] for argument in arguments))
        if arguments and kind not in KINDS:
            named = model_of(suite.datasets[-1], row.method)["class_path"]
            assert parsed(experiment, *arguments).model.class_path.endswith(named)
            KINDS.add(kind)


@pytest.mark.parametrize("name", suite_names())
def test_no_row_of_a_suite_can_end_before_its_last_stage(name: str) -> None:
    """Such a run is refused when it starts, which for a paper's settings may be on somebody's cluster."""
    suite, refused = read_suite(find_suite(name)), []
    for dataset, row in ((data, row) for data in suite.datasets for row in rows_of(suite, data)):
        argument = FIRST_STAGES.get(model_of(dataset, row.method)["class_path"])
        if argument is None:
            continue
        config = parsed(experiment_of(dataset, row.method), *options_of(suite, row))
        trainer = Mock(spec=L.Trainer, **config.trainer, early_stopping_callbacks=[config.early_stopping])
        epochs, later = (config.model.init_args.get(key, 0) for key in (argument, "refresh_epochs"))
        try:
            require_budget(trainer, argument, epochs + later)
            require_patience(trainer, argument, epochs)
        except UserError as error:
            refused.append(f"{dataset}, {row.key}: {error}")
    assert refused == []


def test_first_stages_are_those_of_shipped_methods() -> None:
    methods = ("morec", "ctrl", "recformer")
    assert {model_of("synthetic", method)["class_path"] for method in methods} == set(FIRST_STAGES)


@pytest.mark.parametrize("name", [name for name in suite_names() if name.startswith(HERE)])
def test_what_is_trained_here_has_a_budget(name: str) -> None:
    suite = read_suite(find_suite(name))
    for dataset, row in ((data, row) for data in suite.datasets for row in rows_of(suite, data)):
        if not closed_form(model_of(dataset, row.method)["class_path"]):
            trainer = yaml.safe_load(find_experiment(experiment_of(dataset, row.method)).read_text()).get("trainer", {})
            assert max(trainer.get("max_steps", -1), trainer.get("max_epochs", -1)) > 0, (dataset, row.key)


@pytest.mark.parametrize("name", [name for name in suite_names() if "-paper" in name])
def test_no_row_of_a_suite_as_printed_has_a_budget_in_steps(name: str) -> None:
    suite = read_suite(find_suite(name))
    for dataset, row in ((data, row) for data in suite.datasets for row in rows_of(suite, data)):
        own = setting_of(experiment_of(dataset, row.method), "trainer.max_steps")
        steps = (suite.options | row.options).get("trainer.max_steps", own)
        assert steps in (None, -1), (dataset, row.key)


@pytest.mark.parametrize("name", [name for name in suite_names() if "-paper" in name])
def test_no_row_of_a_suite_as_printed_has_a_stand_in_language_model(name: str) -> None:
    suite = read_suite(find_suite(name))
    for dataset in suite.datasets:
        for row in rows_of(suite, dataset):
            model = model_of(dataset, row.method).get("init_args", {})
            assert row.options.get("model.llm", model.get("llm")) != STANDIN, (dataset, row.key)


@pytest.mark.parametrize("kind", ["", "-users", "-ablations", "-backbones"])
def test_suites_of_a_paper_are_tiny_here_and_as_printed(kind: str) -> None:
    forms = {f"allmrec-{data}{kind}" for data in ("synthetic", "ml-100k", "beauty", "games", "paper")}
    if kind in ("", "-ablations"):
        forms |= {f"lrd-{data}{kind}" for data in ("synthetic", "ml-100k", "office", "paper")}
    forms |= {f"lrd-{data}-sensitivity" for data in ("synthetic", "ml-100k", "office", "electronics", "paper")}
    forms |= {f"lrd-{data}-controls" for data in ("synthetic", "ml-100k", "office", "electronics", "paper")}
    forms |= {f"lrd-{data}-relations" for data in ("synthetic", "ml-100k", "office", "electronics", "paper")}
    forms |= {f"allmrec-{data}-few-shot" for data in ("synthetic", "ml-100k", "beauty", "games", "paper")}
    forms |= {f"allmrec-{data}-generation" for data in ("synthetic", "ml-100k", "paper")}
    forms |= {f"allmrec-{data}-speed" for data in ("synthetic", "ml-100k", "beauty", "paper")}
    forms |= {f"allmrec-{data}-dimensions" for data in ("synthetic", "beauty", "paper")}
    forms |= {f"allmrec-{data}-across" for data in ("synthetic", "beauty", "paper")}
    assert forms <= set(suite_names())


STAGES = {"morec": "frozen_epochs", "ctrl": "align_epochs", "recformer": "pretrain_epochs"}


def steps_of(experiment: str, users: int, changed: Mapping[str, Any], of: str) -> int:
    """Training steps of an option that counts epochs, each of which has an instance of each user."""
    settings = {name: setting_of(experiment, f"trainer.{name}") for name in ("max_steps", "limit_train_batches")}
    epochs = changed.get(of, setting_of(experiment, of)) or 1
    batches = -(-users // setting_of(experiment, "data.batch_size"))
    steps = int(epochs * min(batches, settings["limit_train_batches"] or batches))
    return min(steps, settings["max_steps"] or steps) if of == "trainer.max_epochs" else steps


@pytest.mark.parametrize(
    ("data", "users"),
    [("ml-100k", 943), ("beauty", 22363), ("games", 50546), ("movies", 297498), ("luxury-beauty", 3819)],
)
def test_few_users_are_trained_on_for_as_many_steps_as_all(data: str, users: int) -> None:
    suite = read_suite(find_suite(f"allmrec-{data}-few-shot"))
    (dataset,) = suite.datasets
    for method in ("sasrec_allmrec", "allmrec_stage1", *STAGES):
        options = ["trainer.max_epochs", "trainer.check_val_every_n_epoch"]
        options += [f"model.{STAGES[method]}"] if method in STAGES else []
        for of in options:
            experiment = experiment_of(dataset, method)
            few, usual = steps_of(experiment, 256, suite.changes[method], of), steps_of(experiment, users, {}, of)
            assert few == pytest.approx(usual, rel=0.08), (method, of)


@pytest.mark.parametrize("name", [name for name in suite_names() if read_suite(find_suite(name)).reports])
def test_reports_of_a_suite_fit_its_rows_and_their_commands(name: str, tmp_path: Path) -> None:
    suite = read_suite(find_suite(name))
    runs = [
        SuiteRun(key_of(dataset), row.label, 1, (), tmp_path / f"{key_of(dataset)}-{row.label}")
        for dataset in suite.datasets
        for row in rows_of(suite, dataset)
    ]
    assert len(reports_of(suite, runs, tmp_path, tmp_path)) >= len(suite.datasets)


@pytest.mark.parametrize("name", TINY)
def test_labels_are_those_of_the_printed_figures(name: str) -> None:
    paper = read_paper(REPORTED / "allmrec.yaml")
    tables = {"Table 8", "Table 9", "Table 10"} if name.endswith("ablations") else {"Table 11"}
    if name.endswith("dimensions"):
        printed = {cell.method for cell in paper.cells if cell.place.about.startswith("widths")}
    else:
        printed = {cell.method for cell in paper.cells if cell.place.table in tables}
    assert printed
    rows = rows_of(read_suite(find_suite(name)), "synthetic")
    assert printed - {row.label for row in rows} == ({"tallrec"} if "Table 10" in tables else set())


@pytest.mark.parametrize("name", [n for n in suite_names() if n.startswith("allmrec") and n.endswith("speed")])
def test_every_item_is_set_beside_the_last_alone(name: str) -> None:
    suite = read_suite(find_suite(name))
    rows = {row.label: row for row in rows_of(suite, suite.datasets[0])}
    aliases = read_paper(REPORTED / "allmrec.yaml").aliases["Table 10"]
    last = rows[aliases["allmrec"] if set(aliases.values()) <= rows.keys() else "allmrec"]
    assert last.options["data.positions"] == "last"
    assert rows[aliases["allmrec_all_items"]].options["data.positions"] == "all"


@pytest.mark.parametrize("name", [n for n in suite_names() if n.endswith("dimensions")])
def test_stage_2_is_as_wide_as_its_joint_vectors(name: str) -> None:
    suite, latent = read_suite(find_suite(name)), "model.latent"
    rows = {row.key: row for row in rows_of(suite, suite.datasets[0])}
    pairs = [(row, rows[row.needs["allmrec_stage1"]]) for row in rows.values() if "allmrec_stage1" in row.needs]
    assert len(pairs) == 6
    assert all(row.options.get(latent) == below.options.get(latent) for row, below in pairs)


@pytest.mark.parametrize("name", suite_names())
def test_every_table_has_the_floors(name: str) -> None:
    suite = read_suite(find_suite(name))
    assert {"popularity", "recent_popularity", "decay_popularity", "newest_first"} <= set(suite.floors)
    assert {"item_knn", "item_knn_recency", "feature_floor"} <= set(suite.floors)
    assert not suite.across or "llm_only" in suite.methods, "others count events of the tested data set"
    for dataset in suite.datasets:
        tables = {row.table for row in rows_of(suite, dataset)}
        assert {row.table for row in rows_of(suite, dataset) if row.method == "feature_floor"} == tables


def test_one_option_gives_each_row_with_a_language_model_another() -> None:
    suite = read_suite(find_suite("allmrec-ml-100k"))
    rows = {row.key: row for row in rows_of(with_llm(suite, "facebook/opt-125m"), "ml-100k")}
    changed = {name for name, row in rows.items() if row.options.get("model.llm") == "facebook/opt-125m"}
    prompted = {name for name in rows if name.startswith("allmrec_") or name in ("allmrec", "llm_only")}
    assert changed == (prompted | {"tallrec", "mlp_llm"}) - {"allmrec_stage1", "allmrec_retrieval"}
    with pytest.raises(UserError, match="No row of the suite has a language model"):
        with_llm(read_suite(find_suite("baselines-office")), "facebook/opt-125m")


@pytest.mark.parametrize("name", suite_names())
def test_a_suite_of_several_seeds_has_those_of_ranked_rows(name: str) -> None:
    suite = read_suite(find_suite(name))
    assert len(suite.seeds) == 1 or len(set(suite.seeds)) >= RANKED_SEEDS
    assert len(suite.seeds) == 1 or not suite.seeds_llm or len(set(suite.seeds_llm)) >= RANKED_SEEDS_LLM


def test_data_without_a_graph_are_refused_to_lrd(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "wrong.yaml").write_text(
        "model: {class_path: LRD, init_args: {backbone: {class_path: RCF}}}\ndata: {init_args: {dataset: synthetic}}\n"
    )
    assert main(["run", "--config", str(tmp_path / "wrong.yaml"), *options(root, tmp_path)]) == 2
    assert "Give --data RelationalDataModule" in capsys.readouterr().err


def test_whole_numbers_stay_whole_where_typing_has_another_order() -> None:
    parser = ArgumentParser()
    parser.add_argument("--batches", type=Union[float, int, None], default=None)  # noqa: UP007
    whole_numbers_first(parser)
    read = [parser.parse_args([f"--batches={value}"]).batches for value in ("50", "1", "1.0", "0.5", "null")]
    assert read == [50, 1, 1.0, 0.5, None]
    assert [type(value) for value in read[:4]] == [int, int, float, float]


@pytest.mark.parametrize(("given", "meant"), [("0.25", 0.25), ("1.0", 1.0), ("30", 30), ("00:01:00:00", "00:01:00:00")])
def test_a_part_of_an_epoch_is_a_number_and_an_interval_of_time_is_none(given: str, meant: float | str) -> None:
    config = RunCLI(["--config", "synthetic/sasrec", f"--trainer.val_check_interval={given}"]).config
    assert config.trainer.val_check_interval == meant
    assert type(config.trainer.val_check_interval) is type(meant)
