"""The cache hits when nothing changed, misses when anything did, and never keeps half of it."""

import resource
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from common.errors import UserError
from common.text.cache import text_vectors


class Counting:
    """Encodes a text as its length, and counts."""

    def __init__(self, revision: str = "1", broken: bool = False, width: int = 2) -> None:
        self.identity = {"kind": "test", "revision": revision}
        self.broken = broken
        self.width = width
        self.encoded: list[str] = []

    def encode(self, texts: Sequence[str]) -> Tensor:
        self.encoded += texts
        vectors = torch.tensor([[torch.nan if self.broken else float(len(text)), 1.0] for text in texts])
        return vectors[:, : self.width]


def test_second_run_makes_no_call_and_equal_texts_are_encoded_once(tmp_path: Path) -> None:
    encoder = Counting()
    first = text_vectors(encoder, ["a", "bb", "a"], tmp_path)
    assert first[:, 0].tolist() == [1, 2, 1]
    assert encoder.encoded == ["a", "bb"]
    again = Counting()
    assert torch.equal(text_vectors(again, ["a", "bb", "a"], tmp_path), first)
    assert again.encoded == []


@pytest.mark.parametrize("texts", [["a", "bb!"], ["bb", "a"], ["a", "bb", "a"]])
def test_other_texts_miss(tmp_path: Path, texts: list[str]) -> None:
    text_vectors(Counting(), ["a", "bb"], tmp_path)
    encoder = Counting()
    assert text_vectors(encoder, texts, tmp_path)[:, 0].tolist() == [len(text) for text in texts]
    assert encoder.encoded


def test_another_revision_misses(tmp_path: Path) -> None:
    text_vectors(Counting(), ["a"], tmp_path)
    encoder = Counting(revision="2")
    text_vectors(encoder, ["a"], tmp_path)
    assert encoder.encoded == ["a"]


def test_vectors_that_do_not_fit_on_the_disk_are_used_all_the_same(tmp_path: Path) -> None:
    texts = [str(number) for number in range(1000)]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, limits[1]))
    try:
        with pytest.warns(UserWarning, match="cannot be written"):
            vectors = text_vectors(Counting(), texts, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert vectors[:, 0].tolist() == [len(text) for text in texts]
    assert not list(tmp_path.iterdir())


def test_degenerate_vectors_and_missing_texts_are_refused_and_nothing_is_cached(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="width 0"):
        text_vectors(Counting(width=0), ["a"], tmp_path)
    with pytest.raises(UserError, match="item 1 is NaN"):
        text_vectors(Counting(broken=True), ["a"], tmp_path)
    with pytest.raises(UserError, match="1 of 2 items have no text, the first is item 2"):
        text_vectors(Counting(), ["a", " "], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_broken_entry_says_that_it_may_go(tmp_path: Path) -> None:
    text_vectors(Counting(), ["a"], tmp_path)
    (entry,) = tmp_path.iterdir()
    entry.write_bytes(entry.read_bytes()[:20])
    with pytest.raises(UserError, match="cannot be read"):
        text_vectors(Counting(), ["a"], tmp_path)


def test_a_folder_that_cannot_be_written_costs_the_cache_alone(tmp_path: Path) -> None:
    (tmp_path / "root").write_text("a file where the folder would be")
    with pytest.warns(UserWarning, match="made anew next time"):
        vectors = text_vectors(Counting(), ["a"], tmp_path / "root")
    assert vectors.tolist() == [[1.0, 1.0]]
