"""What a trained LRD has learnt of relations: how they differ, where they occur, and what they would explain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from scipy import sparse
from torch import Tensor, nn

from common.data.datasets import last_events
from common.data.splits import event_users
from common.types import PAD, Cases, Catalogue, SequenceBatch, Sequences
from lrd.discovery import LatentRelationDiscovery
from lrd.graph import Graph
from lrd.module import LRD

RANDOM_PAIRS = 20_000
"""Pairs that estimate how often two items are joined by chance."""

_CHUNK = 65_536


@dataclass(frozen=True)
class Link:
    """Why a candidate suits a user: the strongest tie to an item of the history.

    Attributes:
        relation: Index of the relation.
        item: Item of the history.
        strength: Its attention weight times the match ``v_i · v_c``, before relations are mixed.
    """

    relation: int
    item: int
    strength: float


def relation_names(graph: Graph, total: int) -> list[str]:
    """Names of all relations: those of the graph, then ``latent 1``, ``latent 2`` and so on."""
    return [*graph.relations, *(f"latent {i}" for i in range(1, total - len(graph.relations) + 1))]


def history_pairs(sequences: Sequences, cases: Cases, max_history: int) -> Int[Tensor, "m 2"]:
    """Distinct (history item, target) pairs of evaluation cases, histories cut to ``max_history``."""
    position = cases["position"].long()
    start = sequences["offsets"][cases["user"].long()].long()
    history, _ = last_events(sequences, start, position, max_history)
    target = sequences["items"][position].long()[:, None].expand_as(history)
    pairs: Tensor = torch.unique(torch.stack([history, target], dim=-1)[history != PAD], dim=0)
    return pairs


def training_pairs(train: Sequences, num_items: int, max_history: int) -> Int[Tensor, "m"]:
    """Sorted keys ``head * (num_items + 1) + tail`` of all (history item, target) pairs of training."""
    items = train["items"].long()
    users = event_users(train)
    keys = [
        (items[:-lag] * (num_items + 1) + items[lag:])[users[lag:] == users[:-lag]]
        for lag in range(1, min(max_history, len(items) - 1) + 1)
    ]
    distinct: Tensor = torch.unique(torch.cat(keys))
    return distinct


@torch.inference_mode()
def infer(discovery: LatentRelationDiscovery, pairs: Int[Tensor, "m 2"], items: nn.Embedding) -> Float[Tensor, "m r"]:
    """Distribution over relations of each (history item, target) pair."""
    parts = [discovery.probabilities(part[:, :1], part[:, 1], items)[:, 0] for part in torch.split(pairs, _CHUNK)]
    return torch.cat(parts)


def cosines(relations: Float[Tensor, "r d"]) -> Float[Tensor, "r r"]:
    """Cosine of every two relation vectors."""
    unit = F.normalize(relations.detach(), dim=1)
    return unit @ unit.T


def projection(relations: Float[Tensor, "r d"]) -> Float[Tensor, "r 2"]:
    """Coordinates on the first two principal components."""
    centred = relations.detach() - relations.detach().mean(0)
    left, values, _ = torch.linalg.svd(centred, full_matrices=False)
    return F.pad(left * values, (0, max(0, 2 - len(values))))[:, :2]


def neighbours(edges: Int[Tensor, "m 2"], num_items: int) -> sparse.csr_matrix:
    """Symmetric adjacency of items, in either direction of an edge."""
    heads, tails = torch.cat([edges, edges.flip(1)]).T.numpy()
    shape = (num_items + 1, num_items + 1)
    return sparse.csr_matrix(([True] * len(heads), (heads, tails)), shape=shape, dtype=bool)


def two_hops(first: sparse.csr_matrix, second: sparse.csr_matrix, pairs: Int[Tensor, "m 2"]) -> Bool[Tensor, "m"]:
    """Whether some item is a neighbour of the pair's head in ``first`` and of its tail in ``second``."""
    parts = [
        torch.from_numpy(first[part[:, 0].numpy()].multiply(second[part[:, 1].numpy()]).getnnz(axis=1) > 0)
        for part in torch.split(pairs, _CHUNK)
    ]
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.bool)


def random_pairs(count: int, num_items: int, generator: torch.Generator) -> Int[Tensor, "m 2"]:
    """Pairs of two different items, uniform."""
    heads = torch.randint(num_items, (count,), generator=generator)
    tails = torch.randint(num_items - 1, (count,), generator=generator)
    return torch.stack([heads, tails + (tails >= heads)], dim=1) + 1


def degree_matched(
    pairs: Int[Tensor, "m 2"], degrees: Int[Tensor, "i_plus_1"], generator: torch.Generator
) -> Int[Tensor, "m 2"]:
    """Random pairs of two items with about the degrees of the given ones: neighbours by rank, within 2.5 %."""
    order = degrees[1:].argsort(stable=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order))
    width, last = max(1, len(order) // 40), len(order) - 1
    shift = torch.randint(-width, width + 1, pairs.shape, generator=generator)
    heads, tails = (rank[pairs - 1] + shift).clamp(0, last).unbind(1)
    # A tail that met its head goes one rank on, or back where it has gone on already.
    beside = torch.where((shift[:, 1] > 0) | (tails == last), -1, 1)
    tails = torch.where(heads == tails, tails + beside, tails)
    return order[torch.stack([heads, tails], dim=1)] + 1


def compositions(
    catalogue: Catalogue, pairs: Int[Tensor, "m 2"], labels: Int[Tensor, "m"], names: list[str], seed: int = 0
) -> list[dict[str, Any]]:
    """For each relation the share of its pairs that two predefined item relations join over a third item.

    Item relations only: a value that two items share is not a path. Edges count in both directions. There is a row for
    each relation and each two that join (``first + second``; ``any`` for whichever they are). Beside its ``share``
    stand those of random pairs (``random``) and of random pairs of items of similar degree (``degree_matched``).
    """
    num_items, generator = catalogue["num_items"], torch.Generator().manual_seed(seed)
    graphs = {name: neighbours(edges, num_items) for name, edges in catalogue["relations"].items()}
    if not graphs:
        return []
    union = neighbours(torch.cat(list(catalogue["relations"].values())), num_items)
    degrees = torch.from_numpy(union.getnnz(axis=1)).long()
    joints = {"any": (union, union)}
    joints |= {f"{one} + {other}": (graphs[one], graphs[other]) for one in graphs for other in graphs}
    drawn = random_pairs(RANDOM_PAIRS, num_items, generator)
    chance = {joint: _share(two_hops(*hops, drawn)) for joint, hops in joints.items()}
    rows: list[dict[str, Any]] = []
    for relation, name in enumerate(names):
        own = pairs[labels == relation]
        if not len(own):
            continue
        matched = degree_matched(own, degrees, generator)
        for joint, hops in joints.items():
            shares = {"share": _share(two_hops(*hops, own)), "random": chance[joint]}
            shares["degree_matched"] = _share(two_hops(*hops, matched))
            rows.append({"relation": name, "pairs": len(own), "joined_by": joint, **shares})
    return rows


def _share(which: Bool[Tensor, "m"]) -> float:
    return float(which.float().mean())


@torch.inference_mode()
def explain(model: LRD, batch: SequenceBatch, items: Int[Tensor, "b"]) -> list[Link]:
    """The strongest link between the history of each row and one candidate.

    The strength of history item ``i`` through relation ``r`` is ``ω_r(i) v_i · v_c``: what it adds to ``s_r · v_c``.
    The rounds that mix relations come after, so this explains the attention and not the whole score.
    """
    backbone = model.backbone
    candidates, history = backbone.entities(items), backbone.entities(batch["history"])
    real = batch["history"] != PAD
    queries = backbone.relation_vectors(items[:, None])[:, 0] * candidates[:, None]
    weights = (queries @ history.transpose(1, 2)).masked_fill(~real[:, None], -torch.inf).softmax(-1)
    decay = backbone.decay(batch)
    if decay is not None:
        weights = weights * decay
    strength = weights * (history @ candidates[:, :, None])[:, None, :, 0]
    strength = strength.masked_fill(~real[:, None], -torch.inf)
    best = strength.flatten(1).argmax(1)
    relation, slot = best // history.size(1), best % history.size(1)
    rows = torch.arange(len(items))
    columns = (relation, batch["history"][rows, slot], strength.flatten(1)[rows, best])
    return [Link(int(r), int(item), float(value)) for r, item, value in zip(*columns, strict=True)]
