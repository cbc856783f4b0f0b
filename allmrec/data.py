"""What stage 2 learns from: a next item among candidates as a test shows them, in batches of similar length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

import torch
from jaxtyping import Int
from torch import Tensor

from allmrec.tokens import Sizes, similar_lengths
from common.data.candidates import CandidateSampler, title_groups
from common.data.datamodule import SequenceDataModule
from common.data.datasets import EpochSampler, PrefixDataset, TrainingDataset
from common.data.epoch import SharedEpoch
from common.data.negatives import seeded
from common.data.views import OVERALL
from common.types import PAD, Cases, Catalogue, SequenceBatch, Split

CHUNK = 65_536
"""Instances whose lengths are looked up together: whole histories of all would take gigabytes."""


class PromptDataset(PrefixDataset):
    """One instance per user, its last training item, or one per item; candidates are redrawn in every epoch.

    Candidates are drawn as those of a test are, but around the training target and from training events alone:
    uniform, without replacement, outside the user's training items, and none with the target's title.

    Args:
        split: As in :class:`PrefixDataset`.
        catalogue: What is known of items and training events.
        max_history: As in :class:`PrefixDataset`.
        num_negatives: Candidates beside the target.
        positions: Which items are targets: each user's last, or all but the first.
        seed: Seed of the candidates.
        sizes: What prompts are as long as; by default letters of whole titles in a history of 10 items.
    """

    def __init__(
        self,
        split: Split,
        catalogue: Catalogue,
        max_history: int,
        num_negatives: int = 19,
        positions: Literal["last", "all"] = "last",
        seed: int = 0,
        sizes: Sizes | None = None,
    ) -> None:
        super().__init__(split, max_history)
        if positions == "last":
            self.positions = (self.end - 1)[self.end - self.start >= 2]
        self.seed, self.num_negatives = seed, num_negatives
        self.candidates = CandidateSampler(catalogue["train"], title_groups(catalogue["titles"][1:]))
        self.sizes = sizes or letters(catalogue["titles"])
        self.cases = self._cases(catalogue)
        self._epoch = SharedEpoch()
        self._drawn: tuple[int, Tensor] = (-1, self.positions)

    def set_epoch(self, epoch: int) -> None:
        """Chooses the draw of candidates."""
        self._epoch.set(epoch)

    def __getitems__(self, indices: Sequence[int]) -> SequenceBatch:
        """The batch of the instances ``indices``: ``targets`` ``(b, 1)`` and ``negatives`` ``(b, 1, k)``."""
        rows = torch.as_tensor(indices)
        batch = self.instances(rows)
        batch["negatives"] = self.negatives()[rows][:, None].long()
        return batch

    def negatives(self) -> Int[Tensor, "n k"]:
        """Candidates of the whole epoch, drawn once."""
        epoch = int(self._epoch)
        if self._drawn[0] != epoch:
            drawn = self.candidates.draw(self.cases, self.num_negatives, [self.seed, epoch])
            self._drawn = (epoch, torch.from_numpy(drawn))
        return self._drawn[1]

    def lengths(self) -> Int[Tensor, "n"]:
        """Length of each instance's titles in this epoch: those of its prompt, and the target's again as the answer."""
        return torch.cat([self._lengths(rows) for rows in torch.arange(len(self)).split(CHUNK)])

    def _lengths(self, rows: Int[Tensor, "b"]) -> Int[Tensor, "b"]:
        batch, (items, most) = self.instances(rows), self.sizes
        shown = items[self.negatives()[rows].long()].sum(1) + items[batch["targets"][:, 0]]
        recent = items[batch["history"].flip(1)[:, :most]].sum(1)
        return shown + recent + items[batch["targets"][:, 0]]

    def _cases(self, catalogue: Catalogue) -> Cases:
        """The instances as cases of the training events, which lie closer together than all events."""
        user = torch.searchsorted(self.start, self.positions.long(), right=True) - 1
        position = self.positions.long() - self.start[user] + catalogue["train"]["offsets"][user]
        return {"user": user, "position": position}


def letters(titles: Sequence[str]) -> Sizes:
    """Letters of whole titles, each with quotation marks, slot and comma; used when no tokenizer is available."""
    items = torch.tensor([len(title) + 6 for title in titles])
    items[PAD] = 0
    return Sizes(items, shown_history=10)


class LikeLengthSampler(EpochSampler):
    """Order of an epoch in which rows that share a batch are about as long as each other.

    Args:
        dataset: Training instances.
        batch_size: Rows per step of one process, as one batch or several.
        seed: Seed of the order.
        rank: This process.
        world_size: Processes.
    """

    def __init__(
        self, dataset: PromptDataset, batch_size: int, seed: int = 0, rank: int = 0, world_size: int = 1
    ) -> None:
        super().__init__(dataset, True, seed, rank, world_size)
        self.rows = batch_size * world_size

    def order(self) -> Int[Tensor, "n"]:
        """Batches of similar length behind each other, the longest first and the one that is not full last.

        What does not fit into memory then fails at once rather than after hours.
        """
        lengths = cast(PromptDataset, self.instances).lengths()
        batches = similar_lengths(lengths, self.rows, seeded(self.seed, self.epoch))
        longest = max(batches, key=lambda batch: (len(batch), int(lengths[batch].max())))
        return torch.cat(sorted(batches, key=lambda batch: (len(batch), batch is longest), reverse=True))


class PromptDataModule(SequenceDataModule):
    """Prompts to learn from: each training target among candidates, in batches of similar length.

    A model that knows its prompts in tokens sets ``sizes``, so that batches go by these.

    Arguments that are not listed are those of :class:`SequenceDataModule`.

    Args:
        dataset: Key of the data set.
        root: Folder of all prepared stores.
        recipe: Recipe of the store.
        store: Id of the store.
        split: How events are divided.
        max_history: Newest events of a user that the collaborative filter sees; it must be that of its training.
        positions: Which training items are targets: each user's last, as in the paper, or all but the first.
        num_negatives: Candidates beside the target.
        negatives: What candidates avoid; only the user's training items are possible.
        batch_size: Prompts per batch; the authors take 4.
        eval_batch_size: Evaluation cases per batch.
        val_protocol: Protocol of validation.
        test_protocols: Protocols of the test.
        test_users: Number of test users.
        val_users: Number of validation users.
        allow_imputed_time: Whether times that were not recorded may serve where recorded ones are needed.
        num_workers: Processes that build batches.
        seed: Seed of the order of instances and of their candidates.
        scenario: Who is trained on and who is tested, as in :class:`SequenceDataModule`.
    """

    def __init__(
        self,
        dataset: str,
        root: str = "data",
        recipe: str | None = None,
        store: str | None = None,
        split: Literal["leave_one_out", "global_temporal"] = "leave_one_out",
        max_history: int = 50,
        positions: Literal["last", "all"] = "last",
        num_negatives: int = 19,
        negatives: Literal["train"] = "train",
        batch_size: int = 4,
        eval_batch_size: int = 64,
        val_protocol: str = "sampled-19",
        test_protocols: Sequence[str] = ("sampled-19",),
        test_users: int | None = None,
        val_users: int | None = None,
        allow_imputed_time: bool = False,
        num_workers: int = 0,
        seed: int = 0,
        scenario: str = OVERALL,
    ) -> None:
        super().__init__(
            dataset,
            root,
            recipe,
            store,
            split,
            instances="prefix",
            max_history=max_history,
            num_negatives=num_negatives,
            negatives=negatives,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            val_protocol=val_protocol,
            test_protocols=test_protocols,
            test_users=test_users,
            val_users=val_users,
            allow_imputed_time=allow_imputed_time,
            num_workers=num_workers,
            seed=seed,
            scenario=scenario,
        )
        self.positions: Literal["last", "all"] = positions
        self.sizes: Sizes | None = None

    def _training_set(self, rank: int, world_size: int) -> PromptDataset:
        return PromptDataset(
            self.events, self.catalogue, self.max_history, self.num_negatives, self.positions, self.seed, self.sizes
        )

    def _order(self, dataset: TrainingDataset, rank: int, world_size: int) -> LikeLengthSampler:
        assert isinstance(dataset, PromptDataset)
        # A step has the same rows where memory takes them in several batches.
        rows = self.batch_size * (self.trainer.accumulate_grad_batches if self.trainer else 1)
        return LikeLengthSampler(dataset, rows, self.seed, rank, world_size)
