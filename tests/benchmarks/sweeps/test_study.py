"""A search optimises validation, goes on where it stopped, spends its budget once, and writes a usable file."""

import json
import signal
from pathlib import Path

import lightning as L
import pytest
import yaml
from lightning.pytorch.utilities.exceptions import SIGTERMException

from benchmarks.__main__ import main
from benchmarks.configuration import RunCLI
from benchmarks.sweeps import study as studies
from benchmarks.sweeps.budget import Budget, spent
from benchmarks.sweeps.space import SWEEPS, Space, read_space
from benchmarks.sweeps.study import open_study, search, write_best
from benchmarks.sweeps.trial import Report, Reporter
from common.data.stores import find_store
from common.errors import UserError


def space_of(folder: Path, **changes: object) -> Space:
    values = {
        "command": ["recbench", "run", "--config=synthetic/sasrec", "--wandb", "${args}"],
        "method": "bayes",
        "metric": {"name": "val/ndcg@10", "goal": "maximize"},
        "parameters": {
            "model.lr": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-1},
            "model.width": {"values": [8, 16]},
            "model.betas": {"values": [[0.9, 0.98], [0.9, 0.999]]},
        },
    }
    path = folder / "toy.yaml"
    path.write_text(yaml.safe_dump(values | changes))
    return read_space(path)


class Trials:
    """Stands in for training: a peak at a learning rate of .01, the epochs of a curve, failures where told."""

    def __init__(self, failing: int = 0) -> None:
        self.failing = failing
        self.calls: list[dict[str, str]] = []

    def __call__(self, arguments: list[str], metric: str, goal: str, report: Report) -> tuple[float, bool]:
        self.calls.append(dict(argument[2:].split("=", 1) for argument in arguments))
        if len(self.calls) <= self.failing:
            raise UserError("The loss is no number.", "Lower the learning rate.")
        quality = 1 / (1 + abs(float(self.calls[-1]["model.lr"]) - 0.01))
        for epoch in range(9):
            if not report(quality * (epoch + 1) / 9, epoch):
                return quality, True
        return quality, False


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> Trials:
    stand_in = Trials()
    monkeypatch.setattr(studies, "run_trial", stand_in)
    return stand_in


def test_a_search_goes_on_with_the_options_it_was_begun_with(tmp_path: Path) -> None:
    space = space_of(tmp_path)
    open_study(space, tmp_path, options=["--b=2", "--a=1"])
    open_study(space, tmp_path, options=["--a=1", "--b=2"])
    with pytest.raises(UserError, match="begun with --a=1 --b=2, not --a=9"):
        open_study(space, tmp_path, options=["--a=9"])


@pytest.mark.parametrize(
    "change",
    [
        {"metric": {"name": "val/hr@10", "goal": "maximize"}},
        {"parameters": {"model.lr": {"values": [0.1, 0.2]}}},
    ],
)
def test_a_search_does_not_go_on_with_another_metric_or_space(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, object]
) -> None:
    places = ["--root", str(root), "--runs", str(tmp_path / "runs"), "--options", "trainer.max_epochs=1"]
    begun = {"parameters": {"model.lr": {"values": [0.001, 0.01]}}}
    space_of(tmp_path, **begun)
    assert main(["sweep", str(tmp_path / "toy.yaml"), "--trials", "1", *places]) == 0
    space_of(tmp_path, **begun | change)
    assert main(["sweep", str(tmp_path / "toy.yaml"), "--trials", "2", *places]) == 2
    assert "was begun with" in capsys.readouterr().err


def test_a_search_goes_on_with_runs_that_were_moved_but_not_with_others(trials: Trials, tmp_path: Path) -> None:
    space = space_of(tmp_path)
    begun = ["--predecessors.sasrec=runs/toy/sasrec/0a1b"]
    open_study(space, tmp_path, options=begun)
    moved = ["--predecessors.sasrec=/disk/runs/toy/sasrec/0a1b"]
    study = open_study(space, tmp_path, options=moved)
    search(space, study, tmp_path, Budget(1), begun)
    config = RunCLI(["--config", str(write_best(space, study, tmp_path, moved))]).config
    assert config.predecessors == {"sasrec": "/disk/runs/toy/sasrec/0a1b"}
    with pytest.raises(UserError, match="was begun with"):
        open_study(space, tmp_path, options=["--predecessors.sasrec=runs/toy/sasrec/ffff"])


def test_a_search_does_not_go_on_with_other_data(
    root: Path, trials: Trials, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space_of(tmp_path)
    other = tmp_path / "other"
    size = ["--users", "50", "--items", "110", "--interactions", "480", "--root", str(other)]
    assert main(["prepare", "synthetic", *size]) == 0
    search = ["sweep", str(tmp_path / "toy.yaml"), "--runs", str(tmp_path / "runs"), "--root"]
    assert main([*search, str(root), "--trials", "1"]) == 0
    assert main([*search, str(other), "--trials", "2"]) == 2
    assert "was begun on other data" in capsys.readouterr().err
    # Found by another name, they are the same.
    store = find_store(root, "synthetic").path.name
    assert main([*search, str(root), "--trials", "2", "--options", f"data.store={store}"]) == 0
    assert len(trials.calls) == 2


@pytest.mark.parametrize("more", [[], ["--dry-run"], ["--backend", "wandb"]])
def test_a_search_whose_trials_lack_a_run_that_they_build_on_is_not_begun(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str]
) -> None:
    places = ["--root", str(root), "--runs", str(tmp_path / "runs")]
    assert main(["sweep", "synthetic/allmrec", "--trials", "2", *places, *more]) == 2
    given = "Add --options predecessors.sasrec_allmrec=RUN predecessors.allmrec_stage1=RUN;"
    assert given in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_search_whose_trials_would_build_on_no_run_is_not_begun(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = ["--root", str(root), "--runs", str(tmp_path / "runs")]
    given = ["--options", f"predecessors.sasrec_allmrec={tmp_path}"]
    assert main(["sweep", "synthetic/allmrec_stage1", "--trials", "2", *places, *given]) == 2
    assert f"{tmp_path} is not a run folder" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("backend", ["optuna", "wandb"])
def test_a_secret_among_the_options_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], backend: str
) -> None:
    given = ["--runs", str(tmp_path), "--backend", backend, "--options", "trainer.logger.api_key=abc"]
    assert main(["sweep", "synthetic/sasrec", "--trials", "1", *given]) == 2
    assert "--options trainer.logger.api_key would be kept in files." in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_best_trial_is_the_best_and_its_file_is_a_run(trials: Trials, tmp_path: Path) -> None:
    space = space_of(tmp_path)
    study = open_study(space, tmp_path)
    search(space, study, tmp_path, Budget(12), [])
    path = write_best(space, study, tmp_path)
    best = min(trials.calls, key=lambda call: abs(float(call["model.lr"]) - 0.01))
    config = RunCLI(["--config", str(path)]).config
    assert config.model.init_args.lr == pytest.approx(float(best["model.lr"]))
    assert list(config.model.init_args.betas) == json.loads(best["model.betas"])
    assert config.tuning["trials"] == 12
    assert set(config.tuning) == {"study", "trials", "hours", "seed"}


def test_the_budget_is_of_the_study_not_of_the_call(trials: Trials, tmp_path: Path) -> None:
    space = space_of(tmp_path)
    search(space, open_study(space, tmp_path), tmp_path, Budget(3), [])
    search(space, open_study(space, tmp_path), tmp_path, Budget(5), [])
    search(space, open_study(space, tmp_path), tmp_path, Budget(5), [])
    assert len(trials.calls) == 5
    assert spent(open_study(space, tmp_path)).trials == 5


def test_hours_end_a_search(trials: Trials, tmp_path: Path) -> None:
    space = space_of(tmp_path)
    search(space, open_study(space, tmp_path), tmp_path, Budget(50, hours=1e-9), [])
    assert len(trials.calls) == 1


def test_failed_trials_count_and_do_not_end_a_search(trials: Trials, tmp_path: Path) -> None:
    trials.failing = 2
    space = space_of(tmp_path)
    study = open_study(space, tmp_path)
    search(space, study, tmp_path, Budget(4), [])
    assert [trial.state.name for trial in study.trials] == ["FAIL", "FAIL", "COMPLETE", "COMPLETE"]


def test_without_a_complete_trial_there_is_no_best(trials: Trials, tmp_path: Path) -> None:
    trials.failing = 9
    space = space_of(tmp_path)
    study = open_study(space, tmp_path)
    search(space, study, tmp_path, Budget(2), [])
    with pytest.raises(UserError, match="No trial of toy was completed"):
        write_best(space, study, tmp_path)


def test_hyperband_stops_bad_trials_early(trials: Trials, tmp_path: Path) -> None:
    space = space_of(tmp_path, method="random", early_terminate={"type": "hyperband", "min_iter": 1, "eta": 3})
    study = open_study(space, tmp_path)
    search(space, study, tmp_path, Budget(30), [])
    states = [trial.state.name for trial in study.trials]
    assert 3 <= states.count("PRUNED") < 30
    assert spent(study).trials == 30


def test_a_grid_visits_each_point_once(trials: Trials, tmp_path: Path) -> None:
    parameters = {"model.lr": {"values": [0.001, 0.01]}, "model.width": {"values": [8, 16]}}
    space = space_of(tmp_path, method="grid", parameters=parameters)
    search(space, open_study(space, tmp_path), tmp_path, Budget(10), [])
    assert len({(call["model.lr"], call["model.width"]) for call in trials.calls}) == len(trials.calls) == 4


@pytest.mark.parametrize(("method", "lists"), [("ncf", "model.layers"), ("nextitnet", "model.dilations")])
def test_a_grid_over_lists_visits_each(method: str, lists: str, trials: Trials, tmp_path: Path) -> None:
    values = yaml.safe_load((SWEEPS / f"{method}.yaml").read_text())["parameters"][lists]["values"]
    parameters = {lists: {"values": values}, "model.lr": {"values": [0.001, 0.01]}}
    space = space_of(tmp_path, method="grid", parameters=parameters)
    study = open_study(space, tmp_path)
    search(space, study, tmp_path, Budget(20), [])
    assert {trial.state.name for trial in study.trials} == {"COMPLETE"}
    drawn = [(json.loads(call[lists]), float(call["model.lr"])) for call in trials.calls]
    assert sorted(drawn) == sorted((value, lr) for value in values for lr in (0.001, 0.01))


def test_command_trains_validates_and_never_tests(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space_of(tmp_path, parameters={"model.width": {"values": [8]}})
    places = ["--root", str(root), "--runs", str(tmp_path / "runs")]
    more = ["--options", "trainer.max_epochs=1", "trainer.accelerator=cpu"]
    capsys.readouterr()
    assert main(["sweep", str(tmp_path / "toy.yaml"), "--trials", "1", *places, *more]) == 0
    told = capsys.readouterr()
    assert "trial 0 is best, with val/ndcg@10 0." in told.err
    best = Path(told.out.strip().splitlines()[-1])
    assert yaml.safe_load(best.read_text())["tuning"]["trials"] == 1
    written = {path.name for path in (tmp_path / "runs").rglob("*") if path.is_file()}
    assert "result.json" not in written
    assert "ranks.parquet" not in written


def test_half_a_line_that_a_full_disk_has_left_ends_no_search(trials: Trials, tmp_path: Path) -> None:
    space = space_of(tmp_path)
    search(space, open_study(space, tmp_path), tmp_path, Budget(2), [])
    with (tmp_path / "journal.log").open("ab") as journal:
        journal.write(b'{"op_code":6,"worker_id":"ab')
    search(space, open_study(space, tmp_path), tmp_path, Budget(4), [])
    assert [trial.state.name for trial in open_study(space, tmp_path).trials] == ["COMPLETE"] * 4


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_search_that_is_told_to_end_says_so_and_goes_on(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    space_of(tmp_path, parameters={"model.width": {"values": [8]}})
    places = ["--root", str(root), "--runs", str(tmp_path / "runs")]
    command = ["sweep", str(tmp_path / "toy.yaml"), "--trials", "1", *places, "--options", "trainer.max_epochs=2"]
    usual = Reporter.on_validation_end

    def ends(self: Reporter, trainer: L.Trainer, model: L.LightningModule) -> None:
        usual(self, trainer, model)
        raise SIGTERMException if name == "SIGTERM" else KeyboardInterrupt

    # Lightning lets a process that is being interrupted ignore further interrupts.
    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patched:
        patched.setattr(Reporter, "on_validation_end", ends)
        assert main(command) == 1
    signal.signal(signal.SIGINT, handler)
    assert "Interrupted. The same command continues" in capsys.readouterr().err
    assert main(command) == 0
    assert "1 trials" in capsys.readouterr().err


def test_a_search_whose_trials_would_be_several_processes_is_not_begun(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space_of(tmp_path)
    command = ["sweep", str(tmp_path / "toy.yaml"), "--trials", "2", "--root", str(root), "--runs", str(tmp_path / "r")]
    several = ["--options", "trainer.devices=2", "trainer.strategy=ddp", "trainer.accelerator=cpu"]
    assert main([*command, *several]) == 2
    assert "A trial runs in one process, not on 2 devices." in capsys.readouterr().err
    assert not (tmp_path / "r").exists()
