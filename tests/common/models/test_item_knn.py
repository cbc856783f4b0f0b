from typing import Any

import numpy as np
import pytest
import torch

from common.errors import UserError
from common.models import item_knn
from common.models.item_knn import ItemKNN, cosine_neighbours, history_matrix, user_item_matrix
from common.types import Catalogue, Sequences
from tests.common.models import toy
from tests.common.models.cases import ModelCases


class TestItemKNN(ModelCases):
    model = ItemKNN
    arguments = {"shrink": 1.0, "decay": 0.8}


def _sequences(rows: list[list[int]]) -> Sequences:
    lengths = torch.tensor([0, *(len(row) for row in rows)])
    items = torch.tensor([item for row in rows for item in row])
    return {"offsets": torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)]), "items": items, "times": items}


def _catalogue(rows: list[list[int]], num_items: int) -> Catalogue:
    train = _sequences(rows)
    return {
        "num_items": num_items,
        "num_users": len(rows),
        "train": train,
        "train_count": torch.bincount(train["items"], minlength=num_items + 1),
    }


@pytest.mark.parametrize(("shrink", "expected"), [(0.0, (0.8165, 0.8165, 1.3165)), (1.0, (0.5798, 0.5798, 0.9131))])
def test_worked_example(shrink: float, expected: tuple[float, ...]) -> None:
    model = ItemKNN(3, shrink=shrink)
    model.attach(_catalogue([[1, 2], [1, 2, 3], [2, 3]], 3))
    scores = model.score_catalogue({"history": torch.tensor([[1, 2]])})
    assert [round(score, 4) for score in scores[0, 1:].tolist()] == list(expected)


def _dense_similarity(matrix: np.ndarray, neighbours: int, shrink: float) -> np.ndarray:
    norms = np.sqrt((matrix**2).sum(0))
    similarity = matrix.T @ matrix / (np.outer(norms, norms) + shrink + 1e-6)
    np.fill_diagonal(similarity, 0)
    for column in similarity.T:
        column[np.argsort(-column, kind="stable")[neighbours:]] = 0
    return np.asarray(similarity)


@pytest.mark.parametrize(("neighbours", "block"), [(4, 1 << 24), (4, 50), (100, 1)])
def test_neighbours_agree_with_dense_arithmetic(neighbours: int, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(item_knn, "_BLOCK_NONZEROS", block)
    rng = np.random.default_rng(0)
    rows = [(rng.choice(20, size=6, replace=False) + 1).tolist() for _ in range(30)]
    matrix = user_item_matrix(_sequences(rows), 20)
    found = cosine_neighbours(matrix, neighbours, shrink=2.0).toarray()
    np.testing.assert_allclose(found, _dense_similarity(matrix.toarray(), neighbours, 2.0), atol=1e-6)
    assert (found == found.T).all() == (neighbours == 100)


def test_repeated_events_count_once() -> None:
    matrix = user_item_matrix(_sequences([[2, 2, 1], [2]]), 2)
    assert matrix.toarray().tolist() == [[0, 0, 0], [0, 1, 1], [0, 0, 1]]


def test_history_is_weighted_by_steps_back_from_the_newest() -> None:
    history = torch.tensor([[0, 3, 1, 3], [0, 0, 0, 0]])
    assert history_matrix(history, 3, decay=0.5).toarray().tolist() == [[0, 0.5, 0, 1.0], [0, 0, 0, 0]]


def test_only_decay_reads_the_order() -> None:
    assert ItemKNN(toy.NUM_ITEMS).information_set == {"history"}
    assert ItemKNN(toy.NUM_ITEMS, decay=0.9).information_set == {"order"}


@pytest.mark.parametrize("arguments", [{"neighbours": 0}, {"shrink": -1.0}, {"decay": -0.5}])
def test_arguments_without_meaning_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=rf"--model.{next(iter(arguments))} is "):
        ItemKNN(3, **arguments)
