"""A suite orders, skips, resumes and retries its runs, and always leaves a leaderboard."""

import re
import shutil
from pathlib import Path

import pytest
import yaml

from benchmarks.__main__ import main
from benchmarks.configuration import RunCLI
from benchmarks.experiments import EXPERIMENTS, find_experiment
from benchmarks.launch.plan import not_applicable, plan
from benchmarks.launch.rows import rows_of
from benchmarks.launch.suites import read_suite
from benchmarks.prepare import prepare
from benchmarks.suite import make_launcher
from common.errors import UserError
from tests.benchmarks.conftest import options
from tests.benchmarks.made_suites import patched, suite_file
from tests.fixtures import tables


@pytest.fixture
def places(root: Path, tmp_path: Path) -> list[str]:
    return ["--root", str(root), "--runs", str(tmp_path / "runs")]


QUICK = {"trainer.max_epochs": 1}


def test_a_closed_form_method_takes_one_seed(root: Path, tmp_path: Path) -> None:
    entries = plan(read_suite(suite_file(tmp_path)), root, tmp_path)
    assert [(entry.method, entry.seed) for entry in entries] == [("popularity", 1), ("sasrec", 1), ("sasrec", 2)]


def test_predecessors_come_first_unasked_and_are_handed_on(root: Path, tmp_path: Path) -> None:
    suite = read_suite(suite_file(tmp_path, methods=["joint_dot"], seeds=[3, 4]))
    entries = plan(suite, root, tmp_path)
    assert [(e.method, e.seed, e.wave) for e in entries] == [
        ("sasrec_allmrec", 3, 0), ("sasrec_allmrec", 4, 0), ("allmrec_stage1", 3, 1), ("allmrec_stage1", 4, 1),
        ("joint_dot", 3, 2), ("joint_dot", 4, 2),
    ]  # fmt: skip
    assert f"--predecessors.allmrec_stage1={entries[3].folder}" in entries[5].arguments
    elsewhere = plan(suite, root, tmp_path / "elsewhere")
    assert [e.folder.name for e in elsewhere] == [e.folder.name for e in entries]
    assert len({e.folder.name for e in entries}) == 6


def test_runs_that_a_file_builds_on_are_those_of_the_plan(root: Path, tmp_path: Path) -> None:
    values = yaml.safe_load((EXPERIMENTS / "synthetic" / "allmrec_stage1.yaml").read_text())
    # As in the config.yaml of a finished run.
    del values["needs"]
    own = tmp_path / "own.yaml"
    own.write_text(yaml.safe_dump(values | {"name": "own", "predecessors": {"sasrec_allmrec": "runs/a/b/0123"}}))
    entries = plan(read_suite(suite_file(tmp_path, methods=[str(own)])), root, tmp_path)
    assert [entry.folder for entry in entries] == [RunCLI(entry.arguments).plan.folder for entry in entries]
    assert len(entries) == 2


@pytest.mark.parametrize("more", [[], ["--dry-run"], ["--status"]])
def test_a_method_that_needs_itself_is_told_so(
    places: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str]
) -> None:
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    for path, other in ((first, second), (second, first)):
        path.write_text(f"model: {{class_path: SASRec}}\nneeds: [{other}]")
    assert main(["suite", str(suite_file(tmp_path, methods=[str(first)])), *places, *more]) == 2
    error = capsys.readouterr().err
    assert f"{first} needs itself" in error
    assert str(second) in error
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("missing", "cure"), [("sasrek", "Did you mean 'synthetic/sasrec'"), ("nowhere.yaml", "There is no configuration")]
)
def test_a_predecessor_that_is_no_experiment_is_told_with_who_needs_it(
    places: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], missing: str, cure: str
) -> None:
    heir = tmp_path / "heir.yaml"
    heir.write_text(f"model: {{class_path: SASRec}}\nneeds: [{missing}]")
    assert main(["suite", str(suite_file(tmp_path, methods=[str(heir)])), *places]) == 2
    error = capsys.readouterr().err
    assert f"{heir} needs {missing!r}: There is no configuration" in error
    assert cure in error


def test_a_scenario_is_that_of_all_that_a_row_is_made_from(root: Path, tmp_path: Path) -> None:
    vary = {"data.scenario": ["few-shot-20", "overall"]}
    suite = read_suite(suite_file(tmp_path, methods=["joint_dot"], seeds=[3], vary=vary))
    entries = plan(suite, root, tmp_path)
    assert [entry.method for entry in entries] == [
        "sasrec_allmrec", "sasrec_allmrec", "allmrec_stage1", "allmrec_stage1", "joint_dot", "joint_dot"
    ]  # fmt: skip
    few = [entry for entry in entries if "--data.scenario=few-shot-20" in entry.arguments]
    assert [entry.method for entry in few] == ["sasrec_allmrec", "allmrec_stage1", "joint_dot"]
    assert few[2].after == (few[0].folder, few[1].folder)
    assert few[2].label == "synthetic/joint_dot (few-shot-20) seed 3"
    assert len({entry.label for entry in entries}) == len({entry.run_id for entry in entries}) == 6


@pytest.mark.parametrize("place", ["options", "vary"])
def test_a_scenario_of_more_users_than_there_are_is_refused_before_anything_runs(
    places: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    scenario = {"options": "few-shot-5000", "vary": ["overall", "few-shot-5000"]}[place]
    suite = suite_file(tmp_path, methods=["sasrec"], **{place: {"data.scenario": scenario}})
    assert main(["suite", str(suite), "--dry-run", *places]) == 2
    assert "few-shot-5000 asks for 5000 users, but only 60 have" in capsys.readouterr().err


def test_runs_that_would_leave_no_result_are_refused(root: Path, tmp_path: Path) -> None:
    suite = read_suite(suite_file(tmp_path, options={"trainer.fast_dev_run": True}))
    with pytest.raises(UserError, match=r"synthetic/popularity: with trainer\.fast_dev_run a run leaves no result"):
        plan(suite, root, tmp_path)


def test_two_rows_that_come_to_the_same_run_are_one(root: Path, tmp_path: Path) -> None:
    shipped = yaml.safe_load((EXPERIMENTS / "synthetic" / "sasrec.yaml").read_text())
    best = tmp_path / "best.yaml"
    best.write_text(yaml.safe_dump(shipped | {"name": "sasrec"}))
    suite = read_suite(suite_file(tmp_path, methods=["sasrec", str(best)], seeds=[1]))
    assert len(plan(suite, root, tmp_path)) == 1


def test_variants_change_options_or_what_they_are_made_from(root: Path, tmp_path: Path) -> None:
    variants = {
        "wide": {"of": "joint_dot", "with": {"allmrec_stage1": "wide_stage1"}},
        "wide_stage1": {"of": "allmrec_stage1", "options": {"model.latent": 64}},
    }
    suite = read_suite(suite_file(tmp_path, methods=["sasrec_allmrec"], seeds=[3], variants=variants))
    entries = {entry.method: entry for entry in plan(suite, root, tmp_path)}
    assert entries["wide"].after == (entries["sasrec_allmrec"].folder, entries["wide_stage1"].folder)
    assert "--model.latent=64" in entries["wide_stage1"].arguments
    assert entries["joint_dot"].after[1] == entries["allmrec_stage1"].folder != entries["wide_stage1"].folder


def test_changes_of_a_method_are_those_of_its_variants_and_scenarios(tmp_path: Path) -> None:
    path = suite_file(
        tmp_path,
        methods=["sasrec"],
        changes={"sasrec": {"model.width": 8, "model.lr": 0.1}},
        variants={"narrow": {"of": "sasrec", "options": {"model.width": 4}}},
        vary={"data.scenario": ["few-shot-20"]},
    )
    options = {row.key: row.options for row in rows_of(read_suite(path), "synthetic")}
    assert options["sasrec"] == {"model.width": 8, "model.lr": 0.1}
    assert options["narrow"] == {"model.width": 4, "model.lr": 0.1}
    assert options["sasrec-scenario-few-shot-20"] == options["sasrec"] | {"data.scenario": "few-shot-20"}


def test_floors_stand_in_every_table_and_change_with_its_data_alone(tmp_path: Path) -> None:
    vary = {"model.lr": [0.1], "data.max_history": [5], "data.scenario": ["few-shot-20"]}
    path = suite_file(tmp_path, methods=["sasrec"], floors=["popularity", "allmrec_brief"], vary=vary)
    keys = {row.key for row in rows_of(read_suite(path), "ml-100k")}
    assert keys == {
        *("popularity", "sasrec", "popularity-scenario-few-shot-20", "sasrec-scenario-few-shot-20"),
        *("sasrec-lr-0.1", "sasrec-max_history-5"),
    }
    heir = tmp_path / "heir.yaml"
    heir.write_text("{like: toy, methods: [gru4rec]}")
    assert read_suite(heir).floors == ["popularity", "allmrec_brief"], "methods of its own keep inherited floors"


@pytest.mark.parametrize("shipped", [True, False])
def test_what_a_method_builds_on_is_found_beside_it_on_own_data(tmp_path: Path, shipped: bool) -> None:
    prepare("mine", source=tables.write(tmp_path / "raw"), root=tmp_path, recipe="whole")
    beside = EXPERIMENTS / "ml-100k" if shipped else shutil.copytree(EXPERIMENTS / "ml-100k", tmp_path / "own")
    method = "ml-100k/joint_dot" if shipped else str(beside / "joint_dot.yaml")
    suite = read_suite(suite_file(tmp_path, datasets=["mine"], methods=[method], seeds=[1]))
    entries = plan(suite, tmp_path, tmp_path)
    assert [entry.method for entry in entries] == ["sasrec_allmrec", "allmrec_stage1", "joint_dot"]
    assert f"--predecessors.allmrec_stage1={entries[1].folder}" in entries[2].arguments


def test_floors_of_own_data_are_named_with_other_data_or_missed_aloud(tmp_path: Path) -> None:
    own = prepare("mine", source=tables.write(tmp_path / "raw"), root=tmp_path, recipe="whole", time="ordinal")
    named = ["ml-100k/popularity", "ml-100k/newest_first"]
    path = suite_file(tmp_path, datasets=["mine"], methods=["ml-100k/sasrec"], seeds=[1], floors=[*named, "item_knn"])
    entries = plan(read_suite(path), tmp_path, tmp_path)
    assert [(entry.dataset, entry.method) for entry in entries] == [("mine", "popularity"), ("mine", "sasrec")]
    assert all(f"--data.store={own.path.name}" in entry.arguments for entry in entries)
    missed, timeless = not_applicable(read_suite(path), tmp_path)
    assert missed.startswith("mine/item_knn: left out")
    assert "ml-100k/item_knn" in missed
    assert timeless.startswith("mine/newest_first: not applicable")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- sasrec\n", "mine.yaml is not an experiment: expected a mapping, found a list"),
        ("", "mine.yaml is not an experiment: expected a mapping, found nothing"),
        ("modle: {class_path: SASRec}\n", "mine.yaml has no model, but 'modle'"),
        ("model: [SASRec]\n", r"mine.yaml: model is \['SASRec'\], expected a mapping with class_path"),
        ("model: {class_path: SASRec}\nneeds: sasrec\n", "mine.yaml: needs is 'sasrec', expected a list of methods"),
    ],
)
@pytest.mark.parametrize("variant", [False, True])
def test_a_method_whose_file_is_no_experiment_is_refused(
    tmp_path: Path, text: str, message: str, variant: bool, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(text)
    changes = {"variants": {"x": {"of": str(mine)}}} if variant else {"methods": [str(mine)]}
    assert main(["suite", str(suite_file(tmp_path, **changes)), "--root", str(root), "--runs", str(tmp_path)]) == 2
    assert re.search(message, capsys.readouterr().err)


def test_a_method_written_for_other_data_runs_on_those_of_the_suite(root: Path, tmp_path: Path) -> None:
    method = str(find_experiment("ml-100k/sasrec"))
    (entry,) = plan(read_suite(suite_file(tmp_path, methods=[method], seeds=[1])), root, tmp_path)
    assert RunCLI(entry.arguments).plan.manifest.dataset == "synthetic"


def test_a_mistake_in_an_option_names_the_row(root: Path, tmp_path: Path) -> None:
    suite = read_suite(suite_file(tmp_path, vary={"model.lr": [0.01]}))
    with pytest.raises(UserError, match=r"synthetic/popularity-lr-0.01: Popularity has no argument 'lr'"):
        plan(suite, root, tmp_path)


def test_changes_of_a_method_without_a_row_are_refused(tmp_path: Path) -> None:
    suite = read_suite(suite_file(tmp_path, changes={"sasrek": {"model.width": 8}}))
    with pytest.raises(UserError, match="Did you mean 'sasrec'"):
        rows_of(suite, "synthetic")


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        ({"options": {}}, "the variant x is malformed"),
        ({"of": "joint_dot", "made": {}}, "the variant x is malformed"),
        ({"of": "joint_dot", "with": {"allmrec_stage1": "allmrec_stage2"}}, "Did you mean 'allmrec_stage1'"),
        ({"of": "joint_dot", "with": {"allmrec_stage": "x"}}, "'allmrec_stage', which joint_dot does not need"),
        ({"of": "sasrec", "with": {"gru4rec": "x"}}, "'gru4rec', which sasrec does not need"),
    ],
)
def test_variants_that_cannot_be_made_are_refused(tmp_path: Path, variant: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        rows_of(read_suite(suite_file(tmp_path, methods=["popularity"], variants={"x": variant})), "synthetic")


def test_a_run_without_its_predecessor_says_which(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--config", "synthetic/allmrec_stage1", *options(root, tmp_path)]) == 2
    assert "--predecessors.sasrec_allmrec RUN" in capsys.readouterr().err


def test_a_method_may_be_a_configuration_of_other_data(root: Path, tmp_path: Path) -> None:
    (entry,) = plan(read_suite(suite_file(tmp_path, methods=["ml-100k/sasrec"], seeds=[1])), root, tmp_path)
    assert (entry.dataset, entry.folder.parent.name) == ("synthetic", "sasrec")
    assert "--config=ml-100k/sasrec" in entry.arguments


def test_a_predecessor_that_nothing_is_built_on_is_refused(
    finished: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = [f"--predecessors.{role}={finished}" for role in ("sasrec_allmrec", "sasrec_allmrek")]
    assert main(["run", "--config", "synthetic/allmrec_stage1", *options(root, tmp_path, *both)]) == 2
    assert "build on 'sasrec_allmrek'.\nDid you mean 'sasrec_allmrec'?" in capsys.readouterr().err


def test_a_predecessor_on_another_store_is_refused(
    finished: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "stores"
    small = ["--users", "50", "--items", "128", "--interactions", "500"]
    assert main(["prepare", "synthetic", *small, "--root", str(other), "--json"]) == 0
    capsys.readouterr()
    arguments = options(other, tmp_path, f"--predecessors.sasrec_allmrec={finished}")
    assert main(["run", "--config", "synthetic/allmrec_stage1", *arguments]) == 2
    assert "was trained on synthetic" in capsys.readouterr().err


def test_a_predecessor_that_was_trained_on_other_users_is_refused(
    finished: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = options(root, tmp_path, f"--predecessors.sasrec_allmrec={finished}", "--data.scenario=few-shot-5")
    assert main(["run", "--config", "synthetic/allmrec_stage1", *arguments]) == 2
    assert "was trained with scenario overall, not few-shot-5" in capsys.readouterr().err


def test_a_predecessor_under_another_name_is_refused(
    finished: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    latest = shutil.copytree(finished, tmp_path / "latest")
    arguments = options(root, tmp_path, f"--predecessors.sasrec_allmrec={latest}")
    assert main(["run", "--config", "synthetic/allmrec_stage1", *arguments]) == 2
    assert f"latest holds the run {finished.name}.\nGive the folder its name" in capsys.readouterr().err


def test_a_predecessor_must_be_finished(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = options(root, tmp_path, f"--predecessors.stage1={tmp_path}")
    assert main(["run", "--config", "synthetic/popularity", *arguments]) == 2
    assert "is not a run folder" in capsys.readouterr().err


def test_options_vary_one_at_a_time_and_their_usual_value_is_no_other_run(root: Path, tmp_path: Path) -> None:
    vary = {"model.dropout": [0.5, 0.1], "model.width": [8]}
    suite = read_suite(suite_file(tmp_path, methods=["sasrec"], seeds=[1], vary=vary))
    plain, dropout, width = plan(suite, root, tmp_path)
    assert [plain.method, dropout.method, width.method] == ["sasrec", "sasrec-dropout-0.1", "sasrec-width-8"]
    assert "--model.dropout=0.1" in dropout.arguments
    assert not any("dropout" in argument for argument in width.arguments if not argument.startswith("--name"))


def test_a_suite_runs_and_then_has_nothing_to_do(
    places: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = patched(monkeypatch, tmp_path)
    path = str(suite_file(tmp_path, options=QUICK))
    assert main(["suite", path, *places]) == 0
    assert len(runs.commands) == 3
    table = (tmp_path / "runs" / "suites" / "toy" / "leaderboard.md").read_text()
    assert re.search(r"\| sasrec +\|", table)
    assert "*popularity*" in table
    assert main(["suite", path, *places]) == 0
    assert len(runs.commands) == 3
    capsys.readouterr()
    assert main(["suite", path, *places, "--status"]) == 0
    assert capsys.readouterr().out.count("done ") == 3
    truncated = next((tmp_path / "runs" / "synthetic" / "sasrec").rglob("result.json"))
    truncated.write_text(truncated.read_text()[:100])
    for more in (["--status"], ["--dry-run"], []):
        assert main(["suite", path, *places, *more]) == 2
        assert f"{truncated} cannot be read" in capsys.readouterr().err


def test_a_failed_run_is_tried_twice_and_the_suite_goes_on(
    places: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = patched(monkeypatch, tmp_path, {"--config=synthetic/popularity": 2})
    assert main(["suite", str(suite_file(tmp_path, options=QUICK, seeds=[1])), *places]) == 1
    assert len(runs.commands) == 3
    assert "1 of 2 runs failed" in capsys.readouterr().err
    assert re.search(r"\| sasrec +\|", (tmp_path / "runs" / "suites" / "toy" / "leaderboard.md").read_text())


def test_runs_that_could_not_start_are_not_said_to_have_logs(
    places: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    patched(monkeypatch, tmp_path, {"--config=synthetic/sasrec_allmrec": 2})
    assert main(["suite", str(suite_file(tmp_path, methods=["joint_dot"], seeds=[1])), *places]) == 1
    told = [line.partition("seed 1: ")[2] for line in capsys.readouterr().err.splitlines()[-3:]]
    assert [log.endswith(".log") for log in told] == [True, False, False]
    assert told[1:] == ["none, since a run that it builds on failed"] * 2


def test_an_unfinished_run_is_resumed(
    root: Path, places: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = suite_file(tmp_path, options=QUICK, methods=["sasrec"], seeds=[1])
    (entry,) = plan(read_suite(path), root, tmp_path / "runs")
    entry.folder.mkdir(parents=True)
    (entry.folder / "last.ckpt").write_bytes(b"")
    runs = patched(monkeypatch, tmp_path, {"--config=synthetic/sasrec": 2})
    assert main(["suite", str(path), *places]) == 1
    assert all("--ckpt_path=last" in command for command in runs.commands)


def test_dry_run_prints_commands_that_would_run(
    places: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["suite", str(suite_file(tmp_path)), *places, "--dry-run"]) == 0
    *lines, estimate = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("recbench run --config=synthetic/") for line in lines)
    assert estimate.startswith("# 3 of 3 runs to do")
    assert not (tmp_path / "runs").exists()


def test_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["suite", "quickstar"]) == 2
    assert "Did you mean 'quickstart'?" in capsys.readouterr().err
    assert main(["suite", str(suite_file(tmp_path, method=["x"]))]) == 2
    assert "Did you mean 'methods'?" in capsys.readouterr().err


def test_every_seed_of_a_plan_is_the_run_that_its_command_starts(root: Path, tmp_path: Path) -> None:
    suite = read_suite(suite_file(tmp_path, methods=["popularity", "sasrec", "joint_dot"], seeds=[3, 1, 2]))
    planned = plan(suite, root, tmp_path / "runs")
    assert {(entry.method, entry.seed) for entry in planned} == {("popularity", 3)} | {
        (method, seed) for method in ("sasrec", "sasrec_allmrec", "allmrec_stage1", "joint_dot") for seed in (1, 2, 3)
    }
    for entry in planned:
        assert RunCLI(entry.arguments).plan.folder == entry.folder


def test_runs_share_the_processors_that_the_suite_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {3, 5, 7, 9}, raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    _, jobs, threads = make_launcher("local", None, 2, None)
    assert (jobs, threads) == (2, 2)
