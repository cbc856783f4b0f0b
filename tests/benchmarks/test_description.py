"""A result names what made the vectors of texts that its method reads."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import environment
from benchmarks.description import encoder_of, leakage_of
from common.data.datamodule import SequenceDataModule
from common.models.sasrec import SASRec


class Reader(SASRec):
    """A model that reads texts."""

    information_set = frozenset({"text"})


@pytest.mark.parametrize(
    ("kind", "settings", "encoder"),
    [
        (Reader, {"text_encoder": "minilm"}, "minilm"),
        (Reader, {"text_encoder": "minilm", "vectors": "text"}, "minilm"),
        (Reader, {"text_encoder": "minilm", "vectors": "tfidf"}, "tfidf in place of minilm"),
        (Reader, {}, None),
        (SASRec, {"text_encoder": "minilm"}, None),
    ],
)
def test_the_encoder_is_that_of_the_data_where_the_method_reads_texts(
    kind: type[SASRec], settings: dict[str, Any], encoder: str | None
) -> None:
    assert encoder_of(kind(num_items=4, max_history=2, width=4), settings) == encoder


def test_leakage_is_that_of_the_users_who_were_trained_on(root: Path) -> None:
    whole, few = (SequenceDataModule("synthetic", str(root), scenario=name) for name in ("overall", "few-shot-5"))
    known = whole.manifest.splits["leave_one_out"]["leakage"]
    assert leakage_of(whole) == known > (leakage_of(few) or 1.0), "the last event of all is not one of theirs"
    whole.keep_training("few-shot-5")
    assert leakage_of(whole) == leakage_of(few)
    whole.trained_elsewhere = True
    assert leakage_of(whole) is None


def test_leakage_is_that_of_the_users_who_are_tested(root: Path) -> None:
    data = SequenceDataModule("synthetic", str(root), test_users=7)
    cases = torch.cat([batch["case_id"] for batch in data.test_dataloader()[0]])
    events = data.events
    users, positions = (events["test"][name][cases] for name in ("user", "position"))
    assert len(users) == 7
    times, offsets = events["sequences"]["times"], events["sequences"]["offsets"]
    last = max(
        int(times[start:end].max()) for start, end in zip(offsets, events["train_end"], strict=False) if start < end
    )
    late = [int(times[position]) < last for position in positions]
    assert leakage_of(data) == pytest.approx(sum(late) / 7)


def test_the_commit_is_that_of_the_code_and_not_of_a_project_that_it_is_installed_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for command in (
        ["init", "-q"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "b", "--allow-empty"],
    ):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    installed = tmp_path / "environment.py"
    installed.touch()
    monkeypatch.setattr(environment, "__file__", str(installed))
    assert environment.code_revision() == {"sha": None, "dirty": None}
    subprocess.run(["git", "add", installed.name], cwd=tmp_path, check=True)
    assert environment.code_revision()["dirty"]
