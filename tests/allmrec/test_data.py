"""Training prompts: which items they hold, and how little of a batch is padding."""

import pytest
import torch

from allmrec.data import LikeLengthSampler, PromptDataset
from allmrec.tokens import padding_share
from common.data.candidates import normalise_title
from common.types import PAD, Catalogue, Split

NUM_USERS, NUM_ITEMS = 200, 60


@pytest.fixture
def world() -> tuple[Split, Catalogue]:
    """Users with 3 to 20 events over items of which every tenth shares its title; the last two events are held out."""
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(3, 21, (NUM_USERS,), generator=generator)
    items = torch.cat([torch.randperm(NUM_ITEMS, generator=generator)[:n] + 1 for n in lengths.tolist()])
    offsets = torch.cat([torch.zeros(2, dtype=torch.long), lengths.cumsum(0)])
    end = offsets[1:] - 2
    end[0] = 0
    kept = torch.arange(len(items)) < torch.repeat_interleave(end, offsets.diff())
    counts = torch.cat([torch.zeros(1, dtype=torch.long), (end - offsets[:-1]).cumsum(0)])
    empty = {"user": torch.zeros(0, dtype=torch.long), "position": torch.zeros(0, dtype=torch.long)}
    split: Split = {
        "sequences": {"offsets": offsets, "items": items, "times": torch.arange(len(items))},
        "train_end": end,
        "val": empty,  # type: ignore[typeddict-item]
        "test": empty,  # type: ignore[typeddict-item]
    }
    titles = ["", *("twin" if i % 10 == 0 else f"item {i} " + "x" * (i % 7) * 5 for i in range(1, NUM_ITEMS + 1))]
    catalogue: Catalogue = {
        "train": {"offsets": counts, "items": items[kept], "times": torch.arange(int(kept.sum()))},
        "titles": titles,
    }
    return split, catalogue


def dataset(world: tuple[Split, Catalogue], **options: object) -> PromptDataset:
    return PromptDataset(*world, max_history=15, **options)  # type: ignore[arg-type]


def test_the_last_training_item_is_the_target_and_held_out_items_are_never_read(
    world: tuple[Split, Catalogue],
) -> None:
    split, data = world[0], dataset(world)
    batch = data.__getitems__(list(range(len(data))))
    end, items = split["train_end"], split["sequences"]["items"]
    assert torch.equal(batch["targets"][:, 0], items[end[batch["user_id"]] - 1])
    assert torch.equal(batch["history"][:, -1], items[end[batch["user_id"]] - 2])
    assert len(data) == int((end - split["sequences"]["offsets"][:-1] >= 2).sum())
    assert len(dataset(world, positions="all")) > 3 * len(data)


@pytest.mark.parametrize("positions", ["last", "all"])
def test_candidates_are_distinct_and_neither_trained_by_the_user_nor_namesakes(
    world: tuple[Split, Catalogue], positions: str
) -> None:
    split, catalogue = world
    data = dataset(world, positions=positions)
    batch = data.__getitems__(list(range(len(data))))
    start, end = split["sequences"]["offsets"][:-1], split["train_end"]
    held_out = 0
    rows = zip(
        batch["user_id"].tolist(), batch["targets"][:, 0].tolist(), batch["negatives"][:, 0].tolist(), strict=True
    )
    for user, target, negatives in rows:
        trained = set(split["sequences"]["items"][start[user] : end[user]].tolist())
        later = set(split["sequences"]["items"][end[user] : end[user] + 2].tolist())
        held_out += len(later & set(negatives))
        assert len(set(negatives)) == 19
        assert not trained & set(negatives)
        title = normalise_title(catalogue["titles"][target])
        assert title not in {normalise_title(catalogue["titles"][item]) for item in negatives}
    assert held_out > 0


def test_candidates_change_with_the_epoch_and_repeat_with_it(world: tuple[Split, Catalogue]) -> None:
    data = dataset(world)
    first = data.negatives().clone()
    data.set_epoch(1)
    assert not torch.equal(data.negatives(), first)
    data.set_epoch(0)
    assert torch.equal(data.negatives(), first)
    assert not torch.equal(dataset(world, seed=1).negatives(), first)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_processes_share_the_batches_of_like_length(world: tuple[Split, Catalogue], world_size: int) -> None:
    data = dataset(world, positions="all")
    parts = [list(LikeLengthSampler(data, 8, rank=rank, world_size=world_size)) for rank in range(world_size)]
    assert len({len(part) for part in parts}) == 1
    assert {index for part in parts for index in part} == set(range(len(data)))
    order = torch.tensor(parts).T.flatten()
    rows = [order[start : start + 8 * world_size] for start in range(0, len(order), 8 * world_size)]
    assert padding_share(data.lengths(), rows) < 0.05
    shuffled = torch.randperm(len(data))[: len(data) // 8 * 8].view(-1, 8)
    assert padding_share(data.lengths(), list(shuffled)) > 0.1


def test_lengths_count_what_a_prompt_shows(world: tuple[Split, Catalogue]) -> None:
    data, titles = dataset(world), world[1]["titles"]
    batch = data.__getitems__([7])
    items = [*batch["history"][0, -10:].tolist(), int(batch["targets"][0, 0]), *batch["negatives"][0, 0].tolist()]
    assert int(data.lengths()[7]) == sum(len(titles[item]) + 6 for item in items if item != PAD)
