"""MoRec: the shared properties, and what it does with texts."""

import shutil
from pathlib import Path
from typing import Any, cast

import lightning as L
import pytest
import torch
from torch import Tensor

from allmrec.baselines.morec import MoRec
from allmrec.baselines.tower import LayeredTower
from common.errors import UserError
from common.types import Catalogue, SequenceBatch
from tests.common.models import toy
from tests.common.models.cases import SequentialCases


class TestMoRec(SequentialCases):
    model = MoRec
    steps, lr = 250, 3e-3
    exceptions = {"test_untrained_items_score_alike": "an item that was never trained on has its own text"}

    @pytest.fixture(autouse=True)
    def _folder(self, sbert: str, monkeypatch: pytest.MonkeyPatch) -> None:
        small = {"max_history": toy.MAX_HISTORY, "sbert": sbert, "width": 32, "dropout": 0.0, "trained_layers": 1}
        monkeypatch.setattr(type(self), "arguments", small | {"objective": "ce"})


def build(sbert: str, **options: Any) -> MoRec:  # noqa: ANN401
    torch.manual_seed(0)
    small = {"max_history": toy.MAX_HISTORY, "width": 8, "dropout": 0.0, "trained_layers": 1} | options
    model = MoRec(toy.NUM_ITEMS, sbert=sbert, **small)
    model.attach(toy.catalogue())
    return model


def only(role: str) -> SequenceBatch:
    """One user whose history, target and negative are three items, named by role."""
    items = {"history": 3, "targets": 5, "negatives": 7}
    return {
        "user_id": torch.tensor([1]),
        "history": torch.tensor([[0, items["history"]]]),
        "targets": torch.tensor([[0, items["targets"]]]),
        "negatives": torch.tensor([[[9], [items["negatives"]]]]),
    }


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many texts each pass of the trained layers reads."""
    counts: list[int] = []
    one = LayeredTower._upper

    def counted(tower: LayeredTower, items: list[int], states: Tensor) -> Tensor:
        counts.append(len(items))
        return one(tower, items, states)

    monkeypatch.setattr(LayeredTower, "_upper", counted)
    return counts


@pytest.mark.parametrize("objective", ["bce", "ce"])
def test_step_encodes_each_distinct_item_once(sbert: str, encoded: list[int], objective: str) -> None:
    model, batch = build(sbert, objective=objective, drawn_items=5).train(), next(toy.sequence_batches())
    model.items.known()
    encoded.clear()
    model.loss(batch)
    parts = [batch["history"].flatten(), batch["targets"].flatten()]
    if objective == "bce":
        parts.append(batch["negatives"][batch["targets"] != 0].flatten())
    own = len({*torch.cat(parts).tolist()} - {0})
    assert sum(encoded) == own + (min(5, toy.NUM_ITEMS - own) if objective == "ce" else 0)


def test_vectors_that_mixed_precision_rounds_stand_beside_those_read_outside(
    sbert: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, upper = build(sbert, objective="ce", drawn_items=5).train(), LayeredTower._upper
    model.items.known()
    # A linear map behind the pooling does this on an accelerator, where autocast leaves copies as they are.
    monkeypatch.setattr(LayeredTower, "_upper", lambda *given: upper(*given).bfloat16())
    model.loss(next(toy.sequence_batches()))["loss"].backward()
    assert all(parameter.grad is not None for parameter in model.items.tower.parameters())
    assert model.items.known().dtype == torch.float32


def test_evaluation_encodes_the_catalogue_once(sbert: str, encoded: list[int]) -> None:
    model = build(sbert).eval()
    with torch.no_grad():
        for batch in (toy.sampled_batch(), toy.full_batch(), toy.sampled_batch()):
            model.rank(batch)
    assert sum(encoded) == toy.NUM_ITEMS + 1


def test_vectors_are_computed_again_after_a_step(sbert: str) -> None:
    model = build(sbert, lr=0.1)
    optimizer = model.configure_optimizers()
    assert optimizer is not None
    before = model.eval().output_table().clone()
    model.train().loss(next(toy.sequence_batches()))["loss"].backward()
    optimizer.step()
    assert not torch.allclose(model.eval().output_table(), before)


@pytest.mark.parametrize("objective", ["bce", "ce"])
def test_loss_is_that_of_vectors_made_at_once(sbert: str, objective: str) -> None:
    model, batch = build(sbert, objective=objective).eval(), next(toy.sequence_batches())
    whole = super(MoRec, model).loss(batch)["loss"]
    torch.testing.assert_close(model.loss(batch)["loss"], whole)


@pytest.mark.parametrize("learns", [True, False])
@pytest.mark.parametrize("num_negatives", [1, 3])
def test_a_step_projects_its_own_items_and_learns_what_the_whole_table_teaches(
    sbert: str, learns: bool, num_negatives: int
) -> None:
    model = build(sbert, frozen_epochs=0 if learns else 1).eval()
    whole = next(toy.sequence_batches(num_negatives))
    batch = cast(SequenceBatch, {name: value[:2] for name, value in whole.items()})  # type: ignore[index]  # all are tensors
    own, projected = model.read_now(batch), list[int]()
    assert len(own) < toy.NUM_ITEMS
    model.items.project.register_forward_hook(lambda module, given, made: projected.append(len(made)))
    gradients: list[dict[str, Tensor | None]] = []
    with model.items.holding_all(own if learns else None):
        super(MoRec, model).loss(batch)["loss"].backward()
    gradients.append({name: value.grad for name, value in model.named_parameters()})
    model.zero_grad()
    model.loss(batch)["loss"].backward()
    gradients.append({name: value.grad for name, value in model.named_parameters()})
    assert projected == [toy.NUM_ITEMS, len(own)]
    torch.testing.assert_close(gradients[1], gradients[0])


def test_a_training_on_negatives_begins_without_reading_the_catalogue(sbert: str, encoded: list[int]) -> None:
    model, batch = build(sbert).train(), only("")
    model.loss(batch)["loss"].backward()
    assert sum(encoded) == 3


@pytest.mark.parametrize("role", ["history", "targets", "negatives"])
def test_encoder_learns_through_each_role(sbert: str, role: str) -> None:
    model, batch = build(sbert), only(role)
    with model.items.holding(model.read_now(batch), learns=True):
        vectors, rows = model.items.table(), model.items.rows(torch.tensor([3, 5, 7]))
        vectors.retain_grad()
        super(MoRec, model).loss(batch)["loss"].backward()
    assert vectors.grad is not None
    assert bool(vectors.grad[rows[["history", "targets", "negatives"].index(role)]].any())
    assert all(p.grad is not None and bool(p.grad.any()) for p in model.items.tower.parameters() if p.ndim == 2)


def test_items_of_other_batches_enter_the_softmax_as_they_were_last_read(sbert: str) -> None:
    model, batch = build(sbert, objective="ce", drawn_items=0).train(), only("")
    first = model.items.known()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        model.loss(batch)["loss"].backward()
        optimizer.step()
    changed = (model.items.known() != first).any(1).nonzero().flatten().tolist()
    assert changed == [3, 5]
    with torch.no_grad():
        model.eval().output_table()
    assert bool((model.items.known() != first)[1:].any(1).all())


def encoder_gradient(model: MoRec, loss: Tensor) -> Tensor:
    parameters = [p for p in model.items.tower.parameters() if p.requires_grad]
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)])


def test_drawn_items_make_the_softmax_gradient_right_on_average(sbert: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = build(sbert, objective="ce", drawn_items=1).eval(), only("")
    everything = torch.arange(1, toy.NUM_ITEMS + 1)
    with model.items.holding_all(everything):
        whole = encoder_gradient(model, super(MoRec, model).loss(batch)["loss"])
    rest = toy.NUM_ITEMS - 2
    gradients = []
    for first in range(rest):
        monkeypatch.setattr(torch, "randperm", lambda n, device, first=first: (torch.arange(n) + first) % n)
        gradients.append(encoder_gradient(model, model.loss(batch)["loss"]))
    torch.testing.assert_close(torch.stack(gradients).mean(0), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("wrong", [{"frozen_epochs": -1}, {"drawn_items": -1}, {"trained_layers": -1}])
def test_numbers_that_nothing_can_be_made_of_are_refused(sbert: str, wrong: dict[str, int]) -> None:
    with pytest.raises(UserError, match=f"{next(iter(wrong))} is -1"):
        build(sbert, **wrong)


def test_missing_negatives_are_told(sbert: str) -> None:
    batch = only("")
    del batch["negatives"]
    with pytest.raises(UserError, match="num_negatives is 0"):
        build(sbert).loss(batch)


def test_negatives_of_padded_places_are_not_encoded(sbert: str) -> None:
    assert build(sbert).read_now(only("")).tolist() == [3, 5, 7]


def test_another_title_changes_the_scores_of_every_user(sbert: str) -> None:
    batch, changed = toy.full_batch(), toy.catalogue()
    changed["titles"][9] = "item red wolf"
    scores = []
    for catalogue in (toy.catalogue(), changed):
        model = build(sbert).eval()
        model.attach(catalogue)
        with torch.no_grad():
            scores.append(model.score_catalogue(batch))
    assert bool((scores[0][:, 9] != scores[1][:, 9]).all())


def test_items_of_equal_text_tie_exactly(sbert: str) -> None:
    same = toy.catalogue()
    same["titles"][4] = same["titles"][30] = "item red"
    model = build(sbert).eval()
    model.attach(same)
    with torch.no_grad():
        scores = model.score_catalogue(toy.full_batch())
    assert torch.equal(scores[:, 4], scores[:, 30])


def test_frozen_epochs_leave_the_encoder_alone(sbert: str, encoded: list[int]) -> None:
    model = build(sbert, frozen_epochs=1).train()
    for _ in range(2):
        model.loss(next(toy.sequence_batches()))["loss"].backward()
    assert sum(encoded) == toy.NUM_ITEMS + 1
    assert all(parameter.grad is None for parameter in model.items.tower.parameters())
    assert model.items.project.weight.grad is not None


@pytest.mark.parametrize("frozen_epochs", [0, 2])
def test_training_and_validation_follow_each_other(sbert: str, frozen_epochs: int) -> None:
    model = build(sbert, frozen_epochs=frozen_epochs)
    options: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    trainer = L.Trainer(max_epochs=3, accelerator="cpu", enable_checkpointing=False, num_sanity_val_steps=1, **options)
    trainer.fit(model, toy.loader(next(toy.sequence_batches())), toy.loader(toy.sampled_batch()))
    assert trainer.global_step == 3


def test_encoder_is_in_training_mode_in_training(sbert: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, modes = build(sbert), set[bool]()
    one = MoRec.loss

    def seen(model: MoRec, batch: SequenceBatch) -> dict[str, Tensor]:
        modes.update(module.training for module in model.modules())
        return one(model, batch)

    monkeypatch.setattr(MoRec, "loss", seen)
    options: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    trainer = L.Trainer(max_epochs=2, accelerator="cpu", enable_checkpointing=False, **options)
    trainer.fit(model, toy.loader(next(toy.sequence_batches())), toy.loader(toy.sampled_batch()))
    assert modes == {True}


def test_items_without_text_share_a_vector_and_are_counted(sbert: str) -> None:
    few = toy.catalogue()
    few["titles"][4] = few["titles"][30] = " "
    model = build(sbert).eval()
    with pytest.warns(UserWarning, match="2 of 40 items have no titles"):
        model.attach(few)
    assert torch.equal(model.output_table()[4], model.output_table()[30])


@pytest.mark.parametrize("trained_layers", [0, 1, None])
def test_what_a_model_says_before_it_learns_is_read_in_the_first_run_alone(
    sbert: str, trained_layers: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []
    one = LayeredTower._encode

    def counted(tower: LayeredTower, items: Tensor) -> Tensor:
        counts.append(len(items))
        return one(tower, items)

    monkeypatch.setattr(LayeredTower, "_encode", counted)

    def begun() -> MoRec:
        model = build(sbert, trained_layers=trained_layers, lr=0.1, frozen_epochs=1)
        model.attach({**toy.catalogue(), "text_cache": tmp_path})
        return model

    first = begun().items.known()
    torch.testing.assert_close(build(sbert, trained_layers=trained_layers).items.known(), first)
    counts.clear()
    assert torch.equal(begun().items.known(), first)
    assert not counts
    assert len(list(tmp_path.iterdir())) == 1


def test_what_a_model_has_learnt_is_not_kept(sbert: str, tmp_path: Path) -> None:
    model = build(sbert, encoder_lr=0.1)
    known: Catalogue = {**toy.catalogue(), "text_cache": tmp_path}
    model.attach(known)
    optimizer = model.configure_optimizers()
    assert optimizer is not None
    model.train().loss(next(toy.sequence_batches()))["loss"].backward()
    optimizer.step()
    learnt, loaded = model.eval().items.known(), build(sbert)
    loaded.load_state_dict(model.state_dict())
    loaded.attach(known)
    torch.testing.assert_close(loaded.items.known(), learnt)
    assert not list(tmp_path.iterdir())
    assert not torch.allclose(build(sbert).items.known(), learnt)


@pytest.mark.parametrize("blank", ["", " "])
def test_data_without_texts_are_refused(sbert: str, blank: str) -> None:
    none = toy.catalogue()
    none["titles"] = [blank] * (toy.NUM_ITEMS + 1)
    with pytest.raises(UserError, match="no item texts"):
        build(sbert).attach(none)


def test_the_folder_of_a_sentence_model_may_have_another_name(sbert: str, tmp_path: Path) -> None:
    checkpoint: dict[str, Any] = {}
    build(sbert).on_save_checkpoint(checkpoint)
    shutil.copytree(sbert, tmp_path / "renamed")
    renamed = build(str(tmp_path / "renamed"))
    renamed.on_load_checkpoint(checkpoint)
    assert renamed.items.tower.identity["model"] != checkpoint["sbert"]["model"]


def test_checkpoint_of_another_sentence_model_is_refused(sberts: dict[str, str]) -> None:
    checkpoint: dict[str, Any] = {}
    build(sberts["distilbert"]).on_save_checkpoint(checkpoint)
    with pytest.raises(UserError, match="trained on sentence model"):
        build(sberts["bert"]).on_load_checkpoint(checkpoint)
