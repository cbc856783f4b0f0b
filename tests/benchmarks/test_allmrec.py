"""A-LLMRec from the command line: a chain of runs that know each other, on the smallest of stand-ins."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from benchmarks.__main__ import main
from benchmarks.configuration import RunCLI
from benchmarks.experiments import find_experiment, find_suite
from benchmarks.launch.suites import read_suite
from benchmarks.leaderboard.rows import build_tables
from benchmarks.runs import Result, find_runs, read_result
from benchmarks.standins import find_standin
from common.data.stores import find_store
from common.errors import UserError
from common.text.encoders import packaged_minilm
from tests.benchmarks.conftest import options
from tests.benchmarks.outside import process

pytestmark = pytest.mark.skipif(packaged_minilm() is None, reason="the extra minilm is not installed")

QUICK = ["--data.val_protocol=sampled-19", "--data.test_protocols=[sampled-19]", "--early_stopping.monitor=val/hr@1"]
QUICK += ["--data.test_users=16", "--data.val_users=8", "--data.eval_batch_size=8"]
STAGE_2 = [*QUICK, "--trainer.max_steps=3", "--trainer.val_check_interval=3", "--model.lr=0.01"]
METHODS = [
    "allmrec", "allmrec_retrieval", "allmrec_null_context", "allmrec_untrained", "joint_dot", "joint_dot_texts",
    "allmrec_sbert", "allmrec_texts", "llm_only",
]  # fmt: skip


@pytest.fixture(scope="module")
def chain(root: Path, standin: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Run folders of all methods, by name."""
    runs, folders = tmp_path_factory.mktemp("chain"), dict[str, Path]()
    for method in ("sasrec_allmrec", "allmrec_stage1", *METHODS):
        needed = yaml.safe_load(find_experiment(f"synthetic/{method}").read_text()).get("needs", [])
        changes = {"sasrec_allmrec": [*QUICK, "--trainer.max_epochs=2"], "allmrec_stage1": QUICK}.get(method, QUICK)
        changes = STAGE_2 if method in ("allmrec", "allmrec_texts", "allmrec_retrieval") else changes
        given = [f"--predecessors.{other}={folders[other]}" for other in needed]
        assert main(["run", "--config", f"synthetic/{method}", *options(root, runs, *changes, *given)]) == 0
        (folders[method],) = find_runs([runs / "synthetic" / method])
    return folders


@pytest.fixture(scope="module")
def results(chain: dict[str, Path]) -> dict[str, Result]:
    return {method: read_result(folder) for method, folder in chain.items()}


def hit(result: Result) -> float:
    return result.metrics["test/sampled-19/overall/hr@1"]


def test_runs_name_what_they_are_made_from(results: dict[str, Result], standin: Path) -> None:
    made_from = results["allmrec"].predecessors
    assert results["allmrec"].lineage["allmrec_stage1"] == results["allmrec_stage1"].config_id
    assert made_from == {
        "sasrec_allmrec": results["sasrec_allmrec"].run_id,
        "allmrec_stage1": results["allmrec_stage1"].run_id,
        "standin": standin.name,
    }
    assert results["allmrec"].language_model == standin.name
    assert results["sasrec_allmrec"].language_model is None


def test_all_stand_under_one_protocol_and_none_that_is_made_from_runs_is_a_floor(results: dict[str, Result]) -> None:
    assert len({result.protocols["sampled-19"]["id"] for result in results.values()}) == 1
    assert [method for method, result in results.items() if result.closed_form] == ["llm_only"]


def test_a_row_without_training_is_as_undertrained_as_what_it_scores(results: dict[str, Result]) -> None:
    late = {method: result.training["undertrained"] for method, result in results.items()}
    assert late["allmrec"]
    assert late["allmrec_null_context"]
    assert late["joint_dot"] == late["allmrec_stage1"]


def test_stage_1_leaves_its_joint_vectors(chain: dict[str, Path], results: dict[str, Result]) -> None:
    vectors = load_file(chain["allmrec_stage1"] / "joint.safetensors")
    assert {name: table.shape for name, table in vectors.items()} == {"items": (129, 128), "texts": (129, 128)}
    assert hit(results["joint_dot"]) == hit(results["allmrec_stage1"])
    assert results["joint_dot_texts"].run_id != results["joint_dot"].run_id


def test_a_filter_that_reads_no_history_may_have_been_given_a_shorter_one(
    chain: dict[str, Path], root: Path, tmp_path: Path
) -> None:
    short = [*QUICK, "--trainer.max_epochs=1", "--data.negatives=complete"]
    assert main(["run", "--config", "synthetic/ncf", *options(root, tmp_path, *short)]) == 0
    (filter_run,) = find_runs([tmp_path / "synthetic" / "ncf"])
    given = [*QUICK, "--trainer.max_epochs=1", f"--predecessors.sasrec_allmrec={filter_run}"]
    assert main(["run", "--config", "synthetic/allmrec_stage1", *options(root, tmp_path, *given)]) == 0
    (run,) = find_runs([tmp_path / "synthetic" / "allmrec_stage1"])
    known = read_result(run).information_set
    assert {"user_id", "held_out_hidden"} <= set(known), "what its filter's negatives gave away is given away here, too"


def test_a_checkpoint_made_from_another_filter_is_not_resumed(
    chain: dict[str, Path], root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = shutil.copytree(chain["sasrec_allmrec"], tmp_path / "another")
    replace(read_result(other), run_id="another").write(other)
    given = [f"--predecessors.sasrec_allmrec={other}", f"--ckpt_path={chain['allmrec_stage1'] / 'last.ckpt'}"]
    assert main(["run", "--config", "synthetic/allmrec_stage1", *options(root, tmp_path, *QUICK, *given)]) == 2
    assert "was trained with predecessors.sasrec_allmrec" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("method", "few"), [("allmrec_stage1", [*QUICK, "--trainer.max_epochs=1"]), ("allmrec", STAGE_2)]
)
def test_a_search_gives_its_trials_the_runs_that_they_build_on(
    chain: dict[str, Path], root: Path, tmp_path: Path, method: str, few: list[str]
) -> None:
    needed: list[str] = yaml.safe_load(find_experiment(f"synthetic/{method}").read_text())["needs"]
    given = [*few, "--trainer.accelerator=cpu", *(f"--predecessors.{other}={chain[other]}" for other in needed)]
    places = ["--root", str(root), "--runs", str(tmp_path), "--options", *(option[2:] for option in given)]
    assert main(["sweep", f"synthetic/{method}", "--trials", "1", *places]) == 0
    best = RunCLI(["--config", str(tmp_path / "sweeps" / f"synthetic-{method}" / "best.yaml")])
    assert best.config.predecessors == {other: str(chain[other]) for other in needed}


@pytest.mark.parametrize(("option", "value"), [("split", "global_temporal"), ("max_history", "7")])
def test_a_filter_of_other_events_is_refused(
    chain: dict[str, Path], root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, value: str
) -> None:
    given = [f"--predecessors.sasrec_allmrec={chain['sasrec_allmrec']}", f"--data.{option}={value}"]
    assert main(["run", "--config", "synthetic/allmrec_stage1", *options(root, tmp_path, *QUICK, *given)]) == 2
    assert f"was trained with {option} " in capsys.readouterr().err
    assert not list(find_runs([tmp_path]))


def test_parameters_tell_trained_from_frozen(results: dict[str, Result]) -> None:
    counts = results["allmrec"].parameters
    # Two linear maps and a layer norm each, into token vectors of width 128.
    user, item = ((width * 128 + 128) + 2 * 128 + (128 * 128 + 128) for width in (50, 128))
    assert counts["trained"] == user + item
    assert counts["frozen"] > 500_000


def test_answers_and_places_of_the_target_are_reported(results: dict[str, Result]) -> None:
    metrics, cases = results["allmrec"].metrics, results["allmrec"].cases
    assert metrics["test/sampled-19/overall/generated/out_of_list"] >= 0
    assert -1 < metrics["test/sampled-19/overall/prompts/length_correlation"] < 1
    assert metrics["test/sampled-19/overall/prompts/shortened"] == 0
    quarters = [f"test/sampled-19/target_in_quarter_{quarter}" for quarter in (1, 2, 3, 4)]
    assert sum(cases[key] for key in quarters) == 16
    for rule in ("hr@1", "legacy_hr@1"):
        hits = sum(cases[key] * metrics.get(f"{key}/generated/{rule}", 0.0) for key in quarters)
        assert hits / 16 == pytest.approx(metrics[f"test/sampled-19/overall/generated/{rule}"])


def stage_2_on(chain: dict[str, Path], standin: Path) -> list[str]:
    given = [f"--predecessors.{method}={chain[method]}" for method in ("sasrec_allmrec", "allmrec_stage1")]
    return [*STAGE_2, f"--model.llm={standin}", *given]


@pytest.fixture(scope="module")
def alone(chain: dict[str, Path], root: Path, standin: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a stage 2 that one process has trained."""
    runs = tmp_path_factory.mktemp("alone")
    one = options(root, runs, *stage_2_on(chain, standin), "--data.batch_size=8")
    assert main(["run", "--config", "synthetic/allmrec", *one]) == 0
    (folder,) = find_runs([runs])
    return folder


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_learn_what_one_does(
    chain: dict[str, Path], root: Path, standin: Path, alone: Path, tmp_path: Path, strategy: str
) -> None:
    two = [*stage_2_on(chain, standin), "--data.batch_size=4", "--trainer.devices=2"]
    # One process has fewer rows at the end than the other, and must read a divided model as often.
    two += ["--data.test_users=28", "--data.eval_batch_size=20"]
    running = process("run", "--config", "synthetic/allmrec", f"trainer/{strategy}", *options(root, tmp_path, *two))
    _, errors = running.communicate(timeout=300)
    assert running.returncode == 0, errors
    (together,) = find_runs([tmp_path])
    checkpoints = [torch.load(folder / "last.ckpt", weights_only=True) for folder in (alone, together)]
    single, double = (checkpoint["state_dict"] for checkpoint in checkpoints)
    assert "test/sampled-19/overall/generated/out_of_list" in read_result(together).metrics
    # A step of Adam is as long as 0.01 in every weight, and rounding turns a few where the gradient is all but zero.
    for name, weights in single.items():
        assert torch.dist(double[name], weights) <= 0.01 * weights.norm(), name


def test_generate_writes_about_known_users(
    chain: dict[str, Path], root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    user = find_store(root, "synthetic").user_tokens()[3]
    assert main(["generate", str(chain["allmrec"]), "--user", user, "--prompt", "Likes", "--max-tokens", "4"]) == 0
    assert capsys.readouterr().out.startswith(f"{user}: ")
    assert main(["generate", str(chain["allmrec"]), "--user", "nobody"]) == 2
    assert "has no user 'nobody'" in capsys.readouterr().err
    assert main(["generate", str(chain["sasrec_allmrec"]), "--user", user]) == 2
    assert "writes no text" in capsys.readouterr().err


def test_favourites_are_judged_with_and_without_vectors(chain: dict[str, Path], root: Path, tmp_path: Path) -> None:
    assert main(["run", "--config", "synthetic/llm_only", *options(root, tmp_path / "runs", *QUICK)]) == 0
    (plain,) = find_runs([tmp_path / "runs"])
    for run in (chain["allmrec"], plain):
        out = tmp_path / run.parent.name
        few = ["--genres", "--sample", "4", "--max-tokens", "6", "--out", str(out)]
        assert main(["generate", str(run), *few]) == 0
        assert (out / "index.md").read_text().startswith(f"# What {run.parent.name} says about users of synthetic")
        report = json.loads((out / "genres.json").read_text())
        assert all(row["favourites"] for row in report["users"].values())
        assert len(report["users"]) == 4


def test_a_finished_stage_2_can_be_evaluated_again(
    chain: dict[str, Path], results: dict[str, Result], tmp_path: Path
) -> None:
    assert main(["evaluate", str(chain["allmrec"]), "--runs", str(tmp_path)]) == 0
    (folder,) = find_runs([tmp_path])
    assert read_result(folder).metrics == results["allmrec"].metrics
    own = results["allmrec"]
    assert read_result(folder).predecessors == own.predecessors | {"checkpoint": own.run_id}


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options of an evaluation on a data set of other items and users."""
    root = tmp_path_factory.mktemp("elsewhere")
    size = ["--users", "50", "--items", "110", "--interactions", "480"]
    assert main(["prepare", "synthetic", *size, "--root", str(root)]) == 0
    return ["--data", "synthetic", "--root", str(root)]


def test_texts_are_ranked_on_another_data_set(
    chain: dict[str, Path], results: dict[str, Result], elsewhere: list[str], tmp_path: Path
) -> None:
    for method in ("allmrec_sbert", "allmrec_texts", "joint_dot_texts", "llm_only"):
        assert main(["evaluate", str(chain[method]), *elsewhere, "--runs", str(tmp_path)]) == 0
    found = {read_result(folder).method: read_result(folder) for folder in find_runs([tmp_path])}
    result = found["allmrec_texts"]
    assert result.protocols["sampled-19"]["fields"]["scenario"] == "from-synthetic"
    assert (result.language_model, "trained on synthetic" in result.marks) == (results["allmrec"].language_model, True)
    (across,) = build_tables(list(found.values()))
    assert {row.method for row in across.rows} == set(found)
    assert [row.method for row in across.rows if row.floor] == ["llm_only"]
    assert found["llm_only"].language_model == results["allmrec"].language_model
    assert "from synthetic" in found["llm_only"].marks
    tables = build_tables([*found.values(), *results.values()])
    assert [("from-synthetic" in table.note, len(table.rows)) for table in tables].count((True, 4)) == 1


def test_a_test_on_another_data_set_can_be_repeated(
    chain: dict[str, Path], elsewhere: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["evaluate", str(chain["allmrec_texts"]), *elsewhere, "--runs", str(tmp_path)]
    assert main(command) == main(command) == 0
    assert "Already done" in capsys.readouterr().out
    (first,) = find_runs([tmp_path])
    assert main(["evaluate", str(first), "--runs", str(tmp_path / "again")]) == 0
    (second,) = find_runs([tmp_path / "again"])
    assert read_result(second).metrics == read_result(first).metrics
    assert read_result(second).protocols == read_result(first).protocols


def test_methods_that_know_ids_are_not_applicable_elsewhere(
    chain: dict[str, Path], elsewhere: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for method in ("sasrec_allmrec", "allmrec", "joint_dot", "allmrec_retrieval"):
        assert main(["evaluate", str(chain[method]), *elsewhere, "--runs", str(tmp_path)]) == 2
        assert "not applicable" in capsys.readouterr().err.replace("\n", " ")
    assert not list(tmp_path.iterdir())


def test_a_stand_in_that_was_not_built_says_how(root: Path, tmp_path: Path) -> None:
    store = tmp_path / "synthetic" / "store"
    shutil.copytree(find_store(root, "synthetic").path, store)
    # Texts, and so stand-ins, differ between the recipes of a data set.
    with pytest.raises(UserError, match=r"synthetic --recipe planted --root .* --standin-llm"):
        find_standin(replace(find_store(root, "synthetic"), path=store))


@pytest.mark.parametrize("name", ["synthetic", "ml-100k", "beauty", "games", "movies", "toys", "luxury-beauty"])
def test_suites_hold_the_method_its_parts_its_controls_and_the_floors(name: str) -> None:
    suite = read_suite(find_suite(f"allmrec-{name}"))
    assert {"sasrec_allmrec", "llm_only", "allmrec", "allmrec_sbert", "allmrec_retrieval"} <= set(suite.methods)
    assert {
        "allmrec_random_llm",
        "allmrec_shuffled_joint",
        "allmrec_shuffled_users",
        *METHODS,
    } <= set(suite.methods)
    assert {"popularity", "item_knn", "feature_floor"} <= set(suite.floors)
    assert suite.options["data.test_users"] == (256 if name == "synthetic" else 5000)
