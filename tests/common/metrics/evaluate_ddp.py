"""Evaluates a fixed model on 33 users with 1 to 4 processes; writes the figures of each run as JSON."""

import json
import sys
from pathlib import Path
from typing import Any

import lightning as L
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from common.models.base import SequentialRecommender
from common.nn.embedding import ItemEmbedding
from common.types import SequenceBatch

NUM_ITEMS, BATCH = 50, 4


class MeanOfHistory(SequentialRecommender):
    def __init__(self, out: Path) -> None:
        super().__init__(NUM_ITEMS)
        self.out = out
        self.train_count = torch.arange(NUM_ITEMS + 1)
        self.item_embedding = ItemEmbedding(NUM_ITEMS, 8)
        generator = torch.Generator().manual_seed(3)
        # Coarse weights make ties, so that their handling is compared as well.
        self.item_embedding.weight.data = torch.randint(-1, 2, (NUM_ITEMS + 1, 8), generator=generator).float()

    def encode(self, batch: SequenceBatch) -> Float[Tensor, "b 1 d"]:
        states: Tensor = self.item_embedding(batch["history"])
        return states.sum(1, keepdim=True)

    def on_test_end(self) -> None:
        metrics = {
            name: {key: value.item() for key, value in ranks.metrics().items()}
            for name, ranks in self.case_ranks.items()
        }
        table = {key: column.tolist() for key, column in self.case_ranks["full"].compute().items()}
        logged = {key: value.item() for key, value in self.trainer.callback_metrics.items()}
        if self.trainer.is_global_zero:
            self.out.write_text(json.dumps({"metrics": metrics, "table": table, "logged": logged}))


class Cases(Dataset[SequenceBatch]):
    def __init__(self, protocol: str) -> None:
        generator = torch.Generator().manual_seed(5)
        self.protocol = protocol
        self.items = torch.stack([torch.randperm(NUM_ITEMS, generator=generator) + 1 for _ in range(33)])

    def __len__(self) -> int:
        return 33

    def __getitems__(self, rows: list[int]) -> SequenceBatch:
        ids = torch.tensor(rows + rows[:1] * (BATCH - len(rows)))
        items = self.items[ids]
        batch: SequenceBatch = {
            "user_id": ids + 1,
            "history": items[:, 1:4],
            "protocol": self.protocol,
            "case_id": ids,
            "target": items[:, 0],
        }
        if self.protocol == "full":
            return {**batch, "seen": items[:, 1:4]}
        return {**batch, "candidates": torch.cat([items[:, :1], items[:, 4:23]], dim=1)}


def same(batch: Any) -> Any:  # noqa: ANN401 (DataLoader hands on whatever the data set gives)
    return batch


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    for devices in (1, 2, 3, 4):
        trainer = L.Trainer(
            accelerator="cpu",
            devices=devices,
            strategy="ddp_fork" if devices > 1 else "auto",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        loaders = [DataLoader(Cases(name), batch_size=BATCH, collate_fn=same) for name in ("full", "sampled-19")]
        trainer.test(MeanOfHistory(folder / f"{devices}.json"), loaders, verbose=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
