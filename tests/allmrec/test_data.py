"""Training prompts: which items they hold, and how little of a batch is padding."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grimp
import pytest
import torch
from torch import Tensor

from allmrec.baselines.llm_only import LLMOnly
from allmrec.composer import Composer
from allmrec.data import LikeLengthSampler, PromptDataModule, PromptDataset
from allmrec.llm import FrozenLLM
from allmrec.prompts import PromptStyle
from allmrec.tokens import padding_share
from benchmarks.__main__ import main
from common.data.candidates import normalise_title
from common.types import PAD, Catalogue, Split

NUM_USERS, NUM_ITEMS, TITLE_TOKENS = 200, 60, 8


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
        "val": empty,  # type: ignore[typeddict-item]  # no case is read
        "test": empty,  # type: ignore[typeddict-item]  # no case is read
    }
    words = [f"item {i} " + "sea " * (40 if i % 9 == 0 else i % 5) for i in range(NUM_ITEMS + 1)]
    titles = ["", *("twin" if i % 10 == 0 else words[i] for i in range(1, NUM_ITEMS + 1))]
    catalogue: Catalogue = {
        "train": {"offsets": counts, "items": items[kept], "times": torch.arange(int(kept.sum()))},
        "titles": titles,
    }
    return split, catalogue


def dataset(world: tuple[Split, Catalogue], **options: object) -> PromptDataset:
    return PromptDataset(*world, max_history=15, **options)  # type: ignore[arg-type]  # values of several types


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
def test_processes_share_the_batches_of_like_length(
    world: tuple[Split, Catalogue], opt: FrozenLLM, world_size: int
) -> None:
    composer = Composer(opt, PromptStyle(), world[1]["titles"], max_title_tokens=TITLE_TOKENS)
    data = dataset(world, positions="all", sizes=composer.sizes())
    parts = [list(LikeLengthSampler(data, 8, rank=rank, world_size=world_size)) for rank in range(world_size)]
    assert len({len(part) for part in parts}) == 1
    assert {index for part in parts for index in part} == set(range(len(data)))
    order = torch.tensor(parts).T.flatten()
    rows = [order[start : start + 8 * world_size] for start in range(0, len(order), 8 * world_size)]
    lengths = tokens(data, composer)
    assert lengths[rows[0]].max() == lengths[order[: len(order) // len(rows[0]) * len(rows[0])]].max(), "fails at once"
    assert composer.cut_titles > 5
    assert padding_share([lengths[row] for row in rows]) < 0.01
    shuffled = torch.randperm(len(data))[: len(data) // 8 * 8].view(-1, 8)
    assert padding_share([lengths[row] for row in shuffled]) > 0.1


def tokens(data: PromptDataset, composer: Composer) -> Tensor:
    """Tokens of each composed prompt and its answer."""
    batch = data.__getitems__(list(range(len(data))))
    prompts = composer(batch["history"], torch.cat([batch["targets"], batch["negatives"][:, 0]], dim=1))
    answers = [composer.answers[item] for item in batch["targets"][:, 0].tolist()]
    return torch.tensor([len(p) + len(a) for p, a in zip(prompts.ids, answers, strict=True)])


@pytest.mark.parametrize("most", [4, 10])
def test_lengths_differ_as_composed_prompts_do(world: tuple[Split, Catalogue], opt: FrozenLLM, most: int) -> None:
    composer = Composer(opt, PromptStyle(), world[1]["titles"], most, TITLE_TOKENS)
    data = dataset(world, sizes=composer.sizes())
    assert len(set((tokens(data, composer) - data.lengths()).tolist())) == 1


def test_without_a_model_letters_count(world: tuple[Split, Catalogue]) -> None:
    data, titles = dataset(world), world[1]["titles"]
    batch = data.__getitems__([7])
    target = int(batch["targets"][0, 0])
    items = [*batch["history"][0, -10:].tolist(), target, target, *batch["negatives"][0, 0].tolist()]
    assert int(data.lengths()[7]) == sum(len(titles[item]) + 6 for item in items if item != PAD)


@pytest.fixture
def root(tmp_path: Path) -> str:
    """The folder of a small prepared store."""
    size = ["--users", "60", "--items", "128", "--interactions", "560"]
    assert main(["prepare", "synthetic", *size, "--root", str(tmp_path)]) == 0
    return str(tmp_path)


@pytest.mark.parametrize("world_size", [1, 2])
def test_a_step_has_the_same_rows_in_one_batch_and_in_several(root: str, world_size: int) -> None:
    def steps(batches: int) -> list[set[int]]:
        data = PromptDataModule("synthetic", root=root, positions="all", batch_size=8 // batches)
        order: list[Any] = []
        for rank in range(world_size):
            share = {"rank": rank, "num_replicas": world_size}
            trainer: Any = SimpleNamespace(accumulate_grad_batches=batches, distributed_sampler_kwargs=share)
            data.trainer = trainer
            loader: Any = data.train_dataloader()
            order.append(list(loader.sampler))
        return [{row for part in order for row in part[at : at + 8]} for at in range(0, len(order[0]), 8)]

    assert steps(4) == steps(1)


def test_a_model_tells_its_data_how_long_prompts_are(folders: dict[str, str], root: str) -> None:
    data = PromptDataModule("synthetic", root=root)
    model = LLMOnly(data.num_items, folders["opt"], shown_history=3, max_title_tokens=4)
    here = SimpleNamespace(root_device=torch.device("cpu"))
    trainer: Any = SimpleNamespace(datamodule=data, strategy=here, world_size=1)
    model._trainer = trainer
    model.setup("fit")
    told: Any = data.train_dataloader().dataset
    assert told.sizes.shown_history == 3
    assert told.sizes.items[1:].tolist() == [len(answer) + 1 for answer in model.composer.answers[1:]]


def test_data_know_no_model() -> None:
    graph = grimp.build_graph("allmrec", "common", cache_dir=None)
    models = ("allmrec.stage1", "allmrec.stage2", "allmrec.llm", "common.models.base")
    assert [model for model in models if graph.chain_exists("allmrec.data", model)] == []
