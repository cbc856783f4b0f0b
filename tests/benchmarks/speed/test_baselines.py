"""Figures of `recbench speed baselines` that need no language model, below the smallest of sentence models."""

from pathlib import Path

import pytest

from benchmarks.speed.baselines import text_methods
from tests.allmrec.baselines.sentence_model import build


def test_methods_that_rank_catalogues_are_timed(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = build(tmp_path, ["title"])
    monkeypatch.setattr("allmrec.sentences.minilm", lambda: tiny)
    figures = text_methods({"dataset": "synthetic", "root": str(root)}, 1)
    kinds = ("step_seconds", "catalogue_seconds", "users_per_second")
    assert set(figures) == {f"{name}_{kind}" for name in ("morec", "ctrl", "recformer") for kind in kinds}
    assert all(value > 0 for value in figures.values())
    # CTRL reads no text in evaluation.
    assert figures["ctrl_catalogue_seconds"] < figures["recformer_catalogue_seconds"]
