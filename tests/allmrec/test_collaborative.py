"""Vectors of the collaborative filter, and the file of joint vectors."""

from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import yaml

from allmrec.baselines.recformer import RecFormer
from allmrec.collaborative import CollaborativeFilter, JointVectors
from allmrec.sentences import PAPERS
from benchmarks.experiments import find_experiment
from benchmarks.runs import CONFIG
from common.errors import UserError
from common.models.base import Recommender
from common.models.floors import Popularity
from common.models.gru4rec import GRU4Rec
from common.models.ncf import NCF
from common.models.nextitnet import NextItNet
from common.models.sasrec import SASRec
from tests.allmrec.test_controls import save
from tests.allmrec.world import LATENT, NUM_ITEMS, NUM_USERS, catalogue, evaluation_batch, joint_file, sasrec


@pytest.mark.parametrize("model_class", [SASRec, GRU4Rec, NextItNet])
def test_dot_products_of_its_vectors_rank_as_the_model_does(model_class: type[SASRec | GRU4Rec | NextItNet]) -> None:
    model = model_class(NUM_ITEMS)
    batch, cf = evaluation_batch(), CollaborativeFilter(model)
    cf.attach(catalogue())
    scores = (cf.user_vectors(batch)[:, None] * cf.item_vectors()[batch["candidates"]]).sum(-1)
    bias = model.output_bias()
    wanted = model.score(batch) - (0 if bias is None else bias[batch["candidates"]])
    torch.testing.assert_close(scores, wanted.detach())


@pytest.mark.parametrize(("variant", "width"), [("gmf", 8), ("mlp", 32), ("neumf", 40)])
def test_vectors_of_ncf_are_its_tables(variant: Literal["gmf", "mlp", "neumf"], width: int) -> None:
    model = NCF(NUM_ITEMS, NUM_USERS, variant)
    batch, cf = evaluation_batch(), CollaborativeFilter(model)
    cf.attach(catalogue())
    users, items = cf.user_vectors(batch), cf.item_vectors()
    assert (users.shape, items.shape, cf.width) == ((4, width), (NUM_ITEMS + 1, width), width)
    if variant == "gmf":
        scores = (users[:, None] * items[batch["candidates"]]).sum(-1)
        torch.testing.assert_close(scores, (model.score(batch) - model.bias).detach())


@pytest.mark.parametrize(
    ("changes", "known"), [({}, True), ({"min_history": 1}, False), ({"instances": "sequence"}, False)]
)
def test_users_are_known_to_a_finished_filter_by_the_rule_of_its_own_training(
    tmp_path: Path, changes: dict[str, Any], known: bool
) -> None:
    model = NCF(NUM_ITEMS, NUM_USERS, "gmf")
    run = save(model, tmp_path / "run")
    config = yaml.safe_load(find_experiment("synthetic/ncf").read_text())
    config["data"]["init_args"] |= changes
    (tmp_path / "run" / CONFIG).write_text(yaml.safe_dump(config))
    there = catalogue()
    there["train"]["offsets"] = torch.tensor([0, 0, 1, *(3 * u for u in range(2, NUM_USERS + 1))])
    cf = CollaborativeFilter(run)
    cf.attach({**there, "least_events": 2})
    own = model.user_product.weight[1] * model.product_output.weight[0]
    assert torch.equal(cf.user_vectors(evaluation_batch())[0], own) == known


def test_dropout_is_on_where_asked_for_and_while_its_owner_learns() -> None:
    batch = evaluation_batch()
    quiet, noisy = CollaborativeFilter(sasrec()).train(), CollaborativeFilter(sasrec(), dropout=True).train()
    assert torch.equal(quiet.user_vectors(batch), quiet.user_vectors(batch))
    assert not torch.equal(noisy.user_vectors(batch), noisy.user_vectors(batch))
    assert torch.equal(noisy.eval().user_vectors(batch), quiet.user_vectors(batch))
    assert not quiet.user_vectors(batch).requires_grad


@pytest.mark.parametrize("model", [Popularity(NUM_ITEMS), RecFormer(NUM_ITEMS, initial=None)])
def test_a_model_without_a_table_of_item_vectors_is_refused(model: Recommender) -> None:
    with pytest.raises(UserError, match="no user and item vectors"):
        CollaborativeFilter(model)


def test_rounded_weights_are_still_those_of_the_same_filter() -> None:
    cf, other = CollaborativeFilter(SASRec(NUM_ITEMS)), CollaborativeFilter(SASRec(NUM_ITEMS))
    known = cf.digest
    assert cf.bfloat16().digest == known != other.digest


def test_joint_vectors_come_back_and_belong_to_one_filter(tmp_path: Path) -> None:
    path, own = Path(joint_file(tmp_path)), CollaborativeFilter(sasrec())
    vectors = JointVectors.load(path, own, LATENT)
    assert not torch.equal(vectors.items, vectors.texts)
    assert vectors.text_encoder == PAPERS
    other = sasrec()
    torch.nn.init.normal_(next(other.parameters()))
    with pytest.raises(UserError, match="another collaborative filter"):
        JointVectors.load(path, CollaborativeFilter(other))
    with pytest.raises(UserError, match="have width 8, not 4"):
        JointVectors.load(path, own, 4)
    with pytest.raises(UserError, match="Run stage 1"):
        JointVectors.load(tmp_path / "absent", own)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="holds no joint vectors"):
        JointVectors.load(path, own)
