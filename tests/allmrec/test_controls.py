"""Each control takes away what it says, and nothing else."""

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from allmrec.controls import ALLMRecControl
from allmrec.stage2 import ALLMRecStage2
from common.errors import UserError
from common.models.base import Recommender
from common.models.finished import WEIGHTS
from common.models.sasrec import SASRec
from common.types import SequenceBatch
from tests.allmrec.world import LATENT, NUM_ITEMS, NUM_USERS, catalogue, evaluation_batch, joint_file, sasrec


def save(model: Recommender, folder: Path) -> str:
    folder.mkdir()
    trainer = L.Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu")
    trainer.strategy.connect(model)
    trainer.save_checkpoint(folder / WEIGHTS)
    return str(folder)


@pytest.fixture
def runs(folders: dict[str, str], tmp_path: Path) -> dict[str, Any]:
    joint, llm = joint_file(tmp_path), folders["opt"]
    torch.manual_seed(0)
    trained = ALLMRecStage2(NUM_ITEMS, sasrec(), joint, llm, latent=LATENT, max_title_tokens=9)
    places = {"trained": save(trained, tmp_path / "stage2"), "collaborative": save(sasrec(), tmp_path / "cf")}
    return places | {"joint": joint, "llm": llm}


def control(runs: dict[str, Any], name: Any, **options: Any) -> ALLMRecControl:  # noqa: ANN401
    torch.manual_seed(9)
    model = ALLMRecControl(num_items=NUM_ITEMS, control=name, **runs, **options)
    model.attach(catalogue())
    return model.eval()


def changed(batch: SequenceBatch, **values: torch.Tensor) -> SequenceBatch:
    return {**batch, **values}  # type: ignore[typeddict-item]  # keys are checked at run time


def test_none_is_the_trained_model_with_its_arguments(runs: dict[str, Any], folders: dict[str, Any]) -> None:
    torch.manual_seed(0)
    trained = ALLMRecStage2(NUM_ITEMS, sasrec(), runs["joint"], folders["opt"], latent=LATENT, max_title_tokens=9)
    trained.attach(catalogue())
    batch, model = evaluation_batch(), control(runs, "none")
    torch.testing.assert_close(model.score(batch), trained.score(batch))
    assert (model.max_title_tokens, model.protocol_overrides()) == (9, {})
    assert control(runs, "none", order=2).protocol_overrides() == {"prompt_order": "2"}


def test_what_learnt_on_e_can_be_asked_with_q(runs: dict[str, Any], folders: dict[str, str]) -> None:
    torch.manual_seed(0)  # the same projections, on the other joint vectors
    options: dict[str, Any] = {"latent": LATENT, "max_title_tokens": 9, "vectors": "texts"}
    other = ALLMRecStage2(NUM_ITEMS, sasrec(), runs["joint"], folders["opt"], **options)
    other.attach(catalogue())
    batch, model = evaluation_batch(), control(runs, "none", vectors="texts", generate_at_test=True)
    torch.testing.assert_close(model.score(batch), other.score(batch))
    assert not torch.allclose(model.score(batch), control(runs, "none").score(batch))
    assert [model.generate_at_test, control(runs, "none").generate_at_test] == [True, False]


def test_a_prompt_in_the_words_of_another_data_set_is_another_prompt(runs: dict[str, Any]) -> None:
    batch = evaluation_batch()
    own, other = control(runs, "none"), control(runs, "none", domain="movies")
    assert own.prompts(batch).ids == control(runs, "none", domain="general").prompts(batch).ids
    assert own.prompts(batch).ids != other.prompts(batch).ids


def test_users_without_training_events_lend_nobody_their_vector(runs: dict[str, Any]) -> None:
    known = catalogue()
    # User 0 is nobody; users 2 and 5 have no events.
    known["train"]["offsets"] = torch.tensor([0, 0, 3, 3, 6, 9, 9, 12])
    model = control(runs, "shuffled_users")
    model.attach(known)
    assert set(model.other_user.tolist()) == {1, 3, 4, 6}
    assert not (model.other_user == 1 + torch.arange(NUM_USERS)).any()


def test_null_context_knows_neither_user_nor_history(runs: dict[str, Any]) -> None:
    batch = evaluation_batch()
    other = changed(batch, history=batch["history"].flip(0), user_id=batch["user_id"] + 1)
    blind, seeing = control(runs, "null_context"), control(runs, "none")
    torch.testing.assert_close(blind.score(other), blind.score(batch))
    assert not torch.allclose(seeing.score(other), seeing.score(batch))


def test_shuffled_users_have_another_user_s_vector_whatever_their_company(runs: dict[str, Any]) -> None:
    batch, model, known = evaluation_batch(), control(runs, "shuffled_users"), catalogue()
    others = model.others(batch)
    assert sorted(model.other_user.tolist()) == list(range(1, NUM_USERS + 1))
    assert not (others["user_id"] == batch["user_id"]).any()
    train = known["train"]
    for row, user in enumerate(others["user_id"].tolist()):
        events = slice(train["offsets"][user], train["offsets"][user + 1])
        assert others["history"][row].tolist() == [0, *train["items"][events].tolist()]
        assert others["history_time"][row].tolist() == [0, *train["times"][events].tolist()]
    vectors = model.user_vectors(batch)
    alone: Any = {key: value[2:3] if isinstance(value, torch.Tensor) else value for key, value in batch.items()}
    torch.testing.assert_close(model.user_vectors(alone), vectors[2:3])
    assert not torch.allclose(vectors, control(runs, "none").user_vectors(batch))


def test_a_finished_run_can_be_scored_otherwise(runs: dict[str, Any]) -> None:
    batch = evaluation_batch()
    likely, each = (control(runs, "none", scorer=scorer) for scorer in ("sum", "mean"))
    tokens = likely.likelihoods(batch).tokens
    torch.testing.assert_close(each.score(batch) * tokens, likely.score(batch))
    assert each.protocol_overrides() == {"scorer": "mean"}


def test_shuffled_joint_vectors_are_the_same_ones_elsewhere(runs: dict[str, Any]) -> None:
    own, others = control(runs, "none").joint, control(runs, "shuffled_joint").joint
    assert not torch.equal(own, others)
    assert torch.equal(own[0], others[0])
    assert torch.equal(own.sort(0).values, others.sort(0).values)
    assert torch.equal(others, control(runs, "shuffled_joint").joint)


def test_untrained_projections_are_fresh(runs: dict[str, Any]) -> None:
    trained, fresh = control(runs, "none"), control(runs, "untrained")
    assert not torch.equal(trained.project_user.inner.weight, fresh.project_user.inner.weight)


@pytest.mark.parametrize("name", ["no_user", "vectors_only", "anonymous_titles", "shuffled_history"])
def test_ablations_may_be_asked_of_what_was_trained_without_them(runs: dict[str, Any], name: Any) -> None:  # noqa: ANN401
    batch, trained = evaluation_batch(), control(runs, "none")
    model = control(runs, name)
    torch.testing.assert_close(model.project_item.inner.weight, trained.project_item.inner.weight)
    assert not torch.allclose(model.score(batch), trained.score(batch))


@pytest.mark.parametrize(
    ("name", "reads"),
    [
        ("none", {"history", "order"}),
        ("untrained", {"history", "order"}),
        ("shuffled_joint", {"history", "order"}),
        ("shuffled_users", {"history", "order", "user_id"}),
        ("null_context", set()),
        ("no_user", {"history", "order"}),
        ("shuffled_history", {"history", "order"}),
    ],
)
def test_information_is_what_changes_the_scores(runs: dict[str, Any], name: Any, reads: set[str]) -> None:  # noqa: ANN401
    model, batch = control(runs, name), evaluation_batch()
    own = changed(batch, history=batch["candidates"][:, 1:5])
    others = {
        "history": {"history": batch["candidates"][:, 5:9]},
        "order": {"history": own["history"].flip(1)},
        "user_id": {"user_id": batch["user_id"] % NUM_USERS + 1},
    }
    before = model.score(own)
    found = {what: model.score(changed(own, **values)) for what, values in others.items()}
    assert {what for what, scores in found.items() if not torch.allclose(scores, before)} == reads
    assert model.information_set == reads - {"history"} | {"text"}


@pytest.mark.parametrize(
    ("name", "reads"),
    [("no_user", {"order"}), ("shuffled_history", {"history", "user_id"}), ("null_context", set())],
)
def test_what_only_the_filter_reads_goes_with_its_vector(
    runs: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    name: Any,  # noqa: ANN401
    reads: set[str],
) -> None:
    monkeypatch.setattr(SASRec, "information_set", frozenset({"user_id"}))
    assert control(runs, name).information_set == reads | {"text"}


def test_a_run_of_another_model_is_refused(runs: dict[str, Any]) -> None:
    runs["trained"] = runs["collaborative"]
    with pytest.raises(UserError, match=f"{runs['trained']} is a run of SASRec, where ALLMRecStage2 is expected"):
        control(runs, "none")
