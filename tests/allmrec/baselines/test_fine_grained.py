"""CTRL's similarity and its contrast, against loops."""

import pytest
import torch
from torch import Tensor

from allmrec.baselines.fine_grained import Contrast, FineGrained, best_matches, contrast


def sides(rows: int = 5, parts: int = 3, width: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    a, b = torch.randn(2, rows, parts, width, generator=generator, dtype=torch.float64)
    return a, b


def test_similarity_is_that_of_the_naive_loop() -> None:
    a, b = sides()
    for i in range(5):
        for j in range(5):
            wanted = sum(max(float(p @ q) for q in b[j]) for p in a[i])
            assert abs(float(best_matches(a, b)[0][i, j]) - wanted) < 1e-12


def test_one_vector_a_side_is_a_product() -> None:
    a, b = sides(parts=1)
    for similarity in best_matches(a, b):
        torch.testing.assert_close(similarity, a[:, 0] @ b[:, 0].T)


def test_the_best_match_is_not_symmetric_and_at_least_ones_own() -> None:
    a, b = sides()
    there, back = best_matches(a, b)
    assert not torch.allclose(there, back)
    torch.testing.assert_close(back, best_matches(b, a)[0].T)
    assert bool((best_matches(a, a)[0].diagonal() >= (a * a).sum((1, 2)) - 1e-12).all())


def test_bce_is_that_of_single_pairs() -> None:
    there, back = (
        sides(parts=1)[0][:, 0] @ torch.ones(4, 5).double(),
        sides(parts=1)[1][:, 0] @ torch.ones(4, 5).double(),
    )
    right, wrong = [], []
    for scores in (there, back):
        labels = torch.eye(5, dtype=torch.float64)
        losses = torch.nn.functional.binary_cross_entropy_with_logits(scores, labels, reduction="none")
        right.append(losses[labels == 1].mean())
        wrong.append(losses[labels == 0].mean())
    wanted = (right[0] + wrong[0] + right[1] + wrong[1]) / 2
    torch.testing.assert_close(contrast(there, back, "bce", 0.7), wanted)


def test_infonce_looks_along_rows_and_columns() -> None:
    there, back = best_matches(*sides())
    rows = -(there / 0.7).log_softmax(1).diagonal().mean()
    columns = -(back / 0.7).log_softmax(0).diagonal().mean()
    torch.testing.assert_close(contrast(there, back, "infonce", 0.7), (rows + columns) / 2)


@pytest.mark.parametrize("kind", ["infonce", "bce"])
def test_right_pairs_cost_less_than_wrong_ones(kind: Contrast) -> None:
    right = 4 * torch.eye(6)
    wrong = right.roll(1, 0)
    assert contrast(right, right, kind, 0.7) < contrast(wrong, wrong, kind, 0.7)


def test_chunks_are_summed_and_a_single_pair_left_out() -> None:
    torch.manual_seed(0)
    module, states, texts = FineGrained(3, 6, 4, 2), torch.randn(5, 3), torch.randn(5, 6)
    parts = [module.loss(states[i : i + 2], texts[i : i + 2], "infonce", 0.7) for i in (0, 2)]
    torch.testing.assert_close(module.loss(states, texts, "infonce", 0.7, chunk=2), parts[0] + parts[1])
    assert float(module.loss(states[:1], texts[:1], "bce", 0.7)) == 0.0
