"""Every trained baseline under the scenarios: it learns from the users that these leave, and is tested on their own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import pytest
import torch

from allmrec.baselines.ctrl import CTRL
from allmrec.baselines.mlp_llm import MLPLLM
from allmrec.baselines.morec import MoRec
from allmrec.baselines.recformer import RecFormer
from allmrec.baselines.tallrec import TALLRec
from allmrec.data import PromptDataModule
from benchmarks.__main__ import main
from common.data.datamodule import SequenceDataModule
from common.models.base import Recommender
from common.models.sasrec import SASRec
from common.types import SequenceBatch

PROMPT: dict[str, Any] = {"max_title_tokens": 4, "shown_history": 3, "generate_at_test": False, "precision": "fp32"}
LONGFORMER: dict[str, Any] = {"window": 4, "width": 16, "layers": 1, "heads": 2, "vocabulary": 320}


class Folders(NamedTuple):
    """Tiny pre-trained models."""

    sbert: str
    llm: str


class Method(NamedTuple):
    """How a baseline is made for data of a number of items and length of histories, and the class of its data."""

    build: Callable[[int, int, Folders], Recommender]
    data: type[SequenceDataModule] = SequenceDataModule


METHODS = {
    "morec": Method(lambda items, longest, given: MoRec(items, longest, given.sbert, trained_layers=1, width=8)),
    "ctrl": Method(
        lambda items, longest, given: CTRL(items, longest, given.sbert, False, align_epochs=1, width=8, latent=8)
    ),
    "recformer": Method(
        lambda items, longest, given: RecFormer(
            items, 5, None, ("title",), pretrain_epochs=1, refresh_epochs=0, **LONGFORMER
        )
    ),
    "tallrec": Method(lambda items, longest, given: TALLRec(items, given.llm, **PROMPT), PromptDataModule),
    "mlp_llm": Method(
        lambda items, longest, given: MLPLLM(items, SASRec(items, longest, width=6), given.llm, **PROMPT),
        PromptDataModule,
    ),
}


class Users(L.Callback):
    """Notes whose rows are trained on, and whose are tested."""

    def __init__(self) -> None:
        self.trained, self.tested = set[int](), set[int]()

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: SequenceBatch, batch_idx: int
    ) -> None:
        self.trained.update(batch["user_id"].tolist())

    def on_test_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: SequenceBatch, *rest: int
    ) -> None:
        self.tested.update(batch["user_id"].tolist())


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stores")
    size = ["--users", "60", "--items", "128", "--interactions", "560"]
    assert main(["prepare", "synthetic", *size, "--root", str(folder)]) == 0
    return folder


def train_and_test(model: Recommender, data: SequenceDataModule) -> Users:
    """Two epochs and a test; whose rows they read."""
    users = Users()
    quiet: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    options: dict[str, Any] = {"enable_checkpointing": False, "num_sanity_val_steps": 0, "accelerator": "cpu"}
    trainer = L.Trainer(max_epochs=2, callbacks=[users], limit_val_batches=1, **options, **quiet)
    trainer.fit(model, data)
    trainer.test(model, data, verbose=False)
    return users


@pytest.mark.parametrize(("scenario", "trained", "tested"), [("few-shot-8", 8, 60), ("cold-users", 54, 6)])
@pytest.mark.parametrize("name", METHODS)
def test_a_baseline_learns_from_the_users_that_a_scenario_leaves(
    name: str, scenario: str, trained: int, tested: int, root: Path, sbert: str, folders: dict[str, str]
) -> None:
    method = METHODS[name]
    options: dict[str, Any] = {"val_protocol": "sampled-19", "test_protocols": ["sampled-19"], "max_history": 8}
    data = method.data("synthetic", str(root), scenario=scenario, batch_size=8, **options)
    model = method.build(data.num_items, data.max_history, Folders(sbert, folders["opt"]))
    before = {key: value.clone() for key, value in model.named_parameters()}
    users = train_and_test(model, data)
    assert any(not torch.equal(value, before[key]) for key, value in model.named_parameters() if key in before)
    known = (data.events["train_end"] - data.events["sequences"]["offsets"][:-1] >= 2).nonzero().flatten()
    assert users.trained == set(known.tolist())
    assert (len(users.trained) <= trained, len(users.tested)) == (True, tested)
    assert scenario != "cold-users" or not users.trained & users.tested
    if isinstance(model, CTRL) and model.texts is not None:
        assert model.texts.known.keys() == {tuple(past) for past in model.all_pasts()}
