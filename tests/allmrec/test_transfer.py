"""Models that read items by their texts rank those of another data set, whatever their ids are there."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import torch

from allmrec.baselines.llm_only import LLMOnly
from allmrec.baselines.morec import MoRec
from allmrec.baselines.recformer import RecFormer
from allmrec.baselines.tallrec import TALLRec
from allmrec.collaborative import CollaborativeFilter
from allmrec.controls import ALLMRecControl, JointDot
from allmrec.retrieval import ALLMRecRetrieval
from allmrec.stage1 import ALLMRecStage1
from allmrec.stage2 import ALLMRecStage2
from benchmarks.evaluate import transferable
from common.errors import UserError
from common.models.base import Recommender
from common.models.bpr_mf import BPRMF
from common.models.caser import Caser
from common.models.finished import read_checkpoint
from common.models.ncf import NCF
from common.models.nextitnet import NextItNet
from common.types import Catalogue, SequenceBatch
from tests.allmrec.baselines import sentence_model
from tests.allmrec.test_controls import save
from tests.allmrec.tiny import WORDS
from tests.allmrec.world import LATENT, NUM_ITEMS, NUM_USERS, catalogue, evaluation_batch, sasrec

PLACE = torch.cat([torch.zeros(1, dtype=torch.long), 1 + torch.randperm(NUM_ITEMS, generator=torch.Generator())])
"""Id there of each item here."""
Made: TypeAlias = Callable[..., Recommender]


def elsewhere() -> Catalogue:
    """The same items under other ids, one more, and other users."""
    here, there = catalogue(), catalogue()
    for name in ("titles", "texts"):
        values: Any = ["", *(here[name][i] for i in PLACE[1:].argsort() + 1), "red sea"]
        there[name] = values
    there["num_items"] = NUM_ITEMS + 1
    there["train_count"] = torch.ones(NUM_ITEMS + 2, dtype=torch.long)
    return there


def relabelled(batch: SequenceBatch) -> SequenceBatch:
    moved = {name: PLACE[batch[name]] for name in ("history", "target", "candidates")}
    return {**batch, **moved}  # type: ignore[typeddict-item]  # keys are checked at run time


@pytest.fixture(scope="module")
def sbert(tmp_path_factory: pytest.TempPathFactory) -> str:
    words = {*WORDS, "Title", "Description", "about"}
    return sentence_model.build(tmp_path_factory.mktemp("sbert"), words, "bert")


@pytest.fixture
def runs(sbert: str, folders: dict[str, str], tmp_path: Path) -> dict[str, Any]:
    """Folders of a filter, a stage 1 and a language model."""
    stage1 = ALLMRecStage1(NUM_ITEMS, sasrec(), sbert, train_sbert=False, latent=LATENT)
    stage1.attach(catalogue())
    places = {"joint": save(stage1, tmp_path / "stage1"), "collaborative": save(sasrec(), tmp_path / "cf")}
    stage1.write_artifacts(tmp_path / "stage1")
    return places | {"llm": folders["opt"]}


@pytest.fixture(params=["stage 2", "retrieval", "joint dot", "llm only", "tallrec", "morec", "recformer"])
def made(request: pytest.FixtureRequest, runs: dict[str, Any], sbert: str) -> Made:
    """Makes a model for a number of items."""
    filtered = {name: runs[name] for name in ("collaborative", "joint")}
    text: dict[str, Any] = {"initial": None, "attributes": ("title",), "window": 4, "width": 16, "vocabulary": 320}

    def make(num_items: int) -> Recommender:
        torch.manual_seed(0)
        kind: str = request.param
        if kind == "stage 2":
            return ALLMRecStage2(num_items, **runs, latent=LATENT, vectors="texts")
        if kind == "retrieval":
            return ALLMRecRetrieval(num_items, **filtered, reader=runs["llm"], latent=LATENT, width=8, vectors="texts")
        if kind == "llm only":
            return LLMOnly(num_items, runs["llm"], precision="fp32")
        if kind == "joint dot":
            return JointDot(num_items, **filtered, vectors="texts")
        if kind == "tallrec":
            return TALLRec(num_items, runs["llm"], precision="fp32")
        if kind == "morec":
            return MoRec(num_items, max_history=5, sbert=sbert, width=8, trained_layers=1)
        return RecFormer(num_items, max_items=5, layers=1, heads=2, dropout=0.0, **text)

    return make


def stirred(model: Recommender) -> Recommender:
    """A model whose trained weights are drawn anew, so that items differ."""
    model.attach(catalogue())
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def test_ids_do_not_matter(made: Made, tmp_path: Path) -> None:
    trained = stirred(made(NUM_ITEMS))
    checkpoint = read_checkpoint(save(trained, tmp_path / "trained"))
    here, there = made(NUM_ITEMS).eval(), made(NUM_ITEMS + 1).eval()
    here.transfer(checkpoint, catalogue())
    there.transfer(checkpoint, elsewhere())
    batch = evaluation_batch()
    with torch.no_grad():
        torch.testing.assert_close(there.score(relabelled(batch)), here.score(batch))
        assert not torch.allclose(there.score(batch), here.score(batch))


def test_a_filter_reads_what_stage_1_decodes_from_texts(runs: dict[str, Any], tmp_path: Path) -> None:
    model = ALLMRecStage2(NUM_ITEMS, **runs, latent=LATENT, vectors="texts")
    model.attach(catalogue())
    before, q = model.user_vectors(evaluation_batch()), model.joint.clone()
    model.transfer(read_checkpoint(save(model, tmp_path / "trained")), catalogue())
    torch.testing.assert_close(model.joint, q)
    assert not torch.allclose(model.user_vectors(evaluation_batch()), before)


def test_controls_stay_controls(runs: dict[str, Any], tmp_path: Path) -> None:
    trained = ALLMRecStage2(NUM_ITEMS, **runs, latent=LATENT, vectors="texts")
    trained.attach(catalogue())
    folder = save(trained, tmp_path / "trained")
    plain, shuffled = (
        ALLMRecControl(NUM_ITEMS + 1, folder, **runs, control=name) for name in ("none", "shuffled_joint")
    )
    for model in (plain, shuffled):
        model.transfer(read_checkpoint(folder), elsewhere())
    assert not torch.equal(plain.joint, shuffled.joint)
    torch.testing.assert_close(plain.joint.sum(0), shuffled.joint.sum(0))


def test_what_learnt_on_e_reads_another_data_set_by_q(runs: dict[str, Any], tmp_path: Path) -> None:
    trained = ALLMRecStage2(NUM_ITEMS, **runs, latent=LATENT)
    trained.attach(catalogue())
    folder = save(trained, tmp_path / "trained")
    model = ALLMRecControl(NUM_ITEMS + 1, folder, **runs, control="none", vectors="texts")
    model.transfer(read_checkpoint(folder), elsewhere())
    texts = ALLMRecStage2(NUM_ITEMS + 1, **runs, latent=LATENT, vectors="texts")
    texts.transfer(read_checkpoint(folder), elsewhere())
    torch.testing.assert_close(model.joint, texts.joint)


def test_vectors_of_the_filters_own_items_are_not_applicable(runs: dict[str, Any]) -> None:
    model = ALLMRecStage2(NUM_ITEMS + 1, **runs, latent=LATENT)
    filtered = {name: runs[name] for name in ("collaborative", "joint")}
    for reader in (model, ALLMRecRetrieval(NUM_ITEMS + 1, **filtered, reader=runs["llm"], latent=LATENT)):
        with pytest.raises(UserError, match=r"joint vectors e .* they are not applicable"):
            reader.transfer({}, elsewhere())
    with pytest.raises(UserError, match="not applicable"):
        sasrec().transfer({}, elsewhere())


@pytest.mark.parametrize("kind", [ALLMRecStage2, ALLMRecControl, ALLMRecRetrieval, JointDot])
def test_a_class_whose_models_may_show_e_says_which_can_go_elsewhere(kind: type[Recommender]) -> None:
    assert not transferable(kind.__name__, {"vectors": "items"})
    assert not transferable(kind.__name__, {})
    assert transferable(kind.__name__, {"vectors": "texts"})


def test_items_without_texts_are_refused(made: Made, tmp_path: Path) -> None:
    trained = made(NUM_ITEMS)
    trained.attach(catalogue())
    checkpoint, bare = read_checkpoint(save(trained, tmp_path / "trained")), elsewhere()
    bare["titles"] = bare["texts"] = [""] * (NUM_ITEMS + 2)
    with pytest.raises(UserError, match=r"no titles|no item texts|has a title|has any"):
        made(NUM_ITEMS + 1).transfer(checkpoint, bare)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (NextItNet(NUM_ITEMS, width=6, dilations=(1,)), "other vectors"),
        (BPRMF(NUM_ITEMS, NUM_USERS, width=6), "users by their ids"),
        (Caser(NUM_ITEMS, NUM_USERS, variant="prefix", width=6), "users by their ids"),
        (NCF(NUM_ITEMS, NUM_USERS, "gmf", 6), "users by their ids"),
    ],
)
def test_a_filter_of_other_output_vectors_or_known_users_is_refused(model: Recommender, reason: str) -> None:
    with pytest.raises(UserError, match=f"{reason}.* on items of another data set it is not applicable"):
        CollaborativeFilter(model).adopt(torch.zeros(3, 6))


def test_a_run_of_another_model_in_the_place_of_stage_1_is_refused(runs: dict[str, Any], tmp_path: Path) -> None:
    places = {name: runs[name] for name in ("collaborative", "joint")}
    places["joint"] = save(JointDot(NUM_ITEMS, **places), tmp_path / "dot")
    with pytest.raises(UserError, match=f"{places['joint']} is a run of JointDot, where ALLMRecStage1 is expected"):
        JointDot(NUM_ITEMS, **places)
