"""Runs as processes of their own: two of them share the work and one writes; Ctrl-C leaves what can be resumed."""

import signal
import time
from pathlib import Path

import polars as pl

from benchmarks.__main__ import main
from benchmarks.runs import find_runs, read_result
from tests.benchmarks.conftest import options
from tests.benchmarks.outside import process


def test_two_processes_test_as_one_does_and_one_writes(root: Path, tmp_path: Path) -> None:
    single, double = tmp_path / "single", tmp_path / "double"
    config = ["run", "--config", "synthetic/item_knn"]
    ddp = ["--trainer.strategy=ddp", "--trainer.devices=2"]
    running = process(*config, *options(root, double), *ddp)
    assert main([*config, *options(root, single)]) == 0
    output, errors = running.communicate(timeout=300)
    assert running.returncode == 0, errors
    assert output.count("Run folder") == 1
    (one,), (two,) = find_runs([single]), find_runs([double])
    assert pl.read_parquet(two / "ranks.parquet").equals(pl.read_parquet(one / "ranks.parquet"))
    assert read_result(two).metrics == read_result(one).metrics


def test_two_processes_train_one_model(root: Path, tmp_path: Path) -> None:
    ddp = ["--trainer.strategy=ddp", "--trainer.devices=2", "--trainer.max_epochs=2", "--data.batch_size=16"]
    running = process("run", "--config", "synthetic/sasrec", *options(root, tmp_path), *ddp)
    _, errors = running.communicate(timeout=300)
    assert running.returncode == 0, errors
    (folder,) = find_runs([tmp_path])
    # 60 users, 16 a batch, two processes.
    assert read_result(folder).training["steps"] == 2 * 2
    assert read_result(folder).cases["test/full/overall"] == 60


def test_an_interrupted_run_is_resumable_and_exits_with_1(root: Path, tmp_path: Path) -> None:
    arguments = ["run", "--config", "synthetic/sasrec", *options(root, tmp_path, "--early_stopping.patience=100000")]
    arguments.append("--trainer.max_epochs=60")
    running = process(*arguments)
    deadline = time.monotonic() + 120
    while not list(tmp_path.rglob("last.ckpt")) and time.monotonic() < deadline:
        time.sleep(0.1)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=120)
    assert running.returncode == 1
    assert "--ckpt_path last" in errors
    assert not list(tmp_path.rglob("result.json"))
    again = process(*arguments, "--ckpt_path=last")
    _, errors = again.communicate(timeout=300)
    assert again.returncode == 0, errors
    (folder,) = find_runs([tmp_path])
    assert read_result(folder).training["epochs"] == 60
