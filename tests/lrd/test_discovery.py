"""Both formulations of the discovery loss against loops written from the equations."""

import math

import pytest
import torch
from torch import Tensor, nn

from common.errors import UserError
from lrd.discovery import LatentRelationDiscovery, entropy, paper_loss, released_loss

B, L, R, D = 3, 4, 5, 6
MASK = torch.tensor([[False, True, True, True], [True] * 4, [False, False, False, True]])


def inputs() -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    q = torch.randn(B, L, R).double().softmax(-1)
    relations, target = torch.randn(R, D).double(), torch.randn(B, D).double()
    return q, relations, torch.randn(B, L, D).double(), torch.randn(B, L, D).double(), target, MASK


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x))


def test_paper_loss_is_the_negated_bound_of_every_pair() -> None:
    q, relations, history, negatives, target, mask = inputs()
    pairs = []
    for b, i in mask.nonzero().tolist():
        bound = 0.0
        for r in range(R):
            positive = float(history[b, i] * relations[r] @ target[b])
            negative = float(negatives[b, i] * relations[r] @ target[b])
            probability = float(q[b, i, r])
            bound += probability * (log_sigmoid(positive) + log_sigmoid(-negative))
            bound += 0.3 * -probability * math.log(probability)
        pairs.append(-bound)
    loss = paper_loss(q, relations, history, negatives, target, mask, 0.3)
    assert math.isclose(float(loss), sum(pairs) / B, rel_tol=1e-12)


def test_released_loss_takes_the_log_of_the_mean_and_penalises_entropy() -> None:
    q, relations, history, negatives, target, mask = inputs()
    terms = []
    for b in range(B):
        for r in range(1, R):
            inside = []
            for i in mask[b].nonzero()[:, 0].tolist():
                relation = float(q[b, i, r]) * relations[r]
                scores = [
                    float(h * relation @ target[b] + h @ relation + target[b] @ relation)
                    for h in (history[b, i], negatives[b, i])
                ]
                inside.append(1 / (1 + math.exp(scores[1] - scores[0])))
            terms.append(-math.log(sum(inside) / len(inside)))
    entropy = float((-q * q.log()).mean())
    loss = released_loss(q, relations, history, negatives, target, mask, 0.3, skip_virtual=True)
    assert math.isclose(float(loss), sum(terms) / len(terms) + 0.3 * entropy, rel_tol=1e-12)


def test_a_history_of_one_event_that_is_reconstructed_very_badly_has_a_finite_loss() -> None:
    one, mask = torch.ones(1, 1, 1), torch.ones(1, 1, dtype=torch.bool)
    relation = torch.full((1, 1), -100.0, requires_grad=True)
    loss = released_loss(one, relation, one, 0 * one, one[0], mask, 0.0, skip_virtual=False)
    loss.backward()
    assert float(loss.detach()) == 200
    assert relation.grad is not None
    assert float(relation.grad) == -2


def test_better_reconstruction_lowers_both_losses() -> None:
    q, relations, _, _, target, mask = (value.double().abs() for value in inputs())
    near = (target[:, None] * relations.sum(0)).expand(-1, L, -1)
    good, bad = (q, relations, near, -near, target, mask.bool()), (q, relations, -near, near, target, mask.bool())
    assert paper_loss(*good, 0.1) < paper_loss(*bad, 0.1)
    assert released_loss(*good, 0.1, False) < released_loss(*bad, 0.1, False)


def test_padding_changes_nothing_in_the_paper_formulation() -> None:
    q, relations, history, negatives, target, mask = inputs()
    loss = paper_loss(q, relations, history, negatives, target, mask, 0.1)
    noise = torch.where(mask[..., None], history, torch.randn_like(history))
    torch.testing.assert_close(paper_loss(q, relations, noise, negatives, target, mask, 0.1), loss)


def test_only_small_layers_learn_from_frozen_language_vectors() -> None:
    discovery = LatentRelationDiscovery(num_latent=2)
    discovery.build(num_items=9, text_width=7, width=D, num_relations=R)
    assert {name for name, _ in discovery.named_parameters()} == {
        "project.weight", "project.bias", "classify.weight", "classify.bias"
    }  # fmt: skip
    assert discovery.state_dict().keys() == dict(discovery.named_parameters()).keys()


def test_without_language_vectors_the_items_own_vectors_are_read() -> None:
    discovery = LatentRelationDiscovery(vectors="id")
    discovery.build(num_items=9, text_width=0, width=D, num_relations=R)
    items, history = nn.Embedding(10, D), torch.tensor([[1, 2]])
    before = discovery.probabilities(history, torch.tensor([3]), items)
    nn.init.normal_(items.weight)
    assert not torch.allclose(discovery.probabilities(history, torch.tensor([3]), items), before)


@pytest.mark.parametrize("num_items", [9, 90])
def test_probabilities_are_those_of_concatenated_pairs(num_items: int) -> None:
    discovery = LatentRelationDiscovery()
    discovery.build(num_items, text_width=7, width=D, num_relations=R)
    for value in (*discovery.parameters(), discovery.language):
        nn.init.normal_(value)
    history, target = torch.randint(num_items, (B, L)), torch.randint(num_items, (B,))
    projected = discovery.project(discovery.language)
    pairs = torch.cat([projected[history], projected[target][:, None].expand(-1, L, -1)], dim=-1)
    expected = discovery.classify(pairs).softmax(-1)
    torch.testing.assert_close(discovery.probabilities(history, target, nn.Embedding(1, D)), expected)


def test_a_probability_of_zero_has_no_entropy_and_no_gradient() -> None:
    logits = torch.tensor([0.0, -200.0, -1.0], requires_grad=True)
    terms = entropy(logits.softmax(0)[None])
    assert float(terms[0, 1].detach()) == 0
    terms.sum().backward()
    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())


def test_the_papers_loss_leaves_no_relation_out() -> None:
    with pytest.raises(UserError, match="formulation: released"):
        LatentRelationDiscovery(formulation="paper", skip_virtual=True)


def test_the_only_relation_is_not_left_out() -> None:
    discovery = LatentRelationDiscovery(num_latent=0, formulation="released", skip_virtual=True)
    discovery.build(num_items=9, text_width=4, width=D, num_relations=2)
    with pytest.raises(UserError, match="there is no other"):
        discovery.build(num_items=9, text_width=4, width=D, num_relations=1)


def test_fewer_latent_relations_than_none_are_refused() -> None:
    with pytest.raises(UserError, match="num_latent is -1"):
        LatentRelationDiscovery(num_latent=-1)


def test_a_uniform_extractor_has_nothing_to_learn_and_needs_no_texts() -> None:
    discovery = LatentRelationDiscovery(extractor="uniform")
    discovery.build(num_items=9, text_width=0, width=D, num_relations=R)
    discovery.attach({})
    assert list(discovery.parameters()) == []
    q = discovery.probabilities(torch.tensor([[1, 2]]), torch.tensor([3]), nn.Embedding(10, D))
    torch.testing.assert_close(q, torch.full((1, 2, R), 1 / R))
