"""Methods that train in stages, as whole runs: scored by another process, resumed, marked, and on several devices."""

from pathlib import Path
from typing import Any

import lightning as L
import polars as pl
import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.callbacks import NoiseSeed
from benchmarks.runs import find_runs, read_result
from common.data.stores import find_store
from tests.allmrec.baselines import sentence_model
from tests.benchmarks.conftest import options
from tests.benchmarks.outside import process, weights

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


def run_of(method: str, root: Path, sbert: str, runs: Path, *more: str) -> tuple[int, list[Path]]:
    """Exit code of a small run, and the folders of finished runs."""
    given = options(root, runs, *small(method, sbert), *more)
    return main(["run", "--config", f"synthetic/{method}", *given]), list(find_runs([runs]))


@pytest.fixture(scope="module", params=STAGES)
def finished(request: pytest.FixtureRequest, root: Path, sbert: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of each method."""
    code, (folder,) = run_of(request.param, root, sbert, tmp_path_factory.mktemp("finished"))
    assert code == 0
    return folder


def test_a_finished_run_is_scored_alike_by_another_process(finished: Path, tmp_path: Path) -> None:
    assert main(["evaluate", str(finished), "--runs", str(tmp_path)]) == 0
    (evaluation,) = find_runs([tmp_path])
    assert pl.read_parquet(evaluation / "ranks.parquet").equals(pl.read_parquet(finished / "ranks.parquet"))


def test_results_and_tables_name_the_text_encoder(finished: Path, sbert: str) -> None:
    result = read_result(finished)
    own = result.method == "recformer"
    assert result.text_encoder == ("Longformer from scratch" if own else sbert)
    assert result.marks == ["texts by Longformer from scratch" if own else f"texts by {Path(sbert).name}"]


@pytest.mark.parametrize("epoch", [1, 3])
def test_a_resumed_training_ends_as_an_unbroken_one(
    finished: Path, root: Path, sbert: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epoch: int
) -> None:
    seed = NoiseSeed.on_train_batch_start

    def interrupt(noise: NoiseSeed, trainer: L.Trainer, *rest: Any) -> None:  # noqa: ANN401
        if trainer.current_epoch == epoch:
            raise KeyboardInterrupt
        seed(noise, trainer, *rest)

    method = read_result(finished).method
    with monkeypatch.context() as patch:
        patch.setattr(NoiseSeed, "on_train_batch_start", interrupt)
        assert run_of(method, root, sbert, tmp_path) == (1, [])
    code, (resumed,) = run_of(method, root, sbert, tmp_path, "--ckpt_path=last")
    assert code == 0
    unbroken = weights(finished)
    differing = [name for name, value in weights(resumed).items() if not torch.equal(value, unbroken[name])]
    assert not differing


def test_a_longer_training_goes_on_from_a_shorter_one_unless_rates_depend_on_its_length(
    finished: Path, root: Path, sbert: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    method = read_result(finished).method
    longer = ["--trainer.max_epochs=5", f"--ckpt_path={finished / 'last.ckpt'}"]
    code, found = run_of(method, root, sbert, tmp_path, *longer)
    assert (code, len(found)) == ((2, 0) if method == "recformer" else (0, 1))
    assert ("was trained with trainer.max_epochs 4, not 5" in capsys.readouterr().err) == (method == "recformer")


def test_ddp_that_expects_all_gradients_is_refused_before_training(root: Path, sbert: str, tmp_path: Path) -> None:
    alone = ["run", "--config", "synthetic/morec", "trainer/ddp", "--trainer.devices=1"]
    running = process(*alone, *options(root, tmp_path, *small("morec", sbert)))
    _, errors = running.communicate(timeout=300)
    assert running.returncode == 2, errors
    assert errors.count("Give --trainer.strategy ddp_find_unused_parameters_true.") == 1
