"""Search spaces are W&B's, each shipped one fits its experiment, and mistakes name the nearest valid word."""

import math
import re
from pathlib import Path

import optuna
import pytest
import yaml

from benchmarks.experiments import experiment_names, find_experiment, find_suite, read_yaml
from benchmarks.launch.rows import experiment_of, rows_of
from benchmarks.launch.suites import read_suite
from benchmarks.settings import setting_of
from benchmarks.sweeps.agents import sweep_file
from benchmarks.sweeps.space import SWEEPS, Parameter, find_space, read_space, shipped_spaces
from benchmarks.sweeps.trial import check
from common.errors import UserError
from common.models.gru4rec import LEARNING_RATES

UNTUNED = {"popularity", "newest_first", "newest_first_last", "joint_dot", "joint_dot_texts", "llm_only"}
"""Methods without a hyper-parameter worth a search."""


CONTROLS = {name.partition("/")[2] for name in experiment_names() if "Control" in find_experiment(name).read_text()}
"""Methods that train nothing."""


def written(folder: Path, **changes: object) -> Path:
    values = yaml.safe_load((SWEEPS / "sasrec.yaml").read_text()) | changes
    path = folder / "toy.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.mark.parametrize("method", shipped_spaces())
def test_each_shipped_space_fits_its_experiment(method: str) -> None:
    space = read_space(SWEEPS / f"{method}.yaml")
    assert space.experiment.partition("/")[2] == method
    needs = read_yaml(find_experiment(space.experiment)).get("needs", [])
    check(space, [f"--predecessors.{needed}=RUN" for needed in needs])
    lines = (SWEEPS / f"{method}.yaml").read_text().splitlines()
    assert all(f"predecessors.{needed}=RUN" in lines[0] for needed in needs)


@pytest.mark.parametrize("method", shipped_spaces())
def test_each_shipped_space_says_what_is_known_of_the_published_grid(method: str) -> None:
    lines = (SWEEPS / f"{method}.yaml").read_text().splitlines()
    comment = lines[lines.index("parameters:") + 1].strip()
    assert re.match(r"# .*(Papers?\b|Grid:|authors)", comment)
    assert re.search(r"\d|none|not ", comment)


def test_every_method_that_has_experiments_has_a_space() -> None:
    methods = {name.partition("/")[2]: name for name in experiment_names()}
    missing = []
    for method, name in methods.items():
        try:
            find_space(name)
        except UserError:
            missing.append(method)
    assert set(missing) <= UNTUNED | CONTROLS


def holds(parameter: Parameter, value: object) -> bool:
    """Whether a search can draw this value."""
    if parameter.kind == "categorical":
        return value in parameter.keys["values"]
    return isinstance(value, int | float) and parameter.keys["min"] <= value <= parameter.keys["max"]


def own_value(experiment: str, option: str) -> object:
    """What an experiment sets; GRU4Rec's rate is that of its variant unless one is given."""
    value = setting_of(experiment, option)
    if value is None and option == "model.lr":
        return LEARNING_RATES[setting_of(experiment, "model.variant")]
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize("name", experiment_names())
def test_a_space_holds_what_the_experiment_sets(name: str) -> None:
    try:
        space = find_space(name)
    except UserError:
        return
    own = {parameter.name: own_value(name, parameter.name) for parameter in space.parameters}
    assert not {p.name: own[p.name] for p in space.parameters if not holds(p, own[p.name])}


@pytest.mark.parametrize("name", ["allmrec-paper", "lrd-paper"])
def test_a_space_holds_what_the_suites_of_the_papers_set(name: str) -> None:
    suite = read_suite(find_suite(name))
    rows = {experiment_of(data, row.method): row for data in suite.datasets for row in rows_of(suite, data)}
    for experiment, row in rows.items():
        if row.method not in UNTUNED | CONTROLS:
            parameters = {parameter.name: parameter for parameter in find_space(experiment).parameters}
            assert all(holds(parameters[k], v) for k, v in row.options.items() if k in parameters), experiment


def test_a_variant_has_the_space_of_its_method_for_its_data_set() -> None:
    space = find_space("amazon-office/kda_lrd_random")
    assert space.experiment == "amazon-office/kda_lrd_random"
    assert "model.weight_lrd" in {parameter.name for parameter in space.parameters}


@pytest.mark.parametrize(
    ("variant", "own"),
    [
        ("kda_lrd_free", {"model.weight_lrd"}),
        ("kda_lrd_no_kge", {"model.weight_kge"}),
        ("kda_lrd_rewarded", {"model.discovery.init_args.weight_entropy"}),
        ("kda_lrd_random", set()),
    ],
)
def test_what_makes_a_variant_is_not_searched(variant: str, own: set[str]) -> None:
    whole, space = find_space("amazon-office/kda_lrd"), find_space(f"amazon-office/{variant}")
    names = {parameter.name for parameter in space.parameters}
    assert {parameter.name for parameter in whole.parameters} - names == own
    assert set(sweep_file(space, [], trials=1)["parameters"]) == names


def test_a_variant_of_which_nothing_is_left_to_search_is_refused() -> None:
    with pytest.raises(UserError, match=r"differs from allmrec in model.lr and model.shown_history.\nSearch allmrec"):
        find_space("synthetic/allmrec_null_context")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metod": "grid"}, "Did you mean 'method'?"),
        ({"method": "bayez"}, "Did you mean 'bayes'?"),
        ({"method": None}, "does not set method"),
        ({"metric": {"name": "val/ndcg@10"}}, "does not set metric.goal"),
        ({"metric": "val/ndcg@10"}, "has no metric"),
        ({"metric": {"name": "test/full/overall/ndcg@10", "goal": "maximize"}}, "never the test"),
        ({"command": ["recbench", "run"]}, "does not run an experiment"),
        (
            {"parameters": {"model.lr": {"distribution": "log_unifrom", "min": 1, "max": 2}}},
            "Did you mean 'log_uniform",
        ),
        ({"parameters": {"model.lr": {"distribution": "uniform", "min": 1}}}, "lacks max"),
        ({"early_terminate": {"type": "envelope"}}, "of type hyperband"),
        ({"early_terminate": {"type": "hyperband", "max_iter": 27}}, "Did you mean 'min_iter'?"),
        ({"early_terminate": {"type": "hyperband", "s": 2}}, "has no 's' here.\nChoose one of: eta, min_iter"),
        ({"early_terminate": {"type": "hyperband", "strict": True}}, "has no 'strict' here"),
        ({"early_terminate": {"type": "hyperband", "eta": 1}}, "eta is 1"),
        (
            {"parameters": {"model.lr": {"distribution": "inv_log_uniform_values"}}},
            "log_uniform_values'?",
        ),
        ({"parameters": {"model.lr": {"distribution": "normal", "mu": 0, "sigma": 1}}}, "has no distribution 'normal'"),
        ({"parameters": {"model.lr": {"values": [1, 2], "probabilities": [0.9, 0.1]}}}, "has no 'probabilities'"),
        ({"parameters": {"model.lr": {"min": 0.1, "max": 0.5, "qq": 0.1}}}, "has no 'qq'"),
        ({"parameters": {"model.lr": {"min": "1e-4", "max": 0.5}}}, "Write 1.0e-4"),
        ({"parameters": {"model.lr": {"min": 0.5, "max": 0.1}}}, "above max"),
        ({"parameters": {"model.lr": {"values": 0.1}}}, "not a list"),
        ({"parameters": {"model.lr": {"distribution": "log_uniform_values", "min": 0, "max": 1}}}, "above 0"),
        ({"parameters": {"model.lr": {"distribution": ["uniform"], "min": 0, "max": 1}}}, "has no distribution"),
        (
            {"parameters": {"model.width": {"distribution": "log_uniform", "min": 16, "max": 1024}}},
            "log_uniform_values",
        ),
        ({"parameters": 3}, "is not a search space"),
        ({"parameters": {"data.init_args.val_protocol": {"values": ["full"]}}}, "cannot be compared"),
        ({"parameters": {"seed_everything": {"values": [1, 2]}}}, "cannot be compared"),
        ({"parameters": {"data.recipe": {"values": ["5-core", "allmrec"]}}}, "cannot be compared"),
        ({"parameters": {"data.init_args.store": {"values": ["a", "b"]}}}, "cannot be compared"),
        ({"parameters": {"data.dataset": {"values": ["ml-100k", "ml-1m"]}}}, "cannot be compared"),
        ({"name": "../../elsewhere"}, "is not a valid folder name"),
        ({"parameters": {}}, "is not a search space"),
        ({"parameters": {"model.lr": {"distribution": "q_uniform", "min": 0.1, "max": 0.5, "q": 0}}}, "q is 0"),
    ],
)
def test_mistakes(changes: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        read_space(written(tmp_path, **changes))


def test_an_unknown_parameter_is_named_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Did you mean 'dropout'"):
        check(read_space(written(tmp_path, parameters={"model.dropuot": {"values": [0.1]}})), [])
    with pytest.raises(UserError, match="'wide' is not a valid value"):
        check(read_space(written(tmp_path, parameters={"model.width": {"values": [16, "wide"]}})), [])


def test_a_grid_of_ranges_is_refused(tmp_path: Path) -> None:
    space = read_space(written(tmp_path, method="grid"))
    with pytest.raises(UserError, match="cannot hold the range of model"):
        space.grid()


@pytest.mark.parametrize(
    ("keys", "least", "greatest", "step"),
    [
        ({"distribution": "log_uniform", "min": -3, "max": 0}, math.exp(-3), 1.0, None),
        ({"distribution": "q_log_uniform", "min": 0, "max": 5, "q": 2}, 1.0, math.exp(5), 2),
        ({"distribution": "q_log_uniform_values", "min": 8, "max": 256, "q": 8}, 8, 256, 8),
        ({"distribution": "q_uniform", "min": 0.0, "max": 1.0, "q": 0.25}, 0, 1, 0.25),
        ({"min": 2, "max": 9}, 2, 9, 1),
    ],
)
def test_draws_lie_in_their_range_and_on_their_steps(
    keys: dict[str, object], least: float, greatest: float, step: float | None
) -> None:
    parameter = Parameter.of("x", keys, "toy.yaml")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    draws = [parameter.suggest(study.ask()) for _ in range(64)]
    assert parameter.first == pytest.approx(least)
    assert least <= min(draws) < max(draws) <= greatest
    if step is not None:
        inside = [draw for draw in draws if least < draw < greatest]
        assert inside == pytest.approx([round(draw / step) * step for draw in inside])
