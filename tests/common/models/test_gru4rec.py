from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins import HalfPrecision
from scipy.stats import chisquare
from torch import Tensor

from common.data.datasets import EpochSampler
from common.data.loader import LazyLoader, as_is
from common.data.sessions import SessionDataset
from common.errors import UserError
from common.models.base import Recommender
from common.models.gru4rec import GRU4Rec, Variant
from common.nn.adagrad import Adagrad
from common.nn.losses import Objective
from common.types import SequenceBatch, Split
from tests.common.models import toy
from tests.common.models.cases import SequentialCases
from tests.common.models.float64 import Float64


class TestGRU4RecSession(SequentialCases):
    model = GRU4Rec
    arguments = {"hidden_size": 32, "num_extras": 20, "sparse": False}
    exceptions = {"test_loss_needs_no_float64": "extras are drawn on the CPU where the device has no float64"}

    def build(self) -> Recommender:
        model = super().build()
        assert isinstance(model, GRU4Rec)
        # Without slots that remember, two losses of one batch differ by the weights alone.
        model.reset_slots()
        return model

    def batches(self) -> Iterator[SequenceBatch]:
        return toy.session_batches()

    def test_a_step_downhill_lowers_the_loss(self) -> None:
        model, batch = self.build().train(), next(self.batches())
        assert isinstance(model, GRU4Rec)
        optimiser = torch.optim.SGD(model.parameters(), lr=1e-2)
        losses = []
        for _ in range(2):
            torch.manual_seed(1)
            model.reset_slots()
            losses.append(self.optimise(model, optimiser, batch))
        assert losses[1] < losses[0]


class TestGRU4RecSessionBPRMax(TestGRU4RecSession):
    arguments = {"hidden_size": 32, "num_extras": 20, "sparse": False, "objective": "bpr_max"}


class TestGRU4RecAllPositions(SequentialCases):
    model = GRU4Rec
    arguments = {"variant": "allpos", "hidden_size": 24}
    steps = 120


class TestGRU4RecPrefix(SequentialCases):
    model = GRU4Rec
    arguments = {"variant": "prefix", "hidden_size": 24, "width": 16}
    steps = 200

    def batches(self) -> Iterator[SequenceBatch]:
        return toy.prefix_batches()


def _model(variant: Variant = "session", objective: Objective | None = None, **arguments: float) -> GRU4Rec:
    model = GRU4Rec(toy.NUM_ITEMS, variant, 8, num_extras=6, objective=objective, **arguments)  # type: ignore[arg-type]  # values of several types
    model.attach(toy.catalogue())
    return model


def _alone(model: GRU4Rec, items: list[int]) -> list[Tensor]:
    """States of a naive GRU cell over one session."""
    gru, state, states = dict(model.gru.named_parameters()), torch.zeros(8), []
    for item in items:
        read = gru["weight_ih_l0"] @ model.item_embedding.weight[item] + gru["bias_ih_l0"]
        back = gru["weight_hh_l0"] @ state + gru["bias_hh_l0"]
        reset, update = (read[:16] + back[:16]).sigmoid().chunk(2)
        candidate = torch.tanh(read[16:] + reset * back[16:])
        state = (1 - update) * candidate + update * state
        states.append(state)
    return states


SESSIONS = {1: [3, 7, 9], 2: [5, 5], 3: [8, 1, 2, 6], 4: [4]}
SCHEDULE = [[1, 2, 4], [1, 2, 3], [1, 3], [3], [3]]
"""Users in the slots at each step: 3 takes over from 4, then slots close and the rest move up."""


@pytest.mark.parametrize("swapped", [False, True])
def test_sessions_in_parallel_equal_sessions_alone(swapped: bool) -> None:
    model = _model()
    done: dict[int, list[Tensor]] = {user: [] for user in SESSIONS}
    for step, users in enumerate(SCHEDULE):
        order = users[::-1] if swapped and step % 2 else users
        items, targets = ([[*SESSIONS[user], 0][len(done[user]) + shift] for user in order] for shift in (0, 1))
        states = model.advance(torch.tensor(order), torch.tensor(items), torch.tensor(targets))
        for user, state in zip(order, states, strict=True):
            done[user].append(state)
    for user, items_of_user in SESSIONS.items():
        torch.testing.assert_close(torch.stack(done[user]), torch.stack(_alone(model, items_of_user)))


def test_no_gradient_reaches_the_step_before() -> None:
    model = _model()
    user, (first, second, third) = torch.tensor([1]), torch.tensor([[3], [7], [9]])
    model.advance(user, first, second)
    model.advance(user, second, third).sum().backward()
    grad = model.item_embedding.weight.grad
    assert grad is not None
    touched = grad.to_dense().abs().sum(1).nonzero().flatten()
    assert touched.tolist() == [7]


def test_an_epoch_starts_from_zero_states() -> None:
    model, items, users = _model(), torch.tensor([3, 4]), torch.tensor([1, 2])
    first = model.advance(users, items, items)
    assert not torch.equal(model.advance(users, items, items), first)
    model.on_train_batch_start(next(toy.session_batches()), 0)
    assert torch.equal(model.advance(users, items, items), first)


class Noise(L.Callback):
    """The same extras and dropout in a step, whatever came before."""

    def on_train_batch_start(self, trainer: L.Trainer, *rest: object) -> None:
        torch.manual_seed(trainer.global_step)


def _sessions() -> LazyLoader:
    sequences = toy.catalogue(returning=True)["train"]
    none = {"user": torch.zeros(0, dtype=torch.long), "position": torch.zeros(0, dtype=torch.long)}
    split: Split = {"sequences": sequences, "train_end": sequences["offsets"][1:], "val": none, "test": none}  # type: ignore[typeddict-item]  # a plain dictionary of cases
    dataset = SessionDataset(split, slots=8)
    return LazyLoader(dataset, batch_size=None, sampler=EpochSampler(dataset, shuffle=False), collate_fn=as_is)


def _trained(folder: Path, resume: Path | None = None) -> dict[str, Tensor]:
    """Weights after 30 steps, with a checkpoint of each."""
    torch.manual_seed(0)
    model, keep = _model(dropout_hidden=0.2), ModelCheckpoint(folder, "{step}", save_top_k=-1, every_n_train_steps=1)
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = L.Trainer(max_steps=30, accelerator="cpu", callbacks=[Noise(), keep], **quiet)
    trainer.fit(model, _sessions(), ckpt_path=resume, weights_only=True)
    return model.state_dict()


def test_a_training_resumed_at_any_step_ends_with_the_weights_of_an_unbroken_one(tmp_path: Path) -> None:
    whole, epoch = _trained(tmp_path), len(_sessions())
    assert 20 < epoch < 28
    for step in (1, 7, epoch - 1, epoch, epoch + 1):
        rest = _trained(tmp_path / str(step), tmp_path / f"step={step}.ckpt")
        assert all(torch.equal(rest[name], value) for name, value in whole.items()), step


def test_a_user_who_starts_over_starts_from_zero() -> None:
    model, user = _model(), torch.tensor([1])
    first = model.advance(user, torch.tensor([3]), torch.tensor([7]))
    assert torch.equal(model.advance(user, torch.tensor([3]), torch.tensor([7])), first)


@pytest.mark.parametrize("variant", ["session", "prefix", "allpos"])
def test_replay_equals_a_naive_cell(variant: Variant) -> None:
    model = GRU4Rec(toy.NUM_ITEMS, variant, 8, width=8).eval()
    history = torch.tensor([[0, 0, 3, 7], [0, 0, 0, 9], [1, 2, 3, 4], [0, 0, 0, 0]])
    states = model.encode({"history": history})
    for row, found in zip(history.tolist(), states, strict=True):
        expected = _alone(model, [item for item in row if item]) or [torch.zeros(8)]
        wanted = torch.stack(expected[-found.size(0) :])
        if model.project is not None:
            wanted = model.project(wanted)
        torch.testing.assert_close(found[-len(wanted) :], wanted)
        assert not found[: -len(wanted)].any()


def test_loss_of_a_step_is_the_papers_cross_entropy() -> None:
    model = _model(logq=0.7, sample_alpha=0.3)
    targets, extras = torch.tensor([3, 5, 3]), torch.tensor([7, 3, 9])
    states, count = torch.randn(3, 8), toy.catalogue()["train_count"].float()
    model.num_slots = 4
    columns = torch.cat([targets, extras])
    scores = states @ model.item_embedding.weight[columns].T + model.item_bias.weight[columns, 0]  # type: ignore[union-attr]  # this variant has biases
    scores -= 0.7 * torch.cat([count[targets].log(), 0.3 * count[extras].log()])
    expected = -scores.softmax(1)[torch.arange(3), torch.arange(3)].log().sum() / 4
    torch.testing.assert_close(model.step_loss(states, targets, extras), expected)


def test_loss_of_a_step_is_the_papers_bpr_max() -> None:
    model = _model(objective="bpr_max", elu=0.5, score_penalty=1.5)
    targets, extras, states = torch.tensor([3, 5]), torch.tensor([7, 3]), torch.randn(2, 8)
    model.num_slots = 2
    scores = F.elu(states @ model.item_embedding.weight[torch.cat([targets, extras])].T, 0.5)
    total = torch.zeros(())
    for row in range(2):
        others = scores[row][torch.arange(4) != row]
        weight = others.softmax(0)
        total = total - (weight * (scores[row, row] - others).sigmoid()).sum().log()
        total = total + 1.5 * (weight * others.square()).sum()
    torch.testing.assert_close(model.step_loss(states, targets, extras), total / 2)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_extras_come_in_proportion_to_a_power_of_their_count(alpha: float) -> None:
    model = GRU4Rec(5, num_extras=20_000, sample_alpha=alpha)
    count = torch.tensor([0, 50, 0, 4, 100, 1])
    model.attach({**toy.catalogue(), "train_count": count})
    found = torch.bincount(model.draw_extras(), minlength=6)
    seen = count > 0
    weight = count[seen].double() ** alpha
    assert found[~seen].sum() == 0
    assert chisquare(found[seen].numpy(), (weight / weight.sum() * 20_000).numpy()).pvalue > 1e-3


def test_popularity_needs_no_float64_of_the_device() -> None:
    model = GRU4Rec(toy.NUM_ITEMS).to("meta")
    with Float64("meta") as made:
        model.attach(toy.catalogue())
    assert not made.found
    assert model.popularity.is_meta
    assert model.log_count.is_meta


def test_a_trainer_in_half_precision_draws_the_same_extras() -> None:
    model = GRU4Rec(3000, num_extras=5000)
    model.attach({**toy.catalogue(), "train_count": torch.arange(3001)})
    torch.manual_seed(1)
    exact = model.draw_extras()
    precision = HalfPrecision("bf16-true")
    precision.convert_module(model)
    assert model.item_embedding.weight.dtype == torch.bfloat16
    torch.manual_seed(1)
    with precision.train_step_context():
        assert torch.equal(model.draw_extras(), exact)


def test_closed_slots_do_not_raise_the_weight_of_the_rest() -> None:
    losses = []
    for opened in (True, False):
        model, batch = _model(), next(toy.session_batches())
        if opened:
            model.loss({**batch, "user_id": batch["user_id"] + toy.NUM_USERS})
        torch.manual_seed(3)
        alone: SequenceBatch = {
            "user_id": batch["user_id"][:1],
            "history": batch["history"][:1],
            "targets": batch["targets"][:1],
        }
        torch.nn.init.ones_(model.item_embedding.weight)
        losses.append(model.loss(alone)["loss"] * (toy.NUM_USERS if opened else 1))
    torch.testing.assert_close(*losses)


@pytest.mark.parametrize("objective", ["bce", "bpr", "bpr_max", "sampled_softmax", "gbce", "ce"])
@pytest.mark.parametrize("variant", ["session", "allpos"])
def test_every_objective_trains(variant: Variant, objective: Objective) -> None:
    model = _model(variant, objective)
    batch = next(toy.session_batches() if variant == "session" else toy.sequence_batches())
    model.loss(batch)["loss"].backward()
    grad = dict(model.gru.named_parameters())["weight_ih_l0"].grad
    assert grad is not None
    assert float(grad.norm()) > 0


@pytest.mark.parametrize("objective", ["bpr_max", "sampled_softmax", "ce"])
def test_tables_tell_the_kind_of_gradient_that_a_step_gives_them(objective: Objective) -> None:
    model = _model(objective=objective)
    model.loss(next(toy.session_batches()))["loss"].backward()
    assert model.item_bias is not None
    for table in (model.item_embedding, model.item_bias):
        assert table.weight.grad is not None
        assert table.weight.grad.is_sparse == table.sparse


def test_sparse_and_dense_steps_learn_the_same_without_momentum() -> None:
    weights = []
    for sparse in (True, False):
        torch.manual_seed(0)
        model = _model(sparse=sparse)
        optimiser, batches = model.configure_optimizers(), toy.session_batches()
        assert isinstance(optimiser, Adagrad)
        for _ in range(6):
            optimiser.zero_grad()
            model.loss(next(batches))["loss"].backward()
            optimiser.step()
        weights.append(model.item_embedding.weight.detach())
    torch.testing.assert_close(*weights)


def test_number_of_parameters_of_the_lrd_variant() -> None:
    model = GRU4Rec(30, "prefix")
    assert sum(p.numel() for p in model.parameters()) == 49_800 + 6_400 + 64 * 31


def test_clipping_of_sparse_gradients_is_refused() -> None:
    model = _model()
    with pytest.raises(UserError, match="sparse"):
        model.configure_gradient_clipping(Adagrad(model.parameters(), lr=0.1), 1.0)


def test_other_instances_are_refused() -> None:
    with pytest.raises(UserError, match=r"data\.instances"):
        _model().loss(next(toy.sequence_batches()))


@pytest.mark.parametrize("arguments", [{"num_extras": 0}, {"weight_decay": 0.1}])
def test_arguments_out_of_range_are_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(UserError, match=next(iter(arguments))):
        GRU4Rec(5, **arguments)  # type: ignore[arg-type]  # values of several types
