"""``recbench analyse``: what an LRD run has learnt about relations, as JSON, pictures and a page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from benchmarks.cli import write
from benchmarks.evaluate import load_run
from benchmarks.html.relations import draw, page
from benchmarks.runs import read_result, write_atomically
from common.data.datasets import EvaluationDataset
from common.errors import UserError, at_least
from common.types import PAD
from lrd.agreement import agreement
from lrd.analysis import (
    compositions,
    cosines,
    explain,
    history_pairs,
    infer,
    projection,
    relation_names,
    training_pairs,
)
from lrd.data import RelationalDataModule
from lrd.discovery import entropy
from lrd.module import LRD
from lrd.spread import spread_of

FOLDER = "analysis"


def analyse(
    run: Path,
    *,
    root: Path | None = None,
    out: Path | None = None,
    examples: int = 10,
    users: int = 10,
    resamples: int = 200,
    seed: int = 0,
) -> None:
    """Analyses the relations of a finished LRD run; writes JSON, PNG and HTML.

    Args:
        run: Run folder.
        root: Folder of the stores, if it is not the run's own.
        out: Folder for the results; ``analysis`` in the run folder when omitted.
        examples: How many of the most confident item pairs to show for each latent relation.
        users: How many users get their first recommendation explained.
        resamples: Random halves behind the intervals of the agreement with the true relations (synthetic data).
        seed: Seed of explained users, random pairs, clusters and resamples.
    """
    at_least(1, "", users=users)
    at_least(0, "", examples=examples, resamples=resamples)
    module, model = load_run(run, root)
    if not isinstance(model, LRD) or not isinstance(module, RelationalDataModule):
        raise UserError(
            f"{run} is not a run of LRD, RCF or KDA.", "Name one, for example from the suite lrd-synthetic."
        )
    names = relation_names(module.graph, model.backbone.relations.size(0))
    vectors = model.backbone.relations.detach()
    result = read_result(run)
    found: dict[str, Any] = {
        "run": result.run_id,
        "dataset": result.dataset,
        "method": result.method,
        "seed": result.seed,
        "relations": names,
        "cosines": cosines(vectors).tolist(),
        "projection": projection(vectors).tolist(),
        "explanations": explanations(model, module, names, users, seed),
    }
    if model.discovery is not None and model.spread is not None:
        found |= discovered(model, module, names, examples, seed)
        truth = module.store.truth()
        if truth:
            found["agreement"] = against_truth(model, module, truth, resamples, seed)
    folder = out or run / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    pictures = draw(found)
    for name, picture in pictures.items():
        (folder / f"{name}.png").write_bytes(picture)
    write_atomically(folder / "analysis.json", json.dumps(found, indent=2, ensure_ascii=False))
    write_atomically(folder / "index.html", page(found, pictures))
    write(f"{folder / 'index.html'}")


def discovered(
    model: LRD, module: RelationalDataModule, names: Sequence[str], examples: int, seed: int
) -> dict[str, Any]:
    """Shares, examples and two-hop compositions of the relations inferred for all test pairs.

    A relation that is not the most probable one of any pair is *dead*; the probabilities of its examples tell.
    """
    assert model.discovery is not None
    pairs = history_pairs(module.events["sequences"], module.events["test"], module.max_history)
    probabilities = infer(model.discovery, pairs, model.backbone.entities)
    labels = probabilities.argmax(1)
    counts = torch.bincount(labels, minlength=len(names))
    titles, first = module.catalogue["titles"], len(module.graph.relations)
    confident = {
        names[relation]: best_pairs(pairs, probabilities[:, relation], titles, examples)
        for relation in range(first, len(names))
    }
    return {
        "pairs": len(pairs),
        **spread_of(entropy(probabilities).sum(), counts),
        "dead": [name for name, count in zip(names, counts.tolist(), strict=True) if not count],
        "shares": dict(zip(names, (counts / len(pairs)).tolist(), strict=True)),
        "mean_probability": dict(zip(names, probabilities.mean(0).tolist(), strict=True)),
        "most_confident": confident,
        "two_hops": compositions(module.catalogue, pairs, labels, list(names), seed),
    }


def best_pairs(
    pairs: Int[Tensor, "m 2"], probability: Float[Tensor, "m"], titles: Sequence[str], count: int
) -> list[dict[str, Any]]:
    """The pairs to which a relation gives the highest probability, with titles."""
    values, rows = probability.topk(min(count, len(pairs)))
    return [
        {"head": titles[head], "tail": titles[tail], "probability": value}
        for (head, tail), value in zip(pairs[rows].tolist(), values.tolist(), strict=True)
    ]


def explanations(
    model: LRD, module: RelationalDataModule, names: Sequence[str], users: int, seed: int
) -> list[dict[str, Any]]:
    """Why some test users get their first recommendation: its strongest link to an item of their history, if any."""
    dataset = module.case_loader("test", "full").dataset
    assert isinstance(dataset, EvaluationDataset)
    chosen = torch.randperm(len(dataset.rows), generator=torch.Generator().manual_seed(seed))[:users]
    batch = dataset.batch_of(dataset.rows[chosen])
    with torch.inference_mode():
        items = model.recommend(batch)["items"][:, 0]
    tokens, titles = module.store.user_tokens(), module.catalogue["titles"]
    linked = (batch["history"] != PAD).any(1).tolist()
    rows = zip(batch["user_id"].tolist(), items.tolist(), explain(model, batch, items), linked, strict=True)
    return [
        {
            "user": tokens[user - 1],
            "recommended": titles[item],
            "relation": names[link.relation],
            "because_of": titles[link.item],
            "strength": link.strength,
        }
        for user, item, link, has_history in rows
        if has_history
    ]


def against_truth(
    model: LRD, module: RelationalDataModule, truth: dict[str, Tensor], resamples: int, seed: int
) -> dict[str, dict[str, float]]:
    """Agreement with a synthetic world, on held-out pairs that no training history contains in either order."""
    train, width = module.catalogue["train"], module.num_items + 1
    known = training_pairs(train, module.num_items, int(train["offsets"].diff().max()))
    events = module.events
    cases = (events["val"], events["test"])
    held_out = torch.cat([history_pairs(events["sequences"], part, module.max_history) for part in cases])
    pairs = torch.unique(held_out, dim=0)
    # A pair that training saw in the opposite order counts as seen.
    directions = (pairs[:, 0] * width + pairs[:, 1], pairs[:, 1] * width + pairs[:, 0])
    unseen = pairs[~torch.isin(directions[0], known) & ~torch.isin(directions[1], known)]
    trained = torch.stack([known.div(width, rounding_mode="floor"), known % width], dim=1)
    return agreement(model, truth, unseen, trained, resamples, seed)
