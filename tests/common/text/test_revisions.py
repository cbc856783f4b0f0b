"""Which model a name stands for: the files of a folder, or a commit of the hub."""

from pathlib import Path

import pytest

from common.errors import UserError
from common.text.encoders import SentenceEncoder
from common.text.revisions import revision
from tests.fixtures.hub import COMMIT, cached


def test_identity_of_a_folder_holds_its_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "spiece.model").write_text("one")
    before = revision(str(tmp_path))
    (tmp_path / "spiece.model").write_text("two")
    assert revision(str(tmp_path)) != before


@pytest.mark.parametrize("configuration", ["config.json", "modules.json"])
def test_a_sentence_model_may_be_named_without_its_organisation(
    configuration: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / configuration).write_text("{}")
    cached(model, "sentence-transformers/tiny", tmp_path, monkeypatch)
    short, full = (SentenceEncoder(name).identity for name in ("tiny", "sentence-transformers/tiny"))
    assert short == full == {"kind": "sbert", "model": "sentence-transformers/tiny", "revision": COMMIT}


def test_a_name_that_is_nowhere_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name in ("absent", "of/absent", "/of/the/absent"):
        with pytest.raises(UserError, match="absent' cannot be loaded"):
            _ = SentenceEncoder(name).identity
