"""Properties that every model must have; one subclass a model, in the model's own test module.

A model registers itself by its test class::

    class TestSASRec(SequentialCases):
        model = SASRec
        arguments = {"width": 16, "dropout": 0.2}

        def batches(self) -> Iterator[SequenceBatch]:
            return toy.sequence_batches()

``test_base.py`` fails for any :class:`Recommender` of ``common.models`` without such a class. A property that a
method breaks on purpose is switched off by naming the reason in ``exceptions``, keyed by the test's name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, ClassVar, get_args

import lightning as L
import pytest
import torch
from torch import Tensor

from common.metrics.functional import hit_rate
from common.models.base import Recommender, SequentialRecommender
from common.nn.losses import Objective
from common.types import SequenceBatch
from tests.common.models import toy
from tests.common.models.float64 import Float64


class ModelCases:
    """Generic properties; ``SequentialCases`` adds those of models that are trained on histories."""

    model: ClassVar[type[Recommender]]
    arguments: ClassVar[dict[str, Any]] = {}
    """Constructor arguments beside ``num_items``, small enough for a test."""
    exceptions: ClassVar[dict[str, str]] = {}
    """Names of tests that this model fails on purpose, with the reason."""

    @pytest.fixture(autouse=True)
    def _excepted(self, request: pytest.FixtureRequest) -> None:
        reason = self.exceptions.get(request.node.originalname)
        if reason:
            pytest.skip(reason)

    def build(self) -> Recommender:
        torch.manual_seed(0)
        model = self.model(num_items=toy.NUM_ITEMS, **self.arguments)
        model.attach(toy.catalogue())
        return model.eval()

    def scores(self, model: Recommender, batch: SequenceBatch) -> Tensor:
        with torch.inference_mode():
            return model.score(batch) if "candidates" in batch else model.score_catalogue(batch)

    def test_attaching_leaves_the_catalogue_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        known = toy.catalogue(returning=True)
        before = deepcopy(known)
        monkeypatch.setattr(toy, "catalogue", lambda: known)
        self.build()
        assert all(map(torch.equal, tensors(known), tensors(before)))

    def test_permuted_candidates_permute_scores(self) -> None:
        model, batch = self.build(), toy.sampled_batch()
        order = torch.randperm(20)
        permuted: SequenceBatch = {**batch, "candidates": batch["candidates"][:, order]}
        torch.testing.assert_close(self.scores(model, permuted), self.scores(model, batch)[:, order])

    def test_list_and_catalogue_give_the_same_score(self) -> None:
        model, batch = self.build(), toy.sampled_batch()
        full = self.scores(model, toy.full_batch()).gather(1, batch["candidates"])
        torch.testing.assert_close(self.scores(model, batch), full, atol=1e-5, rtol=1e-4)

    def test_score_does_not_depend_on_the_rest_of_the_batch(self) -> None:
        model, batch = self.build(), toy.sampled_batch()
        mixed = self.scores(model, batch)
        for row in (0, 7):
            alone = {k: v[row : row + 1] if isinstance(v, Tensor) else v for k, v in batch.items()}
            torch.testing.assert_close(self.scores(model, alone)[0], mixed[row], atol=1e-5, rtol=1e-4)  # type: ignore[arg-type]  # a comprehension loses the keys

    def test_more_padding_does_not_change_scores(self) -> None:
        model = self.build()
        narrow, wide = toy.sampled_batch(toy.MAX_HISTORY - 2), toy.sampled_batch()
        short = (wide["history"] != 0).sum(1) <= toy.MAX_HISTORY - 2
        torch.testing.assert_close(
            self.scores(model, narrow)[short], self.scores(model, wide)[short], atol=1e-5, rtol=1e-4
        )

    def test_evaluation_is_deterministic(self) -> None:
        model, batch = self.build(), toy.sampled_batch()
        assert torch.equal(self.scores(model, batch), self.scores(model, batch))

    def test_mixed_precision_leaves_ranks_alone(self) -> None:
        model = self.build()
        for batch in (toy.sampled_batch(), toy.full_batch()):
            with torch.inference_mode():
                exact = model.rank(batch)
                with torch.autocast("cpu", torch.bfloat16):
                    mixed = model.rank(batch)
            assert all(torch.equal(mixed[name], exact[name]) for name in exact)

    def test_untrained_items_score_alike(self) -> None:
        model, batch = self.build(), toy.sampled_batch()
        batch["candidates"] = torch.tensor(toy.UNTRAINED).expand(toy.NUM_USERS, -1)
        scores = self.scores(model, batch)
        torch.testing.assert_close(scores[:, 0], scores[:, 1])

    def test_checkpoint_gives_the_same_scores(self, tmp_path: Path) -> None:
        model, batch = self.build(), toy.sampled_batch()
        trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
        trainer.strategy.connect(model)
        trainer.save_checkpoint(tmp_path / "best.ckpt")
        restored = self.model.load_from_checkpoint(tmp_path / "best.ckpt", weights_only=True, map_location="cpu")
        restored.attach(toy.catalogue())
        assert torch.equal(self.scores(restored.eval(), batch), self.scores(model, batch))

    def test_scores_need_no_float64(self) -> None:
        model, batches = self.build(), (toy.sampled_batch(), toy.full_batch())
        with Float64() as made:
            for batch in batches:
                self.scores(model, batch)
        assert not made.found

    def test_ranks_lie_within_the_candidates(self) -> None:
        model = self.build()
        for batch in (toy.sampled_batch(), toy.full_batch()):
            with torch.inference_mode():
                ranks = model.rank(batch)
            assert bool((ranks["higher"] + ranks["equal"] < ranks["num_candidates"]).all())
            assert bool((ranks["higher"] >= 0).all() & (ranks["equal"] >= 0).all())


class TrainedCases(ModelCases):
    """Properties of models that are trained by gradient."""

    steps: ClassVar[int] = 300
    """Steps that learn the toy world by heart."""
    lr: ClassVar[float] = 1e-2

    def batches(self) -> Iterator[SequenceBatch]:
        """Endless training batches of the kind that the model wants, from :mod:`tests.common.models.toy`."""
        return toy.sequence_batches()

    def optimise(self, model: Recommender, optimiser: torch.optim.Optimizer, batch: SequenceBatch) -> float:
        optimiser.zero_grad()
        loss = model.loss(batch)["loss"]
        loss.backward()
        optimiser.step()
        return float(loss.detach())

    def test_a_step_downhill_lowers_the_loss(self) -> None:
        model, batch = self.build().train(), next(self.batches())
        losses = []
        for _ in range(2):
            torch.manual_seed(1)  # the same dropout in both
            loss = model.loss(batch)["loss"]
            losses.append(float(loss.detach()))
            slopes = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
            length = torch.stack([slope.norm() for slope in slopes if slope is not None]).norm()
            with torch.no_grad():
                for parameter, slope in zip(model.parameters(), slopes, strict=True):
                    if slope is not None:
                        parameter.sub_(slope, alpha=float(1e-2 / length))
        assert losses[1] < losses[0]

    def test_loss_needs_no_float64(self) -> None:
        model, batch = self.build().train(), next(self.batches())
        with Float64() as made:
            model.loss(batch)["loss"].backward()
        assert not made.found

    def test_every_parameter_has_a_gradient(self) -> None:
        model = self.build().train()
        model.loss(next(self.batches()))["loss"].backward()
        missing = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
        assert not missing, f"no gradient reaches {missing}"

    def test_learns_a_toy_world_by_heart(self) -> None:
        model, batches = self.build().train(), self.batches()
        optimiser = torch.optim.Adam(model.parameters(), lr=self.lr)
        for _ in range(self.steps):
            self.optimise(model, optimiser, next(batches))
        with torch.inference_mode():
            ranks = model.eval().rank(toy.sampled_batch())
        assert float(hit_rate(ranks["higher"], ranks["equal"], 1).mean()) >= 0.9


class SequentialCases(TrainedCases):
    """Properties of models with ``encode``."""

    def test_states_do_not_see_later_items(self) -> None:
        model, batch = self.build(), toy.full_batch()
        assert isinstance(model, SequentialRecommender)
        changed: SequenceBatch = {**batch, "history": batch["history"].clone()}
        changed["history"][:, -2:] = changed["history"][:, -2:] % toy.NUM_ITEMS + 1
        with torch.inference_mode():
            before, after = model.encode(batch), model.encode(changed)
        if before.size(1) == 1:
            pytest.skip("a last-state model has no earlier states")
        assert torch.equal(before[:, :-2], after[:, :-2])
        assert not torch.equal(before[:, -1], after[:, -1])

    @pytest.mark.parametrize("objective", get_args(Objective))
    def test_every_objective_moves_the_weights(self, objective: Objective) -> None:
        model, batch = self.build().train(), next(self.batches())
        assert isinstance(model, SequentialRecommender)
        model.objective = objective
        loss = model.loss(batch)["loss"]
        loss.backward()
        assert torch.isfinite(loss.detach())
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        assert sum(float(gradient.abs().sum()) for gradient in gradients) > 0
        assert all(bool(torch.isfinite(gradient).all()) for gradient in gradients)


def tensors(part: object) -> Iterator[Tensor]:
    """All tensors within nested mappings."""
    if isinstance(part, Tensor):
        yield part
    elif isinstance(part, Mapping):
        for value in part.values():
            yield from tensors(value)


def registered() -> set[type[Recommender]]:
    """Models that a test class names, over all test modules imported so far."""
    found, stack = set(), list(ModelCases.__subclasses__())
    while stack:
        case = stack.pop()
        stack.extend(case.__subclasses__())
        if "model" in vars(case):
            found.add(case.model)
    return found
