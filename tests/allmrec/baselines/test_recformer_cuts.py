"""What RecFormer contrasts: histories cut before their targets, and the loss beside a loop."""

import pytest
import torch
import torch.nn.functional as F

from allmrec.baselines.recformer_cuts import contrastive_loss, cut


def test_contrast_is_that_of_a_loop() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(2, 4, 6)
    terms = []
    for i in range(4):
        scores = torch.stack([F.cosine_similarity(a[i], b[j], dim=0) / 0.05 for j in range(4)])
        terms.append(scores.logsumexp(0) - scores[i])
    torch.testing.assert_close(contrastive_loss(a, b, 0.05), torch.stack(terms).mean())


def test_rows_of_the_same_item_are_no_negatives() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(2, 3, 6)
    both = contrastive_loss(a, b, 0.05, torch.tensor([4, 4, 5]))
    firsts = [F.normalize(a[row], dim=0) @ F.normalize(b[[row, 2]], dim=1).T / 0.05 for row in (0, 1)]
    last = F.normalize(a[2], dim=0) @ F.normalize(b, dim=1).T / 0.05
    wanted = sum(scores.logsumexp(0) - scores[0] for scores in firsts) + last.logsumexp(0) - last[2]
    torch.testing.assert_close(both, wanted / 3)


@pytest.mark.parametrize("later_half", [False, True])
@pytest.mark.parametrize("count", [1, 3])
def test_targets_follow_their_histories(later_half: bool, count: int) -> None:
    events = torch.tensor([[0, 0, 11, 12, 13], [21, 22, 23, 24, 25]])
    reached: dict[int, set[int]] = {1: set(), 2: set()}
    for seed in range(60):
        torch.manual_seed(seed)
        history, target = cut(events[:, :-1], events[:, 1:].masked_fill(events[:, :-1] == 0, 0), count, later_half)
        drawn = list(zip(history.tolist(), target.tolist(), strict=True))
        assert len({last for _, last in drawn}) == len(drawn)
        for past, last in drawn:
            assert [item for item in past if item] == list(range(10 * (last // 10) + 1, last))
            reached[last // 10].add(last)
        if not later_half:
            assert [last // 10 for _, last in drawn] == [1] * min(count, 2) + [2] * count
    assert reached == ({1: {12, 13}, 2: {23, 24, 25}} if later_half else {1: {12, 13}, 2: {22, 23, 24, 25}})
