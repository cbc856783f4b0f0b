import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from common.data.datamodule import SequenceDataModule
from common.data.scenarios import slices_of_events
from common.errors import DataError, UserError
from common.models.floors import Popularity
from common.types import DataModule, SequenceBatch
from tests.fixtures.histories import random_histories
from tests.fixtures.store import NUM_ITEMS, NUM_USERS, write

Make = Callable[..., SequenceDataModule]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data")
    write(path, random_histories(NUM_USERS, NUM_ITEMS, 12))
    return path


@pytest.fixture
def make(root: Path) -> Make:
    return partial(SequenceDataModule, "tiny", root=str(root), batch_size=4, eval_batch_size=8)


class Recorder(L.LightningModule):
    """Notes a digest of every training batch, by epoch, and the cases and shapes it is tested on."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.digests: dict[int, list[str]] = {}
        self.cases: list[list[int]] = []

    def training_step(self, batch: SequenceBatch, batch_idx: int) -> Tensor:
        digest = hashlib.sha256()
        for name in ("user_id", "history", "history_time", "target_time", "targets", "negatives"):
            digest.update(batch[name].numpy().tobytes())
        self.digests.setdefault(self.current_epoch, []).append(digest.hexdigest())
        return self.weight**2

    def validation_step(self, batch: SequenceBatch, batch_idx: int) -> None:
        self.cases.append(batch["case_id"].tolist())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def digests(
    data: SequenceDataModule,
    folder: Path,
    epochs: int,
    resume: Path | None = None,
    after_validation: bool = False,
) -> dict[int, list[str]]:
    """Digests of the batches of each epoch; checkpoints go to ``folder / epoch=<number>.ckpt``."""
    keep = ModelCheckpoint(folder, "{epoch}", save_top_k=-1, save_on_train_epoch_end=not after_validation)
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = L.Trainer(max_epochs=epochs, accelerator="cpu", callbacks=[keep], num_sanity_val_steps=0, **quiet)
    model = Recorder()
    trainer.fit(model, data, ckpt_path=resume, weights_only=True)
    return model.digests


@pytest.mark.parametrize("instances", ["sequence", "prefix", "window", "session"])
def test_a_resumed_training_sees_the_batches_of_an_uninterrupted_one(
    make: Make, tmp_path: Path, instances: str
) -> None:
    whole = digests(make(instances=instances), tmp_path, 3)
    rest = digests(make(instances=instances), tmp_path, 3, tmp_path / "epoch=0.ckpt")
    assert rest == {epoch: whole[epoch] for epoch in (1, 2)}
    assert len({tuple(batches) for batches in whole.values()}) == 3


@pytest.mark.parametrize("after_validation", [True, False])
def test_workers_build_the_batches_that_the_process_itself_builds(
    make: Make, tmp_path: Path, after_validation: bool
) -> None:
    alone = digests(make(), tmp_path / "alone", 3)
    assert digests(make(num_workers=2), tmp_path, 3, after_validation=after_validation) == alone
    rest = digests(make(num_workers=2), tmp_path, 3, tmp_path / "epoch=0.ckpt")
    assert rest == {epoch: alone[epoch] for epoch in (1, 2)}


def test_the_seed_changes_the_batches(make: Make, tmp_path: Path) -> None:
    assert digests(make(seed=1), tmp_path, 1) != digests(make(seed=2), tmp_path, 1)


def test_two_processes_share_the_instances_of_an_epoch(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    users: list[set[int]] = []
    for rank in (0, 1):
        data = make()
        share = {"rank": rank, "num_replicas": 2}
        data.trainer = type("Trainer", (), {"distributed_sampler_kwargs": share})()
        users.append({user for batch in data.train_dataloader() for user in batch["user_id"].tolist()})
    alone = {user for batch in make().train_dataloader() for user in batch["user_id"].tolist()}
    assert users[0] | users[1] == alone
    assert len(users[0] & users[1]) <= 1


@pytest.mark.parametrize("protocol", ["full", "full-unmasked", "sampled-9"])
@pytest.mark.parametrize("phase", ["val", "test"])
def test_batches_hold_every_case_once(make: Make, phase: Literal["val", "test"], protocol: str) -> None:
    data = make()
    batches = list(data.case_loader(phase, protocol))
    cases = data.events[phase]["user"]
    assert [case for batch in batches for case in batch["case_id"].tolist()] == list(range(len(cases)))
    assert {batch["history"].shape[1:] for batch in batches} == {(50,)}
    assert {len(batch["history"]) for batch in batches[:-1]} == {8}
    assert all(torch.equal(batch["user_id"], cases[batch["case_id"]]) for batch in batches)
    assert all(batch["protocol"] == protocol for batch in batches)


def test_where_users_return_to_items_nothing_is_masked(make: Make) -> None:
    data = make()
    usual, unmasked = (data.protocol_fields(protocol)["masking"] for protocol in ("full", "full-unmasked"))
    assert any(bool(batch["seen"].any()) for batch in data.case_loader("test", "full"))
    data.manifest.stages.append({"repeated_pairs": 1})
    assert not any(bool(batch["seen"].any()) for batch in data.case_loader("test", "full"))
    assert data.protocol_fields("full")["masking"] == unmasked != usual


def test_stored_candidates_belong_to_their_phase(make: Make) -> None:
    data = make()
    for phase in ("val", "test"):
        stored = data.store.candidates("leave_one_out", "sampled-9", phase)
        for batch in data.case_loader(phase, "sampled-9"):
            assert torch.equal(batch["candidates"][:, 1:], stored[batch["case_id"]].long())
            assert torch.equal(batch["candidates"][:, 0], batch["target"])


def test_test_has_a_loader_for_each_protocol_and_validation_its_own(make: Make) -> None:
    data = make(val_protocol="sampled-9", test_protocols=["full", "sampled-9"])
    assert [next(iter(loader))["protocol"] for loader in data.test_dataloader()] == ["full", "sampled-9"]
    assert next(iter(data.val_dataloader()))["protocol"] == "sampled-9"


def cases_of(data: SequenceDataModule) -> list[int]:
    return [int(case) for batch in data.test_dataloader()[0] for case in batch["case_id"]]


@pytest.mark.parametrize(("scenario", "always"), [("overall", 0), ("few-shot-8", 8)])
def test_test_users_are_the_same_whatever_the_seed(make: Make, scenario: str, always: int) -> None:
    drawn, again = (cases_of(make(scenario=scenario, test_users=10, seed=seed)) for seed in (1, 2))
    assert drawn == again
    assert set(drawn) < set(cases_of(make()))
    assert len(drawn) == 10 + always


@pytest.mark.parametrize(("others", "drawn"), [(1, 1), (15, 15), (16, None), (23, None)])
def test_users_trained_on_are_all_tested_and_others_are_drawn(make: Make, others: int, drawn: int | None) -> None:
    whole, data = make(scenario="few-shot-8"), make(scenario="few-shot-8", test_users=others)
    assert cases_of(whole) == list(range(len(whole.events["test"]["user"])))
    cases = cases_of(data)
    assert cases == sorted(set(cases))
    masks, of_whole = (one.slices({"case_id": torch.tensor(cases_of(one))}) for one in (data, whole))
    assert masks["trained_user"].sum() == of_whole["trained_user"].sum() == 8
    assert masks["other_user"].sum() == (of_whole["other_user"].sum() if drawn is None else drawn)
    fields, usual = data.protocol_fields("full"), whole.protocol_fields("full")
    assert (fields == usual) == (drawn is None)
    assert (fields["test_users"], fields["scenario"]) == (drawn or "all", "few-shot-8")


def test_predictions_default_to_all_users_and_take_a_list(make: Make) -> None:
    data = make()
    assert [u for batch in data.predict_dataloader() for u in batch["user_id"].tolist()] == list(range(1, 34))
    data.predict_users = [7, 3]
    assert [u for batch in data.predict_dataloader() for u in batch["user_id"].tolist()] == [7, 3]
    data.predict_users = [34]
    with pytest.raises(UserError, match="no user 34"):
        data.predict_dataloader()


def test_predictions_read_whole_histories_whatever_a_scenario_withholds(tmp_path: Path) -> None:
    write(tmp_path, [list(range(1, 1 + length)) for length in range(5, 5 + NUM_USERS)])
    data = SequenceDataModule("tiny", root=str(tmp_path), scenario="cold-users", max_history=40)
    data.predict_users = data.view.drawn.tolist()
    (batch,) = data.predict_dataloader()
    assert len(data.predict_users) == 3
    assert batch["history"].ne(0).sum(1).tolist() == [user + 4 for user in data.predict_users]


def test_predictions_of_a_trainer_are_top_lists(make: Make) -> None:
    data, trainer = make(), L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    batches = cast(list[tuple[Tensor, Tensor]], trainer.predict(Popularity(data.num_items), data))
    items, scores = (torch.cat(column) for column in zip(*batches, strict=True))
    assert items.shape == scores.shape == (33, 10)
    assert bool((scores[:, :-1] >= scores[:, 1:]).all())


def test_protocol_fields_tell_protocols_splits_and_test_users_apart(make: Make) -> None:
    fields = make().protocol_fields
    assert fields("full") == make(seed=9).protocol_fields("full")
    assert fields("full")["masking"] != fields("full-unmasked")["masking"]
    assert fields("sampled-9")["candidates"] == make().manifest.hashes["candidates-leave_one_out-sampled-9.safetensors"]
    assert fields("full") != make(test_users=5).protocol_fields("full")
    assert fields("full") == make(test_users=33).protocol_fields("full") == make(test_users=34).protocol_fields("full")
    assert fields("full") != make(split="global_temporal").protocol_fields("full")


def test_a_model_finds_what_it_may_ask_for(make: Make) -> None:
    module: DataModule = make(val_protocol="sampled-9")
    assert module.catalogue["num_items"] == NUM_ITEMS
    assert next(iter(module.case_loader("val", "sampled-9")))["protocol"] == "sampled-9"


def test_slices_follow_the_order_of_the_stored_ranks(make: Make) -> None:
    data = make()
    cases = torch.tensor([3, 0, 5], dtype=torch.int32)
    short = data.slices({"case_id": cases})["history_1-5"]
    position, user = data.events["test"]["position"][[3, 0, 5]], data.events["test"]["user"][[3, 0, 5]]
    assert torch.equal(short, (position - data.events["sequences"]["offsets"][user]) <= 5)


@pytest.mark.parametrize("trained", ["few-shot-5", "cold-users"])
def test_slices_count_what_was_trained_on_wherever_a_model_is_tested(make: Make, trained: str) -> None:
    data, learnt = make(), make(scenario=trained)
    data.keep_training(trained)
    cases = {"case_id": torch.arange(len(data.events["test"]["user"]))}
    masks, usual, of_training = data.slices(cases), make().slices(cases), learnt.slices(cases)
    target = data.events["sequences"]["items"][data.events["test"]["position"]]
    assert torch.equal(masks["unseen_target"], learnt.catalogue["train_count"][target] == 0)
    assert any(not torch.equal(masks[name], usual[name]) for name in usual)
    of_history = {"tied_in_time", "repeat_target", "cold_user", *(name for name in usual if name.startswith("history"))}
    for name, mask in masks.items():
        assert torch.equal(mask, (usual if name in of_history else of_training)[name]), name


def test_a_model_trained_elsewhere_has_no_slices_that_count_training(make: Make) -> None:
    data = make()
    data.trained_elsewhere = True
    cases = {"case_id": torch.tensor([4, 1])}
    masks, usual = data.slices(cases), make().slices(cases)
    assert masks.keys() == slices_of_events(data.events).keys()
    assert all(torch.equal(mask, usual[name]) for name, mask in masks.items())


def test_held_out_items_reach_no_training_batch(make: Make, tmp_path: Path) -> None:
    histories = random_histories(NUM_USERS, NUM_ITEMS, 12)
    write(tmp_path, [[*items[:-2], 1, 2] if len(items) > 2 else items for items in histories])
    other = SequenceDataModule("tiny", root=str(tmp_path), batch_size=4, eval_batch_size=8)
    assert digests(other, tmp_path, 1) == digests(make(), tmp_path, 1)
    assert torch.equal(other.catalogue["train_count"], make().catalogue["train_count"])


@pytest.mark.parametrize(
    "how",
    [
        *({"instances": name} for name in ("sequence", "window")),
        *({"instances": "prefix", "min_history": n} for n in range(4)),
    ],
)
def test_users_count_as_trained_if_an_instance_is_theirs(make: Make, how: dict[str, Any]) -> None:
    data = make(**how)
    known = data.catalogue
    enough = known["train"]["offsets"].diff() >= known["least_events"]
    served = {user for batch in data.train_dataloader() for user in batch["user_id"].tolist()}
    assert set(enough.nonzero().flatten().tolist()) == served


@pytest.mark.parametrize(
    ("arguments", "seed"),
    [
        ({"test_users": 5}, "common.data.datamodule.USERS_SEED"),
        ({"scenario": "few-shot-5"}, "common.data.views.SEED"),
        ({"scenario": "cold-users"}, "common.data.views.SEED"),
        ({"scenario": "few-shot-5", "test_users": 5}, "common.data.views.SEED"),
        ({"scenario": "few-shot-5", "test_users": 5}, "common.data.datamodule.USERS_SEED"),
    ],
)
def test_protocol_fields_know_which_users_were_drawn(
    make: Make, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any], seed: str
) -> None:
    fields = make(**arguments).protocol_fields("full")
    assert fields == make(**arguments).protocol_fields("full")
    monkeypatch.setattr(seed, 2)
    others = make(**arguments).protocol_fields("full")
    assert {name for name in fields if fields[name] != others[name]} == {"drawn_users"}


def test_protocol_fields_know_no_users_where_none_were_drawn(make: Make) -> None:
    assert "drawn_users" not in make().protocol_fields("full")
    assert "drawn_users" not in make(test_users=33).protocol_fields("full")


def test_a_test_elsewhere_knows_whom_its_training_drew(make: Make) -> None:
    data = make()
    data.keep_training("few-shot-5")
    drawn = make(scenario="few-shot-5").protocol_fields("full")["drawn_users"]
    assert data.protocol_fields("full")["drawn_users"] == drawn


def test_a_scenario_trains_on_its_users_and_keeps_the_candidates_of_every_case(make: Make) -> None:
    usual, few = make(val_protocol="sampled-9"), make(val_protocol="sampled-9", scenario="few-shot-5")
    trained = {user for batch in few.train_dataloader() for user in batch["user_id"].tolist()}
    rows = {case: row for batch in usual.val_dataloader() for case, row in by_case(batch)}
    drawn = dict(pair for batch in few.val_dataloader() for pair in by_case(batch))
    assert 0 < len(trained) <= 5
    assert len(drawn) == 5
    assert all(rows[case] == row for case, row in drawn.items())
    assert few.catalogue["train_count"].sum() < usual.catalogue["train_count"].sum()
    assert "scenario" not in usual.protocol_fields("full")
    assert few.protocol_fields("full")["scenario"] == "few-shot-5"
    cases = {"case_id": torch.arange(len(few.events["test"]["user"]))}
    assert set(few.slices(cases)) - set(usual.slices(cases)) == {"trained_user", "other_user"}


def by_case(batch: SequenceBatch) -> list[tuple[int, list[int]]]:
    return list(zip(batch["case_id"].tolist(), batch["candidates"].tolist(), strict=True))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"val_protocol": "sampled-99"}, "sampled-9'"),
        ({"test_protocols": ["fulll"]}, "'full'"),
        ({"recipe": "ten-core"}, "recbench prepare tiny --recipe ten-core"),
        ({"max_history": 0}, "--data.max_history is 0"),
        ({"num_negatives": -1}, "--data.num_negatives is -1"),
        ({"test_users": 0}, "--data.test_users is 0"),
        ({"scenario": "few-shots-3"}, "is not a scenario"),
        ({"scenario": "few-shot-3", "split": "global_temporal"}, "divides time"),
        ({"test_protocols": ()}, r"--data.test_protocols is empty"),
        ({"test_protocols": ["full", "full"]}, "Name each protocol once"),
    ],
)
def test_mistakes_are_told_with_the_cure(make: Make, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(**arguments)


def test_global_temporal_needs_recorded_times_or_leave(tmp_path: Path) -> None:
    write(tmp_path, random_histories(NUM_USERS, NUM_ITEMS, 12), time="imputed")
    with pytest.raises(UserError, match="allow_imputed_time true"):
        SequenceDataModule("tiny", root=str(tmp_path), split="global_temporal")
    data = SequenceDataModule("tiny", root=str(tmp_path), split="global_temporal", allow_imputed_time=True)
    assert len(data.events["test"]["user"]) > 0


def test_a_split_by_time_of_histories_out_of_order_is_refused_with_the_cure(tmp_path: Path) -> None:
    write(tmp_path, random_histories(NUM_USERS, NUM_ITEMS, 12), time="imputed", newest_first=True)
    data = SequenceDataModule("tiny", root=str(tmp_path), split="global_temporal", allow_imputed_time=True)
    with pytest.raises(UserError, match="does not fit tiny"):
        data.train_dataloader()


def test_data_without_instances_or_cases_say_so(tmp_path: Path) -> None:
    write(tmp_path, [[1]] * NUM_USERS)
    data = SequenceDataModule("tiny", root=str(tmp_path))
    with pytest.raises(DataError, match="enough training events"):
        data.train_dataloader()
    with pytest.raises(DataError, match="no val case"):
        data.val_dataloader()


def test_a_scenario_without_training_data_says_so(tmp_path: Path) -> None:
    write(tmp_path, [[1, 2, 3]] * NUM_USERS)
    with pytest.raises(DataError, match=r"--data.scenario few-shot-2 leaves.*\n.*keeps more users"):
        SequenceDataModule("tiny", root=str(tmp_path), scenario="few-shot-2")
    SequenceDataModule("tiny", root=str(tmp_path), scenario="few-shot-2", instances="prefix", min_history=0)
