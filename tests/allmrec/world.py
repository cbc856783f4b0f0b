"""A catalogue of a few titled items, batches over it, and a small collaborative filter."""

from pathlib import Path

import torch

from allmrec.collaborative import CollaborativeFilter, JointVectors
from allmrec.sentences import PAPERS
from common.models.sasrec import SASRec
from common.types import Catalogue, SequenceBatch, Sequences
from tests.allmrec.tiny import TITLES

NUM_ITEMS, NUM_USERS, LATENT = len(TITLES) - 1, 6, 8


def catalogue() -> Catalogue:
    counts = torch.ones(NUM_ITEMS + 1, dtype=torch.long).index_fill(0, torch.zeros(1, dtype=torch.long), 0)
    offsets = torch.tensor([0, *(3 * u for u in range(NUM_USERS + 1))])
    items = torch.arange(3 * NUM_USERS) % NUM_ITEMS + 1
    train: Sequences = {"offsets": offsets, "items": items, "times": torch.arange(3 * NUM_USERS)}
    texts = ["", *(f"Title: {title}, Description: about {title}" for title in TITLES[1:])]
    return {
        "num_users": NUM_USERS,
        "num_items": NUM_ITEMS,
        "train": train,
        "train_count": counts,
        "titles": list(TITLES),
        "texts": texts,
    }


def sasrec(width: int = 6) -> SASRec:
    torch.manual_seed(3)
    return SASRec(NUM_ITEMS, max_history=5, width=width, num_blocks=1, variant="allmrec")


def training_batch(rows: int = 4, negatives: int = 19) -> SequenceBatch:
    generator = torch.Generator().manual_seed(11)
    items = torch.stack([torch.randperm(NUM_ITEMS, generator=generator) + 1 for _ in range(rows)])
    history, targets = items[:, :4].clone(), items[:, 1:5].clone()
    history[0, :2] = 0
    targets[0, :2] = 0
    drawn = items[:, 5 : 5 + negatives] if negatives + 5 <= NUM_ITEMS else items[:, 5:]
    return {
        "user_id": torch.arange(rows) + 1,
        "history": history,
        "targets": targets,
        "negatives": drawn[:, None].expand(-1, 4, -1),
    }


def evaluation_batch(rows: int = 4, candidates: int = 20) -> SequenceBatch:
    generator = torch.Generator().manual_seed(12)
    items = torch.stack([torch.randperm(NUM_ITEMS, generator=generator) + 1 for _ in range(rows)])
    history = items[:, :4].clone()
    history[0, :3] = 0
    return {
        "user_id": torch.arange(rows) + 1,
        "history": history,
        "protocol": "sampled-19",
        "case_id": torch.arange(rows) + 40,
        "target": items[:, 4],
        "candidates": items[:, 4 : 4 + candidates],
    }


def joint_file(folder: Path) -> str:
    generator = torch.Generator().manual_seed(13)
    e, q = (torch.randn(NUM_ITEMS + 1, LATENT, generator=generator) for _ in range(2))
    JointVectors(e, q, PAPERS, CollaborativeFilter(sasrec()).digest).save(folder / "joint.safetensors")
    return str(folder / "joint.safetensors")
