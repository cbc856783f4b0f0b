"""A loader goes on where an interrupted epoch was left, and nowhere else."""

import torch

from common.data.datasets import EpochSampler, PrefixDataset
from common.data.loader import LazyLoader, as_is
from common.data.splits import leave_one_out
from tests.fixtures.histories import random_histories, split_of


def loader() -> LazyLoader:
    split = leave_one_out(split_of(random_histories(9, 30, 8, 0))["sequences"])
    dataset = PrefixDataset(split, 5, 1)
    return LazyLoader(dataset, batch_size=4, sampler=EpochSampler(dataset, seed=1), collate_fn=as_is)


def targets(batches: LazyLoader, epoch: int) -> list[list[int]]:
    assert isinstance(batches.sampler, EpochSampler)
    batches.sampler.set_epoch(epoch)
    return [batch["targets"][:, 0].tolist() for batch in batches]


def test_an_epoch_is_resumed_behind_the_batches_that_it_had() -> None:
    whole, cut = loader(), loader()
    expected = targets(whole, 3)
    assert isinstance(cut.sampler, EpochSampler)
    cut.sampler.set_epoch(3)
    for number, _ in enumerate(cut):
        if number == 1:
            break
    resumed = loader()
    resumed.load_state_dict(cut.state_dict())
    assert targets(resumed, 3) == expected[2:]
    # Only once, and only in that epoch.
    assert targets(resumed, 3) == expected
    resumed.load_state_dict({"epoch": 2, "given": 2})
    assert targets(resumed, 3) == expected


def test_a_batch_passes_as_the_dataset_made_it() -> None:
    batch = {"history": torch.zeros(1, 2)}
    assert as_is(batch) is batch
