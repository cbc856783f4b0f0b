"""From a prepared store to the batches that models read."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import lightning as L
import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from common.data.datasets import (
    EpochSampler,
    EvaluationDataset,
    HistoryDataset,
    PrefixDataset,
    SequenceDataset,
    TrainingDataset,
    WindowDataset,
    least_events,
)
from common.data.loader import LazyLoader, Loader, as_is
from common.data.negatives import NegativeRule, NegativeSampler, seeded
from common.data.scenarios import slices, slices_of_events
from common.data.sessions import SessionDataset
from common.data.splits import cut_times, global_temporal
from common.data.stores import find_store
from common.data.views import OVERALL, View, users_seen, view, with_training
from common.errors import DataError, UserError, at_least
from common.types import Catalogue, SequenceBatch, Sequences, Split

FULL = {"full": True, "full-unmasked": False}
"""Protocols that need no stored candidates, and whether they leave out what the user has seen."""
USERS_SEED = 0
"""Seed of the draw of validation and test users: never a run's own, so that all runs have the same users."""


class SequenceDataModule(L.LightningDataModule):
    """Interaction histories of one prepared data set, as training instances and evaluation cases.

    Args:
        dataset: Key of the data set, as given to ``recbench prepare``.
        root: Folder of all prepared stores.
        recipe: Recipe of the store; needed where several recipes are prepared.
        store: Id of the store (``<recipe>-<hash>``); needed where a recipe is prepared with several arguments.
        split: ``leave_one_out`` holds out each user's last two events, ``global_temporal`` all events after two dates.
        instances: What trains: ``sequence`` (a user's last events, each predicting the next), ``prefix`` (an event
            from those before it), ``window`` (several events from those before them; Caser) or ``session`` (users in
            lock step, one event at a time; GRU4Rec).
        max_history: Number of newest events of a user that a model sees.
        min_history: Number of earlier events that a target needs; ``prefix`` only.
        num_targets: Number of targets of a window; ``window`` only.
        num_negatives: Negatives drawn per target (per window with ``window``); 0 for objectives that need none.
        negatives: What negatives avoid: the user's training items (``train``), held-out ones too (``complete``, a
            leak), or nothing (``none``); ``in-batch`` takes the targets of other rows of the batch instead.
        batch_size: Training instances per batch; with ``session``, users in lock step.
        eval_batch_size: Evaluation cases per batch.
        val_protocol: Protocol of validation: ``full``, ``full-unmasked`` or stored candidates such as ``sampled-99``.
        test_protocols: Protocols of the test.
        test_users: Number of test users, the same for all runs; all if not given. The K users of ``few-shot-K`` are
            tested beside them.
        val_users: Number of validation users, the same for all runs; all if not given.
        allow_imputed_time: Whether times that were not recorded may be used where recorded ones are needed.
        num_workers: Processes that build batches; 0 builds them in the training process.
        seed: Seed of the order of instances and of negatives.
        scenario: Users to train on and users to test: ``overall`` or, with ``leave_one_out`` only, ``cold-users`` or
            ``few-shot-K`` (:func:`common.data.views.view`).

    Raises:
        UserError: If there is no such store, split, protocol or scenario, or a number is out of range.
        DataError: If the scenario leaves no user with enough training events.
    """

    made_of_training: ClassVar[tuple[str, ...]] = ("training", "catalogue")
    """Cached properties that depend on which users were trained on."""

    def __init__(
        self,
        dataset: str,
        root: str = "data",
        recipe: str | None = None,
        store: str | None = None,
        split: Literal["leave_one_out", "global_temporal"] = "leave_one_out",
        instances: Literal["sequence", "prefix", "window", "session"] = "sequence",
        max_history: int = 50,
        min_history: int = 1,
        num_targets: int = 1,
        num_negatives: int = 1,
        negatives: NegativeRule = "train",
        batch_size: int = 128,
        eval_batch_size: int = 256,
        val_protocol: str = "full",
        test_protocols: Sequence[str] = ("full",),
        test_users: int | None = None,
        allow_imputed_time: bool = False,
        num_workers: int = 0,
        seed: int = 0,
        val_users: int | None = None,
        scenario: str = OVERALL,
    ) -> None:
        super().__init__()
        at_least(1, "data", max_history=max_history, num_targets=num_targets, batch_size=batch_size)
        at_least(1, "data", eval_batch_size=eval_batch_size, test_users=test_users, val_users=val_users)
        at_least(0, "data", min_history=min_history, num_negatives=num_negatives, num_workers=num_workers)
        if not test_protocols:
            raise UserError("--data.test_protocols is empty", "Name at least one, such as '[full]'.")
        if len(set(test_protocols)) < len(test_protocols):
            # It would be another run with the figures of the same.
            raise UserError(f"--data.test_protocols is [{','.join(test_protocols)}]", "Name each protocol once.")
        self.store = find_store(Path(root), dataset, recipe, store)
        self.manifest = self.store.manifest
        self.num_users, self.num_items = self.manifest.num_users, self.manifest.num_items
        self.split, self.instances = split, instances
        self.max_history, self.min_history, self.num_targets = max_history, min_history, num_targets
        self.num_negatives, self.negatives = num_negatives, negatives
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.val_protocol, self.test_protocols = val_protocol, list(test_protocols)
        self.test_users, self.val_users = test_users, val_users
        self.scenario = self.trained_scenario = scenario
        self.trained_elsewhere = False
        self.allow_imputed_time = allow_imputed_time
        self.num_workers, self.seed = num_workers, seed
        self.predict_users: list[int] | None = None
        self._check_time()
        self._check_scenario()
        for protocol in (val_protocol, *test_protocols):
            self.protocol_fields(protocol)

    @cached_property
    def view(self) -> View:
        """The stored split as the scenario sees it."""
        return view(self._divided(), self.scenario)

    @property
    def events(self) -> Split:
        """Events, divided into training events and evaluation cases."""
        return self.view.split

    @cached_property
    def catalogue(self) -> Catalogue:
        """Everything known about items and training events, for ``Recommender.attach``."""
        return self._known()

    @cached_property
    def training(self) -> View:
        """The stored split as the model's training saw it; differs from ``view`` only after ``keep_training``."""
        same = self.trained_scenario == self.scenario
        return self.view if same else view(self._divided(), self.trained_scenario)

    def keep_training(self, scenario: str) -> None:
        """Keeps the catalogue of the training scenario when a model is tested under another one.

        Raises:
            UserError: If that training has seen events that this scenario withholds.
        """
        self.trained_scenario = scenario
        # They may have been computed for the test scenario already, to size the model.
        for name in self.made_of_training:
            self.__dict__.pop(name, None)
        seen = users_seen(self.training.split, self.events)
        if seen:
            raise UserError(
                f"A run trained under {scenario} has learnt from {seen:,} users whose events {self.scenario} "
                "withholds, so the test would not be valid.",
                f"Train one for it: recbench run … --data.scenario {self.scenario}.",
            )

    def protocol_fields(self, protocol: str) -> dict[str, str | int]:
        """The fields of the data that must agree for two figures of ``protocol`` to be comparable.

        Raises:
            UserError: If there is no such protocol.
        """
        return {
            "data": self.manifest.fingerprint,
            "split": self.split,
            "protocol": protocol,
            "candidates": "catalogue" if protocol in FULL else self.store.candidates_hash(self.split, protocol),
            "masking": "seen" if self._masks_seen(protocol) else "none",
            "test_users": self._test_users(),
            **self._drawn_users(),
        } | ({} if self.scenario == OVERALL else {"scenario": self.view.scenario})

    @property
    def post_hoc_graph(self) -> bool:
        """Whether relations were collected after the split, or at an unknown time (PROTOCOL D8)."""
        return bool(self.manifest.graph.get("post_hoc"))

    def _divided(self) -> Split:
        if self.split != "global_temporal" or self.manifest.time == "real":
            return self.store.split(self.split)
        # Preparation makes this split of recorded times only; here the user has allowed imputed ones.
        sequences = self.store.split()["sequences"]
        try:
            return global_temporal(sequences, cut_times(sequences))
        except ValueError as error:
            # A ready-made split need not follow time.
            raise UserError(
                f"--data.split global_temporal does not fit {self.manifest.dataset}: {error}",
                "Choose --data.split leave_one_out.",
            ) from error

    def _test_users(self) -> int | Literal["all"]:
        if self.test_users is None:
            return "all"
        choice, _ = self._choice_of_cases("test")
        return self.test_users if self.test_users < len(choice) else "all"

    def _drawn_users(self) -> dict[str, str]:
        """A short hash of the users that are drawn, if any are, since another version of PyTorch may draw others."""
        scenarios = {self.scenario: "view", self.trained_scenario: "training"}
        drawn = [getattr(self, seen).drawn for scenario, seen in scenarios.items() if scenario != OVERALL]
        if self._test_users() != "all":
            users = self.events["test"]["user"]
            drawn.append(users[self.drawn_cases("test")])
        if not drawn:
            return {}
        ids = [users.sort().values.long().numpy().tobytes() for users in drawn]
        return {"drawn_users": hashlib.sha256(b"".join(ids)).hexdigest()[:8]}

    def _masks_seen(self, protocol: str) -> bool:
        # Where users return to items, a seen item may be the target.
        return FULL.get(protocol, False) and not self.manifest.has_repeats

    def slices(self, ranks: Mapping[str, Tensor]) -> dict[str, Bool[Tensor, "m"]]:
        """Masks of the standard slices over the test cases of the stored ranks, in their order.

        Counts are those of the training, under whatever scenario the model is tested: an item that it never saw stays
        unseen. A model that was ``trained_elsewhere``, on another data set, saw no event of this one; there are only
        slices then that count no training events.
        """
        if self.trained_elsewhere:
            masks = slices_of_events(self.events)
        else:
            masks = slices(with_training(self.events, self.training.split), self.num_items) | self.training.slices
        cases = ranks["case_id"].long()
        return {name: mask[cases] for name, mask in masks.items()}

    def train_dataloader(self) -> Loader:
        """Training instances, in an order that depends on seed and epoch.

        Raises:
            DataError: If no user has enough training events.
        """
        # Lightning's own sharding would cut the lock step into parts, and would not pass the epoch to the negatives.
        share = self.trainer.distributed_sampler_kwargs if self.trainer else None
        rank, world_size = (share["rank"], share["num_replicas"]) if share else (0, 1)
        dataset = self._training_set(rank, world_size)
        if not len(dataset):
            raise self._too_few_events("", "lower --data.min_history.")
        if self.instances == "session":
            return self._loader(dataset, None, EpochSampler(dataset, shuffle=False))
        return self._loader(dataset, self.batch_size, self._order(dataset, rank, world_size))

    def val_dataloader(self) -> Loader:
        """Validation cases under ``val_protocol``."""
        return self.case_loader("val", self.val_protocol)

    def test_dataloader(self) -> list[Loader]:
        """Test cases, one loader for each of ``test_protocols``."""
        return [self.case_loader("test", protocol) for protocol in self.test_protocols]

    def case_loader(self, phase: Literal["val", "test"], protocol: str) -> Loader:
        """Cases of ``phase`` under ``protocol``, in batches.

        Raises:
            UserError: If there is no such protocol.
            DataError: If the split holds no case.
        """
        cases = self.events["val"] if phase == "val" else self.events["test"]
        if not len(cases["user"]):
            raise DataError(
                f"the {self.split} split of {self.manifest.dataset} has no {phase} case",
                "Choose another split, or a recipe that keeps users with three events or more.",
            )
        dataset = EvaluationDataset(
            self.events["sequences"],
            cases,
            self.max_history,
            protocol,
            candidates=None if protocol in FULL else self.store.candidates(self.split, protocol, phase),
            mask_seen=self._masks_seen(protocol),
            rows=self.drawn_cases(phase),
            batch_size=self.eval_batch_size,
        )
        return self._loader(dataset, None)

    def predict_dataloader(self) -> Loader:
        """Users ``predict_users`` (all if None) with their whole history, asked at :attr:`now`.

        Raises:
            UserError: If a user is not in the data set.
        """
        users = torch.arange(1, self.num_users + 1) if self.predict_users is None else torch.tensor(self.predict_users)
        unknown = users[(users < 1) | (users > self.num_users)].tolist()
        if unknown:
            raise UserError(
                f"{self.manifest.dataset} has no user {unknown[0]}", f"Choose users from 1 to {self.num_users}."
            )
        dataset = HistoryDataset(self.histories, users, self.max_history, self.now)
        return self._loader(dataset, self.eval_batch_size)

    @property
    def histories(self) -> Sequences:
        """All events of all users, whatever a split or a scenario withholds."""
        return self.store.split()["sequences"]

    @property
    def now(self) -> int:
        """The time of a prediction: the clock's, or where times are positions, the one behind the last."""
        recorded = self.manifest.time != "ordinal"
        return int(time.time()) if recorded else int(self.events["sequences"]["times"].max()) + 1

    def _known(self) -> Catalogue:
        """What the store knows of the training, and what this way of making instances leaves out."""
        least = least_events(self.instances, self.min_history)
        return {**self.store.catalogue(self.training.split), "least_events": least}

    def _training_set(self, rank: int, world_size: int) -> TrainingDataset:
        sampler = None
        if self.num_negatives:
            sampler = NegativeSampler(self.negatives, self.events, self.num_items, self.num_negatives, self.seed)
        if self.instances == "sequence":
            return SequenceDataset(self.events, self.max_history, sampler)
        if self.instances == "prefix":
            return PrefixDataset(self.events, self.max_history, self.min_history, sampler)
        if self.instances == "window":
            return WindowDataset(self.events, self.max_history, self.num_targets, sampler)
        return SessionDataset(self.events, self.batch_size, sampler, rank, world_size)

    def _order(self, dataset: TrainingDataset, rank: int, world_size: int) -> EpochSampler:
        return EpochSampler(dataset, True, self.seed, rank, world_size)

    def _loader(
        self, dataset: Dataset[SequenceBatch], batch_size: int | None, sampler: Sampler[int] | None = None
    ) -> Loader:
        return LazyLoader(
            dataset,
            batch_size=batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            collate_fn=as_is,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.num_workers > 0,
        )

    def drawn_cases(self, phase: Literal["val", "test"]) -> Int[Tensor, "r"] | None:
        """The cases to evaluate: those of the scenario, or a fixed draw of the wanted number; ``None`` for all."""
        wanted = self.test_users if phase == "test" else self.val_users
        choice, always = self._choice_of_cases(phase)
        if wanted is not None and wanted < len(choice):
            choice = choice[torch.randperm(len(choice), generator=seeded(USERS_SEED))[:wanted]]
        rows = torch.cat([choice, always]).sort().values
        return None if len(rows) == len(self.events[phase]["user"]) else rows

    def _choice_of_cases(self, phase: Literal["val", "test"]) -> tuple[Int[Tensor, "n"], Int[Tensor, "a"]]:
        """The cases that a draw chooses from, and those that are evaluated in any case."""
        seen, cases = self.view, len(self.events[phase]["user"])
        mask = seen.test if phase == "test" else seen.val
        mask = torch.ones(cases, dtype=torch.bool) if mask is None else mask
        always = torch.zeros_like(mask) if phase == "val" or seen.always is None else seen.always
        return (mask & ~always).nonzero().flatten(), always.nonzero().flatten()

    def _check_scenario(self) -> None:
        if self.scenario != OVERALL and self.split != "leave_one_out":
            raise UserError(
                f"--data.scenario {self.scenario} divides users, and --data.split {self.split} divides time",
                "Choose --data.split leave_one_out.",
            )
        if self.scenario == OVERALL:
            # Floors may still count events that are too few to train on.
            return
        lengths = self.events["train_end"] - self.events["sequences"]["offsets"][:-1]
        if int(lengths.max()) < least_events(self.instances, self.min_history):
            whom = f", of those that --data.scenario {self.scenario} leaves,"
            raise self._too_few_events(whom, "a scenario that keeps more users.")

    def _too_few_events(self, whom: str, cure: str) -> DataError:
        what = f"no user of {self.manifest.dataset}{whom} has enough training events for {self.instances} instances"
        return DataError(what, f"Choose a recipe that keeps more events, or {cure}")

    def _check_time(self) -> None:
        if self.split == "global_temporal" and self.manifest.time != "real" and not self.allow_imputed_time:
            raise UserError(
                f"--data.split global_temporal needs recorded times; those of {self.manifest.dataset} are "
                f"{self.manifest.time}",
                "Choose --data.split leave_one_out, or --data.allow_imputed_time true, which marks the row.",
            )
