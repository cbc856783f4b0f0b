"""CTRL: the shared properties of its second stage, its sentences, and its first stage."""

import shutil
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import pytest
import torch
from torch import Tensor

from allmrec.baselines.ctrl import CTRL
from allmrec.baselines.history_texts import HistoryTexts
from allmrec.sentences import TextTower
from common.errors import UserError
from common.types import SequenceBatch
from tests.common.models import toy
from tests.common.models.cases import SequentialCases

CPU = torch.device("cpu")
QUIET: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}


class TestCTRL(SequentialCases):
    model = CTRL
    steps = 150
    arguments: ClassVar[dict[str, Any]] = {
        "max_history": toy.MAX_HISTORY,
        "width": 16,
        "dropout": 0.1,
        "align_epochs": 0,
    }


def build(sbert: str, **options: Any) -> CTRL:  # noqa: ANN401
    torch.manual_seed(0)
    small: dict[str, Any] = {"max_history": toy.MAX_HISTORY, "width": 8, "latent": 8, "dropout": 0.0}
    model = CTRL(toy.NUM_ITEMS, sbert=sbert, **small | options)
    model.attach(toy.catalogue())
    model.prepare_alignment()
    return model


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many sentences each pass reads."""
    counts: list[int] = []
    one = TextTower._pass

    def counted(tower: TextTower, rows: list[list[int]], device: torch.device) -> Tensor:
        counts.append(len(rows))
        return one(tower, rows, device)

    monkeypatch.setattr(TextTower, "_pass", counted)
    return counts


def texts(sbert: str, **options: Any) -> HistoryTexts:  # noqa: ANN401
    made = HistoryTexts(sbert, **options)
    made.attach(toy.catalogue()["titles"])
    return made.eval()


def test_sentence_is_what_the_tokenizer_makes_of_it(sbert: str) -> None:
    made = texts(sbert)
    whole = made.tower.tokenizer("chosen so far: item 7| item 3")["input_ids"]
    assert made.tokens([7, 3]) == whole


def test_long_sentences_lose_their_oldest_titles(sbert: str) -> None:
    whole, short = texts(sbert), texts(sbert, max_tokens=12)
    assert short.tokens([1, 2, 3, 4]) == whole.tokens([3, 4])
    assert len(texts(sbert, max_tokens=7).tokens([1])) == 7


def test_only_the_newest_items_are_listed(sbert: str) -> None:
    made = texts(sbert, shown=2)
    torch.testing.assert_close(made([[9, 1, 2]], CPU), made([[1, 2]], CPU))


def test_equal_histories_are_read_once(sbert: str, read: list[int]) -> None:
    texts(sbert, trained=True)([[1, 2], [3], [1, 2]], CPU)
    assert sum(read) == 2


def test_a_frozen_encoder_reads_each_history_once_for_all(sbert: str, read: list[int]) -> None:
    made = texts(sbert, trained=False)
    first = made([[1, 2], [3]], CPU)
    assert torch.equal(made([[3], [1, 2], [4]], CPU)[:2], first.flip(0))
    assert sum(read) == 3


@pytest.mark.parametrize("contrast", ["infonce", "bce"])
@pytest.mark.parametrize("positions", [None, 1])
def test_alignment_learns_which_text_belongs_to_which_state(sbert: str, contrast: Any, positions: Any) -> None:  # noqa: ANN401
    model = build(sbert, contrast=contrast, positions=positions, train_sbert=False)
    batch = next(toy.sequence_batches())
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    course = []
    for _ in range(60):
        optimizer.zero_grad()
        losses = model.loss(batch)
        losses["loss"].backward()
        optimizer.step()
        course.append(losses["loss_align"].detach())
    assert torch.stack(course[-5:]).mean() < 0.9 * torch.stack(course[:5]).mean()


def test_first_stage_teaches_both_sides_and_the_second_only_one(sbert: str) -> None:
    model, batch = build(sbert, align_epochs=1), next(toy.sequence_batches())
    model.loss(batch)["loss"].backward()
    reached = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    assert {"texts", "alignment", "item_embedding", "blocks"} <= reached
    assert "final" not in reached
    model.zero_grad()
    model.align_epochs = 0
    model.loss(batch)["loss"].backward()
    reached = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    assert {"final", "item_embedding", "blocks"} <= reached
    assert not reached & {"texts", "alignment"}


def test_layers_that_are_computed_again_teach_the_same_and_keep_less(sbert: str) -> None:
    batch, kept = next(toy.sequence_batches()), [0, 0]
    grads: list[dict[str, Tensor]] = []
    for again in (False, True):
        model = build(sbert, gradient_checkpointing=again).train()

        def pack(tensor: Tensor, which: int = int(again)) -> Tensor:
            kept[which] += tensor.numel()
            return tensor

        torch.manual_seed(0)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = model.loss(batch)["loss"]
        loss.backward()
        grads.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert grads[0].keys() == grads[1].keys()
    for name, grad in grads[0].items():
        torch.testing.assert_close(grads[1][name], grad, rtol=1e-4, atol=1e-7, msg=name)
    assert kept[1] < kept[0] / 2


def test_histories_are_the_users_own_in_every_epoch(sbert: str) -> None:
    model = build(sbert, positions=2)
    real = torch.tensor([[False, True, True, True], [False, False, False, True], [False] * 4])
    users = torch.arange(120).view(40, 3)
    drawn = torch.stack([model.chosen({"user_id": row}, real) for row in users])
    assert drawn.sum(2).tolist() == [[2, 1, 0]] * 40
    assert torch.equal(drawn.any(0), real)
    assert torch.equal(model.chosen({"user_id": users[3].flip(0)}, real.flip(0)).flip(0), drawn[3])
    assert torch.equal(model.chosen({"user_id": users[3, :1]}, real[:1]), drawn[3][:1])
    assert torch.equal(model.chosen({"user_id": users[3]}, real[:, 1:]), drawn[3][:, 1:])


def test_a_sentence_is_read_once_for_all_epochs(sbert: str, read: list[int]) -> None:
    model, batch = build(sbert, positions=1, train_sbert=False), next(toy.sequence_batches())
    for _ in range(4):
        model.loss(batch)
    assert sum(read) <= toy.NUM_USERS


def test_sentences_are_read_before_training_whatever_the_batches(sbert: str, read: list[int]) -> None:
    batch = next(toy.sequence_batches())
    halves: list[SequenceBatch] = [{name: value[part::2] for name, value in batch.items()} for part in (0, 1)]  # type: ignore[misc, index]  # a comprehension loses the keys
    kept = []
    for batches in ([batch], halves):
        model = build(sbert, positions=2, train_sbert=False, align_epochs=1)
        trainer = L.Trainer(max_epochs=2, accelerator="cpu", enable_checkpointing=False, **QUIET)
        trainer.fit(model, toy.loader(*batches))
        assert model.texts is not None
        kept.append(model.texts.known)
    assert sum(read) == len(kept[0]) + len(kept[1])
    assert kept[0].keys() == kept[1].keys()
    assert all(torch.equal(vector, kept[1][items]) for items, vector in kept[0].items())


def test_sentences_are_read_in_the_first_run_alone(sbert: str, read: list[int], tmp_path: Path) -> None:
    kept, counts = [], []
    for seed, options in ((1, {}), (2, {}), (2, {"shown_history": 1}), (2, {"train_sbert": True})):
        model = build(sbert, **{"positions": 2, "train_sbert": False, "align_epochs": 1, **options})
        model.attach({**toy.catalogue(), "text_cache": tmp_path})
        torch.manual_seed(seed)
        trainer = L.Trainer(max_epochs=2, accelerator="cpu", enable_checkpointing=False, **QUIET)
        trainer.fit(model, toy.loader(next(toy.sequence_batches())))
        assert model.texts is not None
        kept.append(model.texts.known)
        counts.append(sum(read))
        read.clear()
    assert counts[0] == len(kept[0])
    assert counts[1] == 0
    assert counts[2] == len(kept[2])
    assert len(list(tmp_path.iterdir())) == 2
    assert kept[1].keys() == kept[0].keys()
    assert all(torch.equal(vector, kept[0][items]) for items, vector in kept[1].items())


def test_single_batches_leave_nothing_in_the_cache(sbert: str, tmp_path: Path) -> None:
    made = HistoryTexts(sbert, trained=False)
    made.attach(toy.catalogue()["titles"], tmp_path)
    made([[1, 2], [3]], CPU)
    assert not list(tmp_path.iterdir())


def test_stages_have_rates_and_moments_of_their_own(sbert: str) -> None:
    course: list[tuple[list[float], int]] = []

    class Note(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *rest: Any) -> None:  # noqa: ANN401
            optimizer = trainer.optimizers[0]
            counts = {int(state["step"]) for state in optimizer.state.values()}
            course.append(([group["lr"] for group in optimizer.param_groups], max(counts)))

    rates = {"lr": 1e-3, "align_lr": 4e-4, "encoder_lr": 1e-5, "warmup_steps": 2}
    trainer = L.Trainer(max_epochs=4, accelerator="cpu", callbacks=[Note()], enable_checkpointing=False, **QUIET)
    trainer.fit(build(sbert, align_epochs=2, **rates), toy.loader(next(toy.sequence_batches())))
    rises, steps = zip(*course, strict=True)
    assert steps == (1, 2, 1, 2)
    assert [pytest.approx(pair) for pair in rises] == [[2e-4, 5e-6], [4e-4, 1e-5], [1e-3, 1e-5], [1e-3, 1e-5]]


@pytest.mark.parametrize(
    "wrong",
    [
        {"chunk": 1},
        {"sub_vectors": 0},
        {"shown_history": 0},
        {"positions": 0},
        {"align_epochs": -1},
        {"temperature": 0.0},
    ],
)
def test_numbers_that_nothing_can_be_made_of_are_refused(sbert: str, wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match=f"--model.{next(iter(wrong))} is"):
        build(sbert, **wrong)


def test_sentences_without_room_for_a_title_are_refused(sbert: str) -> None:
    with pytest.raises(UserError, match="no room for a title"):
        texts(sbert, max_tokens=3)


def test_items_without_titles_are_counted(sbert: str) -> None:
    few = toy.catalogue()
    few["titles"][4] = few["titles"][30] = " "
    with pytest.warns(UserWarning, match="2 of 40 items have no titles"):
        build(sbert).attach(few)


def test_checkpoint_of_another_sentence_model_is_refused(sberts: dict[str, str]) -> None:
    checkpoint: dict[str, Any] = {}
    build(sberts["distilbert"]).on_save_checkpoint(checkpoint)
    with pytest.raises(UserError, match="trained on sentence model"):
        build(sberts["bert"]).on_load_checkpoint(checkpoint)


def test_a_finished_model_does_without_its_sentence_model(sbert: str, tmp_path: Path) -> None:
    folder = tmp_path / "sbert"
    shutil.copytree(sbert, folder)
    model = build(str(folder))
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.strategy.connect(model)
    trainer.save_checkpoint(tmp_path / "best.ckpt")
    shutil.rmtree(folder)
    restored = CTRL.load_from_checkpoint(tmp_path / "best.ckpt", weights_only=True, map_location="cpu")
    restored.attach(toy.catalogue())
    with torch.no_grad():
        ranks = [one.eval().score(toy.sampled_batch()) for one in (model, restored)]
    assert torch.equal(*ranks)
    with pytest.raises(UserError, match="sbert"):
        trainer.fit(restored, toy.loader(next(toy.sequence_batches())))


def test_missing_negatives_of_the_second_stage_are_told_in_the_first(sbert: str) -> None:
    batch = next(toy.sequence_batches())
    del batch["negatives"]
    with pytest.raises(UserError, match="num_negatives is 0"):
        build(sbert).loss(batch)
    assert build(sbert, objective="ce").loss(batch)["loss_align"] > 0


def test_text_is_not_read_in_evaluation(sbert: str, read: list[int]) -> None:
    model = build(sbert).eval()
    with torch.no_grad():
        model.rank(toy.sampled_batch())
    assert not read


def test_stages_are_logged_apart(sbert: str) -> None:
    model = build(sbert, align_epochs=1, train_sbert=False)
    logs: list[set[str]] = []

    class Note(L.Callback):
        def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            logs.append(set(trainer.callback_metrics) - set().union(*logs))

    trainer = L.Trainer(max_epochs=2, accelerator="cpu", callbacks=[Note()], enable_checkpointing=False, **QUIET)
    trainer.fit(model, toy.loader(next(toy.sequence_batches())))
    assert logs == [{"train/loss", "train/loss_align"}, {"train/loss_recommend"}]


def test_data_without_titles_are_refused(sbert: str) -> None:
    none = toy.catalogue()
    none["titles"] = [""] * (toy.NUM_ITEMS + 1)
    with pytest.raises(UserError, match="no titles"):
        build(sbert).attach(none)
