"""How well discovered relations agree with the true ones of a synthetic world, and with what to compare that."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_mutual_info_score
from torch import Tensor

from common.data.synthetic import true_relation
from lrd.analysis import infer
from lrd.discovery import LatentRelationDiscovery
from lrd.module import LRD

Labels = NDArray[np.int64]
_PROBED = 20_000


def adjusted_mutual_information(
    truth: Labels, found: Labels, groups: Labels, resamples: int = 200, seed: int = 0
) -> dict[str, float]:
    """Adjusted mutual information of two labellings, with a 95 % interval.

    The interval is the estimate ± 1.96 times the standard deviation over random halves of the groups (delete-half
    jackknife): pairs of one target are not independent. A bootstrap draws pairs twice, which agree with themselves,
    and so would overstate the information.

    Source: N. X. Vinh, J. Epps, J. Bailey, "Information Theoretic Measures for Clusterings Comparison", JMLR 2010,
    https://jmlr.org/papers/v11/vinh10a.html. It is 0 in expectation for independent labels, 1 for equal partitions.

    >>> adjusted_mutual_information(np.array([0, 0, 1, 1]), np.array([7, 7, 3, 3]), np.arange(4), resamples=0)
    {'ami': 1.0}
    """
    estimate = float(adjusted_mutual_info_score(truth, found))
    if not resamples:
        return {"ami": estimate}
    rng = np.random.default_rng(seed)
    names, group = np.unique(groups, return_inverse=True)
    halves = [np.isin(group, rng.permutation(len(names))[: len(names) // 2]) for _ in range(resamples)]
    margin = 1.96 * float(np.std([adjusted_mutual_info_score(truth[half], found[half]) for half in halves]))
    return {"ami": estimate, "low": estimate - margin, "high": estimate + margin}


def agreement(
    model: LRD,
    truth: dict[str, Tensor],
    pairs: Int[Tensor, "m 2"],
    trained_pairs: Int[Tensor, "t 2"],
    resamples: int = 200,
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """Agreement of the most probable relation of each pair with the true one, and of its controls.

    ``discovered`` is compared with its own labels permuted (``permuted``), k-means on the concatenated item vectors of
    a pair with as many clusters as there are relations (``k_means``), the classifier before training (``untrained``),
    and a logistic regression on the same vectors that saw the true relations of training pairs (``probe``, the
    ceiling of what a linear map can read from them; left out where training pairs are related in one way only).
    Nothing where the pairs themselves are.

    Args:
        model: A trained LRD with discovery.
        truth: What the world says of its items.
        pairs: Item pairs that no training history holds; only those that are related in truth count.
        trained_pairs: Pairs of training histories, for the probe.
        resamples: Random halves behind each interval.
        seed: Seed of everything random.
    """
    assert model.discovery is not None
    related, labels = related_pairs(truth, pairs)
    if len(set(labels.tolist())) < 2:
        # One relation, or none, as in a world of taste alone: there is nothing to agree about.
        return {}
    vectors = pair_vectors(model, related)
    clusters = model.backbone.relations.size(0)
    rng = np.random.default_rng(seed)
    found = infer(model.discovery, related, model.backbone.entities).argmax(1).numpy()
    k_means = KMeans(min(clusters, len(related)), n_init=3, random_state=seed).fit_predict(vectors).astype(np.int64)
    labellings = {
        "discovered": found,
        "permuted": rng.permutation(found),
        "k_means": k_means,
        "untrained": infer(untrained(model.discovery, seed), related, model.backbone.entities).argmax(1).numpy(),
    }
    targets = related[:, 1].numpy()
    read = probe(model, truth, trained_pairs, vectors, seed)
    if read is not None:
        labellings["probe"] = read
    return {
        name: adjusted_mutual_information(labels, values, targets, resamples, seed) | {"pairs": float(len(labels))}
        for name, values in labellings.items()
    }


def related_pairs(truth: dict[str, Tensor], pairs: Int[Tensor, "m 2"]) -> tuple[Int[Tensor, "k 2"], Labels]:
    """The pairs that are related in truth, and how."""
    arrays = {name: value.numpy() for name, value in truth.items()}
    labels = true_relation(arrays, pairs[:, 0].numpy(), pairs[:, 1].numpy()).astype(np.int64)
    return pairs[torch.from_numpy(labels > 0)], labels[labels > 0]


def pair_vectors(model: LRD, pairs: Int[Tensor, "m 2"]) -> NDArray[np.float32]:
    """Concatenated vectors of both items, of the kind that the extractor reads, shape ``(m, 2w)``."""
    assert model.discovery is not None
    text = model.discovery.vectors == "text"
    table: Float[Tensor, "n w"] = model.discovery.language if text else model.backbone.entities.weight.detach()
    vectors: NDArray[np.float32] = table[pairs].flatten(1).cpu().numpy()
    return vectors


def untrained(discovery: LatentRelationDiscovery, seed: int = 0) -> LatentRelationDiscovery:
    """A copy with the weights that training starts from."""
    fresh = copy.deepcopy(discovery)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for parameter in fresh.parameters():
            torch.nn.init.normal_(parameter, std=0.01)
    return fresh


def probe(
    model: LRD, truth: dict[str, Tensor], trained: Int[Tensor, "t 2"], vectors: NDArray[np.float32], seed: int
) -> Labels | None:
    """Labels that a logistic regression, fitted on true relations of training pairs, gives to ``vectors``.

    ``None`` where those pairs are related in one way only, so that there is nothing to tell apart.
    """
    kept = torch.randperm(len(trained), generator=torch.Generator().manual_seed(seed))[:_PROBED]
    known, labels = related_pairs(truth, trained[kept])
    if len(set(labels.tolist())) < 2:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        regression = LogisticRegression(max_iter=200, C=10.0).fit(pair_vectors(model, known), labels)
    predicted: Labels = regression.predict(vectors)
    return predicted
