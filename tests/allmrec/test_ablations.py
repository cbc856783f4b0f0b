"""Each ablation of stage 2 takes away what it says, in training too, and nothing else."""

from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from allmrec.ablations import Ablation, anonymous, random_like
from allmrec.composer import USER_SLOT
from allmrec.stage2 import ALLMRecStage2
from common.models.sasrec import SASRec
from tests.allmrec.tiny import TITLES
from tests.allmrec.world import LATENT, NUM_ITEMS, catalogue, evaluation_batch, joint_file, sasrec, training_batch


@pytest.fixture
def joint(tmp_path: Path) -> str:
    return joint_file(tmp_path)


def build(llm: str, joint: str, ablation: Ablation) -> ALLMRecStage2:
    torch.manual_seed(0)
    model = ALLMRecStage2(NUM_ITEMS, sasrec(), joint, llm, latent=LATENT, precision="fp32", ablation=ablation)
    model.attach(catalogue())
    return model.eval()


def prompt(model: ALLMRecStage2) -> tuple[str, list[int]]:
    ids, slots, _ = model.prompts(evaluation_batch())
    return str(model.llm.tokenizer.decode(ids[1])), slots[1]


@pytest.mark.parametrize("ablation", get_args(Ablation))
def test_slots_are_those_of_the_text(folders: dict[str, str], joint: str, ablation: Ablation) -> None:
    model = build(folders["opt"], joint, ablation)
    ids, slots, _ = model.prompts(evaluation_batch())
    for row, items in zip(ids, slots, strict=True):
        assert int(model.llm.is_slot(torch.tensor([row])).sum()) == len(items)
    assert (USER_SLOT in slots[1]) is (ablation != "no_user")
    assert any(slots[1]) is (ablation != "no_joint")
    assert bool(torch.isfinite(model.score(evaluation_batch())).all())


@pytest.mark.parametrize("ablation", get_args(Ablation))
def test_what_is_shown_is_trained(folders: dict[str, str], joint: str, ablation: Ablation) -> None:
    model = build(folders["opt"], joint, ablation)
    model.loss(training_batch())["loss"].backward()
    given = {name for name, p in model.named_parameters() if p.grad is not None}
    assert any(name.startswith("project_user") for name in given) is (ablation != "no_user")
    assert any(name.startswith("project_item") for name in given) is (ablation != "no_joint")
    assert sum(map(len, [group["params"] for group in model.parameter_groups()])) == len(given)
    assert model.table_marks() == ([] if ablation == "none" else [ablation.replace("_", " ")])


@pytest.mark.parametrize(
    ("ablation", "reads"),
    [
        ("none", {"order", "user_id"}),
        ("no_user", {"order"}),
        ("no_joint", {"order", "user_id"}),
        ("shuffled_history", {"history", "user_id"}),
    ],
)
def test_what_only_the_filter_reads_goes_with_its_vector(
    folders: dict[str, str],
    joint: str,
    monkeypatch: pytest.MonkeyPatch,
    ablation: Ablation,
    reads: set[str],
) -> None:
    monkeypatch.setattr(SASRec, "information_set", frozenset({"user_id"}))
    assert build(folders["opt"], joint, ablation).information_set == reads | {"text"}


def test_prompt_without_titles_has_every_slot(folders: dict[str, str], joint: str) -> None:
    whole, blind = prompt(build(folders["opt"], joint, "none")), prompt(build(folders["opt"], joint, "vectors_only"))
    assert blind[1] == whole[1]
    assert any(title in whole[0] for title in TITLES[1:])
    assert not any(title in blind[0] for title in TITLES[1:])


def test_names_of_anonymous_items_are_answers_too(folders: dict[str, str], joint: str) -> None:
    model = build(folders["opt"], joint, "anonymous_titles")
    assert not any(title in prompt(model)[0] for title in TITLES[1:])
    assert model.composer.titles[1:] == anonymous(TITLES)[1:]
    assert len(set(anonymous(TITLES))) == len(TITLES)
    assert len({len(name) for name in anonymous(TITLES)[1:]}) == 1


def test_shuffled_history_depends_on_its_items_alone(folders: dict[str, str], joint: str) -> None:
    model, batch = build(folders["opt"], joint, "shuffled_history"), evaluation_batch()
    other: Any = {**batch, "history": batch["history"].flip(1)}
    assert model.prompts(batch) == model.prompts(other)
    whole = build(folders["opt"], joint, "none")
    assert whole.prompts(batch) != whole.prompts(other)
    assert [sorted(row) for row in model.prompts(batch).slots] == [sorted(row) for row in whole.prompts(batch).slots]


def test_random_vectors_are_as_large_and_the_same_in_every_run(folders: dict[str, str], joint: str) -> None:
    own, drawn = (build(folders["opt"], joint, name).joint for name in ("none", "random_joint"))
    assert not torch.allclose(own, drawn)
    assert torch.equal(drawn, random_like(own))
    assert float(drawn.std() / own.std()) == pytest.approx(1, rel=0.3)
