"""Methods that train in stages, as whole runs: another process scores them alike, and several processes train one."""

from pathlib import Path

import polars as pl
import pytest

from benchmarks.__main__ import main
from benchmarks.runs import find_runs
from common.data.store import find_store
from tests.allmrec.baselines import sentence_model
from tests.benchmarks.conftest import options
from tests.benchmarks.test_processes import process

SMALL = ["--trainer.max_epochs=4", "--data.batch_size=16", "--data.test_protocols=[full]"]
STAGES: dict[str, list[str]] = {
    "morec": ["--model.frozen_epochs=2", "--model.width=8", "--trainer.check_val_every_n_epoch=1"],
    "ctrl": ["--model.align_epochs=2", "--model.width=8", "--model.latent=8"],
    "recformer": ["--model.pretrain_epochs=1", "--model.refresh_epochs=1", "--model.width=16", "--model.layers=1"],
}
"""Options of each method with which two epochs end its first stages and two are left."""


@pytest.fixture(scope="module")
def sbert(root: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    texts: list[str] = find_store(root, "synthetic").items()["text"].to_list()
    words = {word for text in texts for word in "".join(c if c.isalnum() else " " for c in text).split()}
    return sentence_model.build(tmp_path_factory.mktemp("sbert"), {*words, "chosen", "so", "far"})


def small(method: str, sbert: str) -> list[str]:
    given = [] if method == "recformer" else [f"--model.sbert={sbert}"]
    return [*SMALL, *STAGES[method], *given]


@pytest.mark.parametrize("method", STAGES)
def test_a_finished_run_is_scored_alike_by_another_process(root: Path, sbert: str, tmp_path: Path, method: str) -> None:
    own, again = tmp_path / "own", tmp_path / "again"
    assert main(["run", "--config", f"synthetic/{method}", *options(root, own, *small(method, sbert))]) == 0
    (run,) = find_runs([own])
    assert main(["evaluate", str(run), "--runs", str(again)]) == 0
    (evaluation,) = find_runs([again])
    assert pl.read_parquet(evaluation / "ranks.parquet").equals(pl.read_parquet(run / "ranks.parquet"))


def test_ddp_that_expects_all_gradients_is_refused_before_training(root: Path, sbert: str, tmp_path: Path) -> None:
    alone = ["run", "--config", "synthetic/morec", "trainer/ddp", "--trainer.devices=1"]
    running = process(*alone, *options(root, tmp_path, *small("morec", sbert)))
    _, errors = running.communicate(timeout=300)
    assert running.returncode == 2, errors
    assert errors.count("Give --trainer.strategy ddp_find_unused_parameters_true.") == 1
