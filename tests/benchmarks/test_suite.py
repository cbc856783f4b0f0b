"""A suite orders, skips, resumes and retries its runs, and always leaves a leaderboard."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from benchmarks.__main__ import main
from benchmarks.configuration import RunCLI
from benchmarks.experiments import EXPERIMENTS, find_experiment, find_suite
from benchmarks.launch.plan import plan
from benchmarks.launch.rows import rows_of
from benchmarks.launch.suites import read_suite
from common.errors import UserError
from tests.benchmarks.conftest import options
from tests.benchmarks.made_suites import patched, suite_file


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


def test_seeds_of_language_models_are_among_the_seeds(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"seeds_llm \[3\] are not all among the seeds \[1, 2\]"):
        read_suite(suite_file(tmp_path, seeds_llm=[3]))


def test_a_suite_like_another_says_what_differs(tmp_path: Path) -> None:
    whole = read_suite(suite_file(tmp_path, methods=["sasrec"], seeds=[3, 4], options={"model.width": 8}))
    (tmp_path / "other.yaml").write_text("like: toy\nabout: another\nseeds: [5]\n")
    assert read_suite(tmp_path / "other.yaml") == replace(whole, about="another", seeds=[5])
    for own, merged in (("model.lr: 0.1", {"model.width": 8, "model.lr": 0.1}), ("model.width: null", {})):
        (tmp_path / "other.yaml").write_text(f"like: toy\noptions: {{{own}}}\n")
        assert read_suite(tmp_path / "other.yaml").options == merged
    (tmp_path / "other.yaml").write_text("like: baselines-synthetic\nmethods: [ncf]\n")
    shipped = read_suite(find_suite("baselines-synthetic"))
    assert read_suite(tmp_path / "other.yaml") == replace(shipped, methods=["ncf"])
    (tmp_path / "other.yaml").write_text("like: baselines-synthetics\nabout: another\n")
    with pytest.raises(UserError, match="Did you mean 'baselines-synthetic'"):
        read_suite(tmp_path / "other.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("about: [toy\n", " is not valid YAML"),
        ("- toy\n", " is not a suite file"),
        ("about: a\nseeds: [1]\nseeds: [2]\n", ", line 3: seeds is already in line 2"),
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
