"""What the whole model reads, remembers and says of users and items that it knows nothing of."""

from typing import Any, cast

import pytest
import torch

from common.errors import UserError
from common.types import Catalogue
from lrd.backbones.kda import KDA
from lrd.backbones.rcf import RCF
from lrd.discovery import LatentRelationDiscovery
from lrd.entities import TextItemEmbedding
from lrd.graph import Graph
from lrd.module import LRD
from lrd.text_sasrec import TextSASRec
from lrd.triplets import TripletDataset
from tests.common.models import toy

WIDTH = 5


def catalogue(identity: str = "one", **changes: Any) -> Catalogue:  # noqa: ANN401 (forwarded)
    vectors = torch.nn.functional.pad(torch.randn(toy.NUM_ITEMS, WIDTH), (0, 0, 1, 0))
    source = {"name": "MiniLM", "identity": identity}
    known = {**toy.catalogue(), "text_vectors": vectors, "text_source": source, "num_interactions": 100, **changes}
    return cast(Catalogue, known)


def model(
    backbone: RCF | None = None,
    discovery: LatentRelationDiscovery | None = None,
    **arguments: Any,  # noqa: ANN401
) -> LRD:
    graph = Graph(toy.catalogue())
    sizes = (toy.NUM_USERS, toy.NUM_ITEMS, graph.num_entities, len(graph.relations), WIDTH)
    return LRD(*sizes, backbone=backbone or RCF(8, heads=2), discovery=discovery, **arguments)


BASE = {"history", "user_id", "graph", "attributes"}
TIMES = {"order", "event_times", "query_time"}


@pytest.mark.parametrize(
    ("made", "reads"),
    [
        (lambda: model(), BASE),
        (lambda: model(weight_kge=0.0), BASE - {"graph"}),
        (lambda: model(RCF(8, heads=2, include_values=False)), BASE),
        (lambda: model(RCF(8, heads=2, include_values=False), weight_kge=0.0), BASE - {"graph", "attributes"}),
        (lambda: model(KDA(8, heads=2)), BASE | TIMES),
        (lambda: model(KDA(8, heads=2), weight_kge=0.0), BASE | TIMES),
        (lambda: model(KDA(8, heads=2, clock="last_event")), BASE | {"order", "event_times"}),
        (lambda: model(discovery=LatentRelationDiscovery()), BASE | {"text"}),
        (lambda: model(discovery=LatentRelationDiscovery(vectors="id")), BASE),
        (lambda: model(discovery=LatentRelationDiscovery(extractor="uniform")), BASE),
        (lambda: model(discovery=LatentRelationDiscovery(), weight_lrd=0.0), BASE),
        (lambda: model(RCF(8, heads=2, item_text=True)), BASE | {"text"}),
    ],
)
def test_what_is_read_follows_from_the_arguments(made: Any, reads: set[str]) -> None:  # noqa: ANN401
    found = made()
    found.attach(catalogue())
    assert found.information_set == reads
    assert found.table_marks() == (["texts by MiniLM"] if "text" in reads else [])


def test_weight_of_triplets_is_a_ratio_to_training_events_or_as_released_to_all() -> None:
    known = catalogue(num_interactions=1000)
    triplets, events = len(Graph(known).triplets), len(known["train"]["items"])
    assert events < 1000
    for rule, expected in (("auto", triplets / events), ("released", triplets / 1000), (0.3, 0.3)):
        made = model(weight_kge=rule)
        made.attach(known)
        assert float(made.weight_kge) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ({"weight_kge": -1.0}, "weight_kge is -1.0.\nWhat the authors' code means by -1 is `released`"),
        ({"weight_lrd": -0.1}, "weight_lrd is -0.1"),
        ({"cache_candidates": 0}, "cache_candidates is 0"),
    ],
)
def test_arguments_out_of_range_are_refused_by_name(argument: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        model(**argument)


def batch_with_triplets() -> Any:  # noqa: ANN401 (a batch of both loaders)
    dataset = TripletDataset(Graph(toy.catalogue()), 16)
    return {**next(toy.prefix_batches()), "triplets": dataset.__getitems__(range(16))}


def test_without_weight_triplets_are_no_part_of_the_loss() -> None:
    made, batch = model(weight_kge=0.0), batch_with_triplets()
    made.attach(catalogue())
    assert set(made.loss(batch)) == {"loss", "loss_rec"}
    assert set(model().loss(batch)) == {"loss", "loss_rec", "loss_kge"}


def test_the_papers_joint_loss_and_its_gradients_are_those_of_a_loop_over_pairs_and_relations() -> None:
    made = model(discovery=LatentRelationDiscovery(2), weight_lrd=0.5, weight_kge=0.3).double()
    known = catalogue()
    made.attach(known)
    whole = batch_with_triplets()
    batch: Any = {name: value if name == "triplets" else value[-6:] for name, value in whole.items()}
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    batch["negative_history"] = torch.randint(1, toy.NUM_ITEMS + 1, batch["history"].shape)
    parts = made.loss(batch)

    discovery = made.discovery
    assert discovery is not None
    items, relations, bounds = made.backbone.entities.weight, made.backbone.relations, torch.zeros(()).double()
    for row, target in enumerate(batch["targets"][:, 0]):
        for item, other in zip(batch["history"][row], batch["negative_history"][row], strict=True):
            if item == 0:
                continue
            texts = [discovery.project(known["text_vectors"][one].double()) for one in (item, target)]
            q = discovery.classify(torch.cat(texts)).softmax(0)
            for r, relation in enumerate(relations):
                right = torch.sigmoid((items[item] * relation * items[target]).sum())
                wrong = torch.sigmoid((items[other] * relation * items[target]).sum())
                bounds = bounds + q[r] * (right.log() + (1 - wrong).log()) - 0.1 * q[r] * q[r].log()
    expected = parts["loss_rec"] + 0.3 * parts["loss_kge"] - 0.5 * bounds / 6
    torch.testing.assert_close(parts["loss"], expected)
    learnt = [items, relations, *discovery.parameters()]
    gradients = [torch.autograd.grad(loss, learnt, retain_graph=True) for loss in (parts["loss"], expected)]
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("include_values", [True, False])
def test_values_are_added_to_the_relations_of_triplets_where_they_are_to_those_of_candidates(
    include_values: bool,
) -> None:
    made = model(RCF(8, heads=2, include_values=include_values))
    backbone, triplets = made.backbone, batch_with_triplets()["triplets"]
    scores = made.score_triplets(triplets)
    assert triplets["value"].any()
    for row, (relation, value) in enumerate(zip(triplets["relation"], triplets["value"], strict=True)):
        vector = backbone.relations[relation] + include_values * backbone.entities.weight[value]
        pair = backbone.entities.weight[triplets["head"][row, 0]], backbone.entities.weight[triplets["tail"][row, 0]]
        torch.testing.assert_close(scores[row, 0], (pair[0] * vector * pair[1]).sum())


def test_texts_are_projected_once_a_step_with_the_gradients_of_every_look_up() -> None:
    made, batch = model(RCF(8, heads=2, item_text=True)), batch_with_triplets()
    made.attach(catalogue())
    entities, calls = made.backbone.entities, []
    assert isinstance(entities, TextItemEmbedding)
    entities.project.register_forward_hook(lambda *_: calls.append(1))
    gradients = []
    for loss in (made.loss, made._joint_loss):
        made.zero_grad()
        loss(batch)["loss"].backward()
        gradients.append({name: value.grad for name, value in made.named_parameters()})
    assert len(calls) == 1 + 7
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize(("part", "read"), [("relations", "graph"), ("attributes", "attributes")])
def test_what_is_not_there_is_not_read(part: str, read: str) -> None:
    found, changes = model(), dict[str, Any]({part: {}})
    found.attach(catalogue(**changes))
    assert found.information_set == BASE - {read}


@pytest.mark.parametrize("kind", ["discovery", "sasrec"])
def test_weights_refuse_other_vectors_and_take_those_that_say_nothing(kind: str) -> None:
    def made(identity: str) -> LRD | TextSASRec:
        fresh = model(discovery=LatentRelationDiscovery()) if kind == "discovery" else TextSASRec(toy.NUM_ITEMS, WIDTH)
        fresh.attach(catalogue(identity))
        return fresh

    weights = made("one").state_dict()
    made("one").load_state_dict(weights)
    with pytest.raises(UserError, match="other item vectors"):
        made("two").load_state_dict(weights)
    weights.pop("texts_digest")
    made("two").load_state_dict(weights)


def test_the_unknown_are_scored_with_means_of_items_and_of_users() -> None:
    known = catalogue()
    known["train"]["offsets"] = torch.cat([known["train"]["offsets"][:-1], known["train"]["offsets"][-2:-1]])
    made = model(weight_kge=0.0).eval()
    made.attach(known)
    backbone = made.backbone
    torch.nn.init.normal_(backbone.item_bias)
    trained = known["train_count"] > 0
    unknown = torch.tensor(toy.UNTRAINED)
    with torch.no_grad():
        backbone.entities.weight.normal_()[toy.NUM_ITEMS + 1 :] += 100
        items = backbone.entities(unknown)
        torch.testing.assert_close(items, backbone.entities.weight[: toy.NUM_ITEMS + 1][trained].mean(0).expand(2, -1))
        torch.testing.assert_close(backbone.biases()[unknown], backbone.item_bias[trained].mean().expand(2))
        cold = torch.tensor([toy.NUM_USERS])
        torch.testing.assert_close(backbone.users(cold)[0], backbone.users.weight[1 : toy.NUM_USERS].mean(0))
        values = torch.tensor([toy.NUM_ITEMS + 2])
        torch.testing.assert_close(backbone.entities(values), backbone.entities.weight[values])


def test_a_value_that_only_unseen_items_have_is_the_mean_of_its_attribute() -> None:
    attributes = {name: toy.catalogue()["attributes"]["category"].clone() for name in ("category", "colour")}
    attributes["category"][toy.UNTRAINED[0]] = 4
    known = catalogue(attributes=attributes)
    graph = Graph(known)
    backbone = RCF(8, heads=2)
    sizes = (toy.NUM_USERS, toy.NUM_ITEMS, graph.num_entities, len(graph.relations), WIDTH)
    made = LRD(*sizes, backbone=backbone).eval()
    made.attach(known)
    entities, first = backbone.entities, toy.NUM_ITEMS + 1
    with torch.no_grad():
        entities.weight.normal_()
        # Unknown, three values and that of the unseen item; then unknown and three values.
        category, colour = (entities.weight[begin : begin + 3].mean(0) for begin in (first + 1, first + 6))
        made_up = entities.table()[[first, first + 4, first + 5]]
        torch.testing.assert_close(made_up, torch.stack([category, category, colour]))
        learnt = [first + 1, first + 2, first + 3, first + 6, first + 7, first + 8]
        assert torch.equal(entities.table()[learnt], entities.weight[learnt])
        assert torch.equal(entities.train().table(), entities.weight)


def test_an_accelerator_scores_in_one_piece_what_a_cpu_scores_in_many(monkeypatch: pytest.MonkeyPatch) -> None:
    made, batch, pieces = model(KDA(8, heads=2), cache_candidates=8).eval(), toy.full_batch(), []
    made.attach(catalogue())
    batch = {**batch, "candidates": torch.arange(1, 11).expand(len(batch["history"]), -1)}
    made.backbone.pooling.register_forward_hook(lambda *_: pieces.append(1))
    with torch.no_grad():
        small = made.score(batch)
        assert len(pieces) == 2 * len(batch["history"])
        monkeypatch.setattr(LRD, "device", torch.device("cuda"))
        torch.testing.assert_close(made.score(batch), small)
    assert len(pieces) == 2 * len(batch["history"]) + 1


def test_scores_under_autocast_are_near_those_without() -> None:
    made, batch = model(KDA(8, heads=2)).eval(), toy.full_batch()
    made.attach(catalogue())
    batch = {**batch, "candidates": torch.arange(1, 11).expand(len(batch["history"]), -1)}
    with torch.inference_mode():
        exact = made.score(batch)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = made.score(batch)
    torch.testing.assert_close(rough.float(), exact, atol=0.02, rtol=0.1)
