"""Item-kNN: neighbours of the history by cosine of co-occurrence."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from scipy import sparse
from torch import Tensor

from common.errors import at_least
from common.models.closed_form import ClosedFormRecommender
from common.types import Catalogue, SequenceBatch, Sequences

_BLOCK_NONZEROS = 1 << 24


def user_item_matrix(train: Sequences, num_items: int) -> sparse.csr_array:
    """Binary matrix of the items in each user's training events, shape ``(num_users + 1, num_items + 1)``."""
    offsets, items = train["offsets"].cpu().numpy(), train["items"].cpu().numpy()
    # Summing duplicates sorts and shortens the arrays in place, which must not be the catalogue's.
    matrix = sparse.csr_array(
        (np.ones(len(items), np.float32), items, offsets), shape=(len(offsets) - 1, num_items + 1), copy=True
    )
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    return matrix


def cosine_neighbours(matrix: sparse.csr_array, neighbours: int, shrink: float) -> sparse.csr_array:
    """Item similarities, only the largest of each column: entry ``(j, i)`` is what ``j`` in a history adds to ``i``.

    Computed in blocks of columns with a bounded number of products.

    Args:
        matrix: Binary, shape ``(users, items)``.
        neighbours: Entries kept in each column.
        shrink: Added to the product of norms, so that similarities of rare items shrink.
    """
    by_item = matrix.T.tocsr()
    norms = np.sqrt(np.asarray(by_item.sum(axis=1))).ravel()
    products = np.cumsum(by_item @ np.asarray(matrix.sum(axis=1)).ravel(), dtype=np.float64)
    cuts = np.searchsorted(products, np.arange(_BLOCK_NONZEROS, products[-1] + _BLOCK_NONZEROS, _BLOCK_NONZEROS))
    edges = np.unique(np.concatenate([[0], cuts, [matrix.shape[1]]]))
    blocks = []
    for start, end in pairwise(edges):
        near = sparse.coo_array(by_item[start:end] @ matrix)
        data = near.data / (norms[start + near.row] * norms[near.col] + shrink + 1e-6)
        order = np.lexsort((near.col, -data, near.row))
        order = order[near.col[order] != near.row[order] + start]
        rows = near.row[order]
        place = np.arange(len(rows)) - np.searchsorted(rows, rows)
        kept = order[place < neighbours]
        blocks.append(sparse.csr_array((data[kept], (near.row[kept], near.col[kept])), shape=near.shape))
    return sparse.vstack(blocks).T.tocsr()


def history_matrix(history: Tensor, num_items: int, decay: float = 1.0) -> sparse.csr_array:
    """Items of each history weighted by ``decay`` per step back from the newest, shape ``(b, num_items + 1)``.

    An item that occurs several times counts with its newest occurrence.
    """
    items = history.cpu().numpy()
    rows, columns = items.nonzero()
    weights = decay ** (items.shape[1] - 1.0 - columns)
    order = np.lexsort((-columns, items[rows, columns], rows))
    keys = rows[order] * (num_items + 1) + items[rows, columns][order]
    first = order[np.unique(keys, return_index=True)[1]]
    entries = (weights[first].astype(np.float32), (rows[first], items[rows[first], columns[first]]))
    return sparse.csr_array(entries, shape=(len(items), num_items + 1))


class ItemKNN(ClosedFormRecommender):
    """Scores an item by its similarity to the items of the history.

    ``s(i, j) = r_i · r_j / (‖r_i‖ ‖r_j‖ + shrink + 1e-6)`` for columns ``r`` of the user-item matrix, 0 on the
    diagonal, only the ``neighbours`` largest kept for each scored item; ``score(i) = Σ_j decay^steps(j) · s(j, i)``
    over the history.

    Sarwar, Karypis, Konstan, Riedl: "Item-based Collaborative Filtering Recommendation Algorithms", WWW 2001,
    https://doi.org/10.1145/371920.372071; Deshpande, Karypis, TOIS 2004, https://doi.org/10.1145/963770.963776; the
    form with shrink as in Dacrema, Cremonesi, Jannach, RecSys 2019, https://arxiv.org/abs/1907.06902.

    Similarities come from training events only; the history is the one that the model is given, which at test
    includes the validation item. Recency weighting (``decay`` below 1) is an addition to the standard method.

    Args:
        num_items: Number of items.
        neighbours: Neighbours kept for each item (the ``k`` of kNN).
        shrink: Shrinkage of similarities of rare items.
        decay: Weight of a history event relative to the next newer one.
    """

    def __init__(self, num_items: int, neighbours: int = 50, shrink: float = 100.0, decay: float = 1.0) -> None:
        at_least(1, neighbours=neighbours)
        at_least(0, shrink=shrink, decay=decay)
        super().__init__(num_items)
        self.save_hyperparameters()
        self.neighbours = neighbours
        self.shrink = shrink
        self.decay = decay
        self.information_set = frozenset({"history"} if decay == 1 else {"order"})

    def attach(self, catalogue: Catalogue) -> None:
        """Computes similarities from training events."""
        super().attach(catalogue)
        matrix = user_item_matrix(catalogue["train"], self.num_items)
        self.similarity = cosine_neighbours(matrix, self.neighbours, self.shrink)

    def score_catalogue(self, batch: SequenceBatch) -> Float[Tensor, "b i_plus_1"]:
        """Sums the similarities to the history."""
        history = history_matrix(batch["history"], self.num_items, self.decay)
        return torch.from_numpy((history @ self.similarity).toarray().astype(np.float32)).to(self.device)
