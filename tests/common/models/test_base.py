import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from jaxtyping import Float
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

import common.models
import tests.common.models
from common.errors import UserError
from common.models.base import Recommender, SequentialRecommender
from common.models.gru4rec import GRU4Rec
from common.models.ncf import NCF
from common.models.nextitnet import NextItNet
from common.models.sasrec import SASRec
from common.models.tisasrec import TiSASRec
from common.nn.embedding import ItemEmbedding
from common.nn.losses import Objective
from common.types import SequenceBatch
from tests.common.models import cases, toy


def _modules(package: ModuleType) -> Iterator[ModuleType]:
    for found in pkgutil.iter_modules(package.__path__, prefix=f"{package.__name__}."):
        yield importlib.import_module(found.name)


def test_every_model_has_a_registered_case() -> None:
    list(_modules(tests.common.models))
    models = {
        member
        for module in _modules(common.models)
        for _, member in inspect.getmembers(module, inspect.isclass)
        if issubclass(member, Recommender) and member.__module__ == module.__name__ and not inspect.isabstract(member)
    }
    missing = sorted(model.__name__ for model in models - cases.registered())
    assert not missing, f"no test class names {missing} as its `model` (tests/common/models/cases.py)"


class Unbiased(SequentialRecommender):
    """Sum of item vectors; states after each position."""

    def __init__(self, num_items: int, objective: Objective = "bce") -> None:
        super().__init__(num_items, objective=objective)
        self.save_hyperparameters()
        self.item_embedding = ItemEmbedding(num_items, 6)

    def encode(self, batch: SequenceBatch) -> Float[Tensor, "b p d"]:
        states: Tensor = self.item_embedding(batch["history"])
        return states.cumsum(1)


def _model(objective: Objective = "bce") -> Unbiased:
    model = Unbiased(toy.NUM_ITEMS, objective)
    model.attach(toy.catalogue())
    return model.eval()


def test_an_objective_without_the_negatives_that_it_wants_is_refused() -> None:
    batch = next(toy.sequence_batches())
    del batch["negatives"]
    with pytest.raises(UserError, match="num_negatives is 0"):
        _model("bce").loss(batch)
    assert torch.isfinite(_model("ce").loss(batch)["loss"])


@pytest.mark.parametrize("model", [SASRec, GRU4Rec])
@pytest.mark.parametrize(("option", "value"), [("calibration", 5.0), ("calibration", -0.5), ("score_penalty", -1.0)])
def test_weights_of_an_objective_out_of_range_are_refused(
    model: type[SASRec] | type[GRU4Rec], option: str, value: float
) -> None:
    with pytest.raises(UserError, match=rf"--model\.{option} is {value}"):
        model(5, **{option: value})  # type: ignore[arg-type]  # values of several types


@torch.inference_mode()
def test_full_ranking_agrees_with_a_loop() -> None:
    model, batch = _model(), toy.full_batch()
    ranks, scores = model.rank(batch), model.score_catalogue(batch)
    for row in range(toy.NUM_USERS):
        seen, target = set(batch["seen"][row].tolist()), int(batch["target"][row])
        candidates = [item for item in range(1, toy.NUM_ITEMS + 1) if item not in seen]
        assert ranks["num_candidates"][row] == len(candidates)
        assert ranks["higher"][row] == sum(bool(scores[row, item] > scores[row, target]) for item in candidates)
        best = sorted(candidates, key=lambda item: -float(scores[row, item]))[:10]
        assert set(ranks["top_items"][row].tolist()) == set(best) or len(set(scores[row, candidates].tolist())) < 30


@torch.inference_mode()
def test_unmasked_ranking_counts_seen_items() -> None:
    model, batch = _model(), toy.full_batch()
    masked = model.rank(batch)
    unmasked = model.rank({**batch, "seen": batch["seen"][:, :0]})
    assert bool((unmasked["num_candidates"] == toy.NUM_ITEMS).all())
    assert bool((unmasked["higher"] >= masked["higher"]).all())
    assert bool((unmasked["higher"] > masked["higher"]).any())


@torch.inference_mode()
def test_lists_are_filled_with_padding_where_nothing_is_left() -> None:
    model, batch = _model(), toy.full_batch()
    batch["seen"] = torch.stack([torch.tensor([i for i in range(1, 41) if i != t]) for t in batch["target"].tolist()])
    best = model.recommend(batch)
    assert torch.equal(best["items"][:, 0], batch["target"])
    assert best["items"][:, 1:].abs().sum() == 0


@torch.inference_mode()
def test_lists_are_as_long_as_asked() -> None:
    model, batch = _model(), toy.full_batch()
    usual, shorter, longer = (model.recommend(batch, k) for k in (None, 3, 25))
    assert usual["items"].size(1) == model.list_length
    assert torch.equal(shorter["items"], longer["items"][:, :3])
    assert torch.equal(usual["scores"], longer["scores"][:, : model.list_length])
    assert longer["scores"].shape == (toy.NUM_USERS, 25)


def test_weights_are_those_that_the_hook_of_the_model_leaves() -> None:
    class Renamed(Unbiased):
        def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            checkpoint["state_dict"] = {name.removeprefix("old."): w for name, w in checkpoint["state_dict"].items()}

    model, restored = _model(), Renamed(toy.NUM_ITEMS)
    restored.restore({"state_dict": {f"old.{name}": weight for name, weight in model.state_dict().items()}})
    assert all(torch.equal(weight, restored.state_dict()[name]) for name, weight in model.state_dict().items())


@torch.inference_mode()
def test_chunks_of_a_batch_give_the_ranks_of_the_whole() -> None:
    model, batch = _model(), toy.full_batch()
    whole = model.rank(batch)
    model.chunk_rows = 3
    chunked = model.rank(batch)
    assert all(torch.equal(whole[name], chunked[name]) for name in whole)


@torch.inference_mode()
def test_scores_of_the_catalogue_take_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recommender, "score_bytes", 6 * 4 * (toy.NUM_ITEMS + 1))
    model, batch, rows = _model(), toy.full_batch(), list[int]()
    whole = model.score_catalogue

    def counted(part: SequenceBatch) -> torch.Tensor:
        rows.append(len(part["history"]))
        return whole(part)

    monkeypatch.setattr(model, "score_catalogue", counted)
    model.rank(batch)
    assert sum(rows) == len(batch["history"])
    assert max(rows) == 6


@torch.inference_mode()
@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried …"),
    ],
)
def test_a_batch_that_does_not_fit_is_halved(error: RuntimeError, monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch, tried = _model(), toy.full_batch(), []
    expected, score = model.rank(batch), model.score_catalogue

    def scarce(piece: SequenceBatch) -> Tensor:
        tried.append(len(piece["history"]))
        if tried[-1] > 6:
            raise error
        return score(piece)

    monkeypatch.setattr(model, "score_catalogue", scarce)
    assert all(torch.equal(value, expected[name]) for name, value in model.rank(batch).items())
    assert tried == [20, 10, 5, 5, 5, 5]
    model.rank(batch)
    assert tried[6:] == [5, 5, 5, 5], "what fits is remembered"


@pytest.mark.parametrize(
    ("message", "error", "said"),
    [("shapes differ", RuntimeError, "shapes differ"), ("CUDA out of memory", UserError, "not even one row")],
)
def test_other_errors_and_a_single_row_are_not_retried(
    message: str, error: type[Exception], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = _model()
    monkeypatch.setattr(model, "score_catalogue", _raising(RuntimeError(message)))
    with pytest.raises(error, match=said):
        model.rank(toy.full_batch())


def _raising(error: RuntimeError) -> Callable[[SequenceBatch], Tensor]:
    def scores(_: SequenceBatch) -> Tensor:
        raise error

    return scores


@torch.inference_mode()
def test_chunks_of_candidates_give_the_catalogue() -> None:
    model, batch = _model(), toy.full_batch()
    chunked = Recommender.score_catalogue
    model.catalogue_chunk = 7  # type: ignore[misc]  # changed for one instance
    torch.testing.assert_close(chunked(model, batch)[:, 1:], model.score_catalogue(batch)[:, 1:])


@torch.inference_mode()
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("protocol", ["full", "sampled-19"])
def test_bad_scores_end_in_one_clear_message(value: float, protocol: str) -> None:
    model, batch = _model(), toy.full_batch() if protocol == "full" else toy.sampled_batch()
    model.item_embedding.weight[int(batch["target"][3])] = value
    with pytest.raises(UserError, match=r"NaN or infinite scores of Unbiased[\s\S]*learning rate"):
        model.rank(batch)


def _trainer(**options: Any) -> L.Trainer:  # noqa: ANN401 (Lightning's)
    return L.Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )


def test_a_loss_that_is_not_finite_ends_training_with_the_cure() -> None:
    model = _model()
    model.item_embedding.weight.data[3] = torch.nan
    batches = toy.loader(next(toy.sequence_batches()))
    with pytest.raises(
        UserError, match=r"NaN or infinite loss of Unbiased at step 0[\s\S]*learning rate \(now 0.001\)"
    ):
        _trainer().fit(model, batches)


def test_fit_logs_losses_and_validation_metrics() -> None:
    model, trainer = Unbiased(toy.NUM_ITEMS), _trainer()
    model.attach(toy.catalogue())
    before = model.item_embedding.weight.detach().clone()
    trainer.fit(model, toy.loader(next(toy.sequence_batches())), toy.loader(toy.full_batch()))
    expected = {"train/loss", "val/hr@1", "val/ndcg@10", "val/mrr", "val/tie_share", "val/coverage@10"}
    assert expected <= set(trainer.callback_metrics)
    assert not torch.equal(before, model.item_embedding.weight)


@pytest.mark.parametrize("objective", ["bce", "bpr", "bpr_max", "sampled_softmax", "gbce", "ce"])
def test_every_objective_trains_every_model(objective: Objective) -> None:
    model, batch = _model(objective=objective).train(), next(toy.sequence_batches(num_negatives=3))
    loss = model.loss(batch)["loss"]
    loss.backward()
    assert torch.isfinite(loss.detach())
    assert model.item_embedding.weight.grad is not None
    assert model.item_embedding.weight.grad.abs().sum() > 0


WAITS = {"aten::nonzero", "aten::_local_scalar_dense"}
"""Operations that wait for an accelerator, because what comes next depends on the values that they find."""


@pytest.mark.parametrize(
    ("model", "batches", "most"),
    [
        (SASRec(toy.NUM_ITEMS), toy.sequence_batches, 3),
        (TiSASRec(toy.NUM_ITEMS), toy.sequence_batches, 3),
        (NextItNet(toy.NUM_ITEMS), toy.sequence_batches, 2),
        (GRU4Rec(toy.NUM_ITEMS), toy.session_batches, 0),
        (NCF(toy.NUM_ITEMS, toy.NUM_USERS), toy.prefix_batches, 1),
    ],
)
def test_a_training_step_seldom_waits(
    model: Recommender, batches: Callable[[], Iterator[SequenceBatch]], most: int
) -> None:
    model.attach(toy.catalogue())
    batch = next(batches())
    with profile(activities=[ProfilerActivity.CPU]) as trace:
        model.train().loss(batch)["loss"].backward()
    assert sum(event.count for event in trace.key_averages() if event.key in WAITS) <= most


def test_padded_targets_do_not_change_the_loss() -> None:
    model, batch = _model(), next(toy.sequence_batches())
    changed: SequenceBatch = {**batch, "negatives": batch["negatives"].clone()}
    changed["negatives"][batch["targets"] == 0] = 1
    assert torch.equal(model.loss(batch)["loss"], model.loss(changed)["loss"])


def test_last_state_alone_is_trained_on_one_target() -> None:
    model, batch = _model(), next(toy.prefix_batches())
    states = model.encode(batch)[:, -1]
    positive = model.match(states, batch["targets"])[:, 0]
    negative = model.match(states, batch["negatives"][:, 0])[:, 0]
    expected = (torch.nn.functional.softplus(-positive) + torch.nn.functional.softplus(negative)).mean()
    torch.testing.assert_close(model.loss(batch)["loss"], expected)


@pytest.mark.parametrize("count", [1, toy.NUM_ITEMS])
def test_training_scores_of_few_and_many_negatives_are_the_same_function(count: int) -> None:
    model = _model().train()
    items = torch.randint(1, toy.NUM_ITEMS + 1, (5, count))
    states = torch.randn(5, 6)
    (gradient,) = torch.autograd.grad(model.match(states, items).square().sum(), model.item_embedding.weight)
    table = model.item_embedding.weight.detach().clone().requires_grad_()
    scores = torch.stack([states[row] @ table[item] for row in range(5) for item in items[row].tolist()])
    torch.testing.assert_close(model.match(states, items).flatten(), scores)
    torch.testing.assert_close(gradient, torch.autograd.grad(scores.square().sum(), table)[0])


def test_adam_is_not_fused_where_lightning_would_not_clip_for_it() -> None:
    model = Unbiased(3)
    cases = ((None, "32-true", True), (1.0, "bf16-true", True), (None, "16-mixed", True), (1.0, "16-mixed", False))
    for clip, precision, fused in cases:
        model._trainer = SimpleNamespace(gradient_clip_val=clip, precision=precision)  # type: ignore[assignment]
        assert isinstance(optimizer := model.configure_optimizers(), torch.optim.Adam)
        assert optimizer.defaults["fused"] is fused


def test_gradients_are_clipped_in_mixed_precision() -> None:
    model, trainer = _model(), _trainer(precision="bf16-mixed", gradient_clip_val=1e-3, max_steps=1)
    trainer.fit(model, toy.loader(next(toy.sequence_batches())))
    norms = [parameter.grad.norm() for parameter in model.parameters() if parameter.grad is not None]
    assert torch.stack(norms).norm() < 1.01e-3
