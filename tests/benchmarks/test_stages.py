"""Methods that train in stages, as whole runs: another process scores them alike, and several processes train one."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from benchmarks.__main__ import main
from benchmarks.runs import find_runs
from common.data.store import find_store
from tests.allmrec.baselines import sentence_model
from tests.benchmarks.conftest import options

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
def test_a_finished_run_is_scored_alike_by_another_process(
    root: Path, sbert: str, tmp_path: Path, method: str
) -> None:
    own, again = tmp_path / "own", tmp_path / "again"
    assert main(["run", "--config", f"synthetic/{method}", *options(root, own, *small(method, sbert))]) == 0
    (run,) = find_runs([own])
    assert main(["evaluate", str(run), "--runs", str(again)]) == 0
    (evaluation,) = find_runs([again])
    assert pl.read_parquet(evaluation / "ranks.parquet").equals(pl.read_parquet(run / "ranks.parquet"))
