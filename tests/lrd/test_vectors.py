"""Item vectors and their controls."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from common.errors import UserError
from lrd.vectors import Vectors, item_vectors, tfidf

TEXTS = ["red pen", "blue pen", "", "red paper", "blue paper", "green desk lamp"]


class Letters:
    """Counts letters."""

    identity = {"kind": "letters"}

    def encode(self, texts: Sequence[str]) -> Tensor:
        return torch.tensor([[float(text.count(letter)) for letter in "abcdefghijkl"] for text in texts])


def vectors(tmp_path: Path, kind: Vectors) -> Tensor:
    return item_vectors(Letters(), TEXTS, tmp_path, kind)


def test_row_zero_is_padding_and_items_without_text_get_the_mean(tmp_path: Path) -> None:
    found = vectors(tmp_path, "text")
    known = [0, 1, 3, 4, 5]
    expected = Letters().encode(TEXTS)
    assert not found[0].any()
    assert torch.equal(found[1:][known], expected[known])
    torch.testing.assert_close(found[3], expected[known].mean(0))


@pytest.mark.parametrize("kind", ["centred", "random", "permuted", "tfidf"])
def test_controls_have_shape_and_mean_length_of_the_vectors(kind: Vectors, tmp_path: Path) -> None:
    found, control = vectors(tmp_path, "text"), vectors(tmp_path, kind)
    assert control.shape == found.shape
    assert not torch.equal(control, found)
    lengths = control[1:].norm(dim=1)
    torch.testing.assert_close(lengths[lengths > 0].mean(), found[1:].norm(dim=1).mean())


@pytest.mark.parametrize("kind", ["random", "tfidf"])
def test_items_without_text_have_the_direction_of_the_mean_in_controls_too(kind: Vectors, tmp_path: Path) -> None:
    texts = ["", *TEXTS]
    first, *told, second = item_vectors(Letters(), texts, tmp_path, kind)[[1, 2, 3, 5, 6, 7, 4]]
    assert torch.equal(first, second)
    torch.testing.assert_close(first.norm(), told[0].norm())
    direction = torch.nn.functional.cosine_similarity(first, torch.stack(told).mean(0), dim=0)
    assert float(direction) > 0.95


def test_centred_vectors_have_no_common_part(tmp_path: Path) -> None:
    found, centred = vectors(tmp_path, "text")[1:], vectors(tmp_path, "centred")[1:]
    assert not centred[2].abs().gt(1e-5).any(), "an item without text says nothing"
    difference = found - found.mean(0)
    cosines = torch.nn.functional.cosine_similarity(centred, difference)
    torch.testing.assert_close(cosines[[0, 1, 3, 4, 5]], torch.ones(5))


def test_permuted_vectors_are_the_same_ones_elsewhere(tmp_path: Path) -> None:
    found, control = vectors(tmp_path, "text"), vectors(tmp_path, "permuted")
    assert sorted(map(tuple, found.tolist())) == sorted(map(tuple, control.tolist()))


def test_tfidf_brings_texts_with_common_words_together() -> None:
    red_pen, blue_pen, red_paper, lamp = tfidf(["red pen", "blue pen", "red paper", "green desk lamp"], 8)
    assert red_pen @ blue_pen > 10 * abs(red_pen @ lamp)
    assert red_pen @ red_paper > 10 * abs(red_pen @ lamp)


def test_items_without_text_are_counted_and_named(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="1 of 6 items have no text .* the first is item 3"):
        vectors(tmp_path, "text")


@pytest.mark.parametrize("kind", ["text", "tfidf"])
def test_a_catalogue_without_any_text_is_refused(kind: Vectors, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No item has a text"):
        item_vectors(Letters(), ["", " "], tmp_path, kind)
    with pytest.raises(UserError, match="No item has a text"):
        tfidf(["a", "?"], 3)


@pytest.mark.parametrize("texts", [["red pen"], ["pen", "pen"]])
def test_one_item_or_one_word_is_too_little_for_tfidf(texts: list[str]) -> None:
    with pytest.raises(UserError, match="one item or one word"):
        tfidf(texts, 3)
