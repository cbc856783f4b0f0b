"""The dashboard is ready before the sweep, and asks for an account in one sentence."""

from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.loggers.dashboard import workspace


def test_the_definition_shows_what_runs_log() -> None:
    definition = workspace("someone", "recbench")
    assert [section.name for section in definition.sections][:2] == ["Leaderboard", "Learning curves"]
    text = str(definition._to_model())
    for name in ("test/full/overall/ndcg@10", "val/ndcg@10", "seconds/train", "parameters/trained"):
        assert name in text


def test_without_a_key_it_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    assert main(["wandb", "dashboard"]) == 2
    assert "wandb login" in capsys.readouterr().err
