"""Evaluates a fixed model on some 30 users with 1 to 4 processes; writes the figures of each run as JSON."""

import json
import sys
from pathlib import Path

import lightning as L
import torch
from torch import Tensor, nn

from common.data.datasets import EvaluationDataset
from common.data.loader import LazyLoader, as_is
from common.metrics.ranking import CaseRanks
from common.models.sasrec import SASRec
from common.types import SequenceBatch
from tests.fixtures.histories import random_histories, split_of

NUM_ITEMS, BATCH, LONGEST = 50, 4, 12


class Witness(SASRec):
    """A model with random weights that also keeps the scores of each case, bit by bit.

    Its scores depend on the rows beside a case: the longest history of a batch decides how many positions are read.
    """

    def __init__(self, out: Path) -> None:
        super().__init__(NUM_ITEMS, LONGEST, width=24, num_heads=2)
        self.out = out
        self.train_count = torch.arange(NUM_ITEMS + 1)
        for parameter in self.parameters():
            nn.init.normal_(parameter)
        self.scores: dict[str, str] = {}

    def _rank_target(self, batch: SequenceBatch, scores: Tensor | None = None) -> dict[str, Tensor]:
        return super()._rank_target(batch, self._seen(batch, self.score(batch)))

    def _rank_catalogue(self, batch: SequenceBatch) -> dict[str, Tensor]:
        self._seen(batch, self.score_catalogue(batch))
        return super()._rank_catalogue(batch)

    def _seen(self, batch: SequenceBatch, scores: Tensor) -> Tensor:
        rows = zip(batch["case_id"].tolist(), scores.numpy(), strict=True)
        self.scores |= {f"{batch['protocol']} {case}": row.tobytes().hex() for case, row in rows}
        return scores

    def on_test_end(self) -> None:
        def figures(ranks: CaseRanks) -> dict[str, float]:
            return {key: value.item() for key, value in ranks.metrics().items()}

        written = {
            "metrics": {name: figures(ranks) for name, ranks in self.case_ranks.items()},
            "table": {key: column.tolist() for key, column in self.case_ranks["full"].compute().items()},
            "logged": {key: value.item() for key, value in self.trainer.callback_metrics.items()},
            "scores": self.scores,
        }
        self.out.with_name(f"{self.out.name}-{self.global_rank}.json").write_text(json.dumps(written))


def loader_of(protocol: str) -> LazyLoader:
    split = split_of(random_histories(40, NUM_ITEMS, LONGEST))
    drawn = torch.randint(
        1, NUM_ITEMS + 1, (len(split["test"]["user"]), 19), generator=torch.Generator().manual_seed(5)
    )
    candidates = None if protocol == "full" else drawn
    dataset = EvaluationDataset(split["sequences"], split["test"], LONGEST, protocol, candidates, batch_size=BATCH)
    return LazyLoader(dataset, batch_size=None, collate_fn=as_is)


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
        torch.manual_seed(3)
        trainer.test(
            Witness(folder / str(devices)), [loader_of(name) for name in ("full", "sampled-19")], verbose=False
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
