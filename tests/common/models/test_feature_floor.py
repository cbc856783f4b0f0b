import math
from itertools import pairwise

import lightning as L
import pytest
import torch
from lightning.pytorch.plugins import HalfPrecision
from scipy.optimize import minimize
from torch.utils.data import DataLoader

from common.errors import UserError
from common.models.base import Recommender
from common.models.feature_floor import WINDOWS, FeatureFloor, conditional_logit
from common.models.floors import DAY
from common.types import Catalogue, SequenceBatch
from tests.common.models import toy
from tests.common.models.cases import ModelCases


class TestFeatureFloor(ModelCases):
    model = FeatureFloor
    exceptions = {
        "test_untrained_items_score_alike": "attributes tell untrained items apart",
        "test_scores_need_no_float64": "features are made on the CPU, whatever the device",
    }

    def build(self) -> Recommender:
        model = super().build()
        assert isinstance(model, FeatureFloor)
        model.fit([toy.sampled_batch()])
        return model


class TestFeatureFloorWithoutTimes(TestFeatureFloor):
    arguments = {"use_times": False}


def _features(known: Catalogue) -> dict[str, torch.Tensor]:
    model = FeatureFloor(toy.NUM_ITEMS)
    model.attach(known)
    return dict(model.features(toy.full_batch()))


class _Data(L.LightningDataModule):
    """Serves the toy world's cases for validation and test."""

    def __init__(self) -> None:
        super().__init__()
        self.catalogue = toy.catalogue()

    def case_loader(self, phase: str, protocol: str) -> DataLoader[SequenceBatch]:
        return toy.loader(toy.sampled_batch())

    def test_dataloader(self) -> DataLoader[SequenceBatch]:
        return self.case_loader("test", "sampled-19")


def _users(known: Catalogue) -> list[list[int]]:
    offsets, items = known["train"]["offsets"].tolist(), known["train"]["items"].tolist()
    return [items[start:end] for start, end in pairwise(offsets)]


def _cosine(users: list[list[int]], one: int, other: int) -> float:
    with_one, with_other = ({user for user, items in enumerate(users) if item in items} for item in (one, other))
    both = len(with_one & with_other) * (one != other)
    return both / math.sqrt(len(with_one) * len(with_other)) if both else 0.0


def test_there_are_at_most_twenty_features() -> None:
    model = FeatureFloor(toy.NUM_ITEMS)
    catalogue = toy.catalogue()
    pairs = catalogue["relations"]["complement"]
    catalogue["relations"] = dict.fromkeys(("a", "b", "c", "d"), pairs)
    catalogue["attributes"] = dict.fromkeys(("e", "f", "g"), catalogue["attributes"]["category"])
    model.attach(catalogue)
    assert len(list(model.features(toy.full_batch()))) == 20 == len(model.weights)


def test_links_are_those_of_which_most_is_known() -> None:
    known = toy.catalogue()
    category, pairs = known["attributes"]["category"], known["relations"]["complement"]
    few = torch.where(torch.arange(len(category)) < 3, category, 0)
    known["attributes"] = {"a": torch.zeros_like(category), "brand": few, "category": category, "year": category}
    known["relations"] = {"a": pairs[:0], "b": pairs[:1], "c": pairs, "d": pairs}
    names = {name.rpartition("_")[0] for name in _features(known)} & {*known["attributes"], *known["relations"]}
    assert names == {"category", "year", "c", "d"}


def test_attributes_with_a_single_value_count_as_one() -> None:
    known = toy.catalogue()
    generator = torch.Generator().manual_seed(3)
    flags = torch.randint(2, (3, toy.NUM_ITEMS + 1), generator=generator)
    flags[:, 0] = 0
    known["attributes"] = {"drama": flags[0], "war": flags[1], "comedy": flags[2]}
    features, history = _features(known), [item for item in toy.full_batch()["history"][5].tolist() if item]
    for item in range(1, toy.NUM_ITEMS + 1):
        shared = [int((flags[:, other] * flags[:, item]).sum()) for other in history]
        assert features["(flags)_last"][5, item] == shared[-1]
        assert features["(flags)_history"][5, item].expm1().item() == pytest.approx(sum(shared), abs=1e-4)


@pytest.mark.parametrize("returning", [False, True])
def test_features_of_times_and_links_agree_with_loops(returning: bool) -> None:
    known, batch = toy.catalogue(returning), toy.full_batch()
    features = _features(toy.catalogue(returning))
    events = list(zip(known["train"]["items"].tolist(), known["train"]["times"].tolist(), strict=True))
    now, history = int(batch["target_time"][5]), [i for i in batch["history"][5].tolist() if i]
    category = known["attributes"]["category"].tolist()
    links = {tuple(pair) for pair in known["relations"]["complement"].tolist()}
    for item in range(1, toy.NUM_ITEMS + 1):
        times = [t for i, t in events if i == item and t < now]
        expected = {
            "popularity": len(times),
            **{f"popular_{days}d": sum(t >= now - days * DAY for t in times) for days in WINDOWS},
            "age": (now - min(times)) / DAY if times else 0,
            "rest": (now - max(times)) / DAY if times else 0,
            "complement_history": sum((j, item) in links for j in history),
            "category_history": sum(category[j] == category[item] for j in history),
        }
        found = {name: features[name][5, item].expm1().item() for name in expected}
        assert found == pytest.approx(expected, abs=1e-4)
        assert features["repeat"][5, item] == (item in history)
        assert features["unborn"][5, item] == (not times)
        assert features["complement_last"][5, item] == ((history[-1], item) in links)
        assert features["category_last"][5, item] == (category[history[-1]] == category[item])


@pytest.mark.parametrize("returning", [False, True])
def test_features_of_co_occurrence_agree_with_loops(returning: bool) -> None:
    users, features = _users(toy.catalogue(returning)), _features(toy.catalogue(returning))
    steps = [step for items in users for step in pairwise(items)]
    for row in range(toy.NUM_USERS):
        history = [item for item in toy.full_batch()["history"][row].tolist() if item]
        for item in range(1, toy.NUM_ITEMS + 1):
            expected = {
                "next": math.log1p(steps.count((history[-1], item))),
                "cosine_last": _cosine(users, history[-1], item),
                "cosine_history": sum(_cosine(users, j, item) for j in history),
            }
            assert {name: features[name][row, item].item() for name in expected} == pytest.approx(expected, abs=1e-4)


def test_weights_are_those_of_another_optimiser() -> None:
    features = torch.randn(60, 7, 3, dtype=torch.float64)
    features[:, 0, 0] += 1.0
    scale = features.std(dim=(0, 1))

    def loss(weights: list[float]) -> float:
        scores = features / scale @ torch.as_tensor(weights)
        return float(-scores.log_softmax(1)[:, 0].mean() + 0.01 * torch.as_tensor(weights).square().sum())

    expected = torch.from_numpy(minimize(loss, [0.0, 0.0, 0.0], tol=1e-9).x) / scale
    torch.testing.assert_close(conditional_logit(features, ridge=0.01), expected, atol=1e-3, rtol=1e-3)


def test_a_feature_that_does_not_vary_has_no_weight() -> None:
    features = torch.randn(20, 5, 2)
    features[..., 1] = 3.0
    weights = conditional_logit(features, ridge=1e-4)
    assert weights[1] == 0
    assert weights[0] != 0


def test_each_case_counts_once() -> None:
    model, batch = FeatureFloor(toy.NUM_ITEMS), toy.sampled_batch()
    model.attach(toy.catalogue())
    model.fit([batch])
    weights = model.weights.clone()
    assert weights.any()
    rows = torch.cat([torch.arange(toy.NUM_USERS), torch.tensor([3, 3, 3, 7])])
    filled: SequenceBatch = {k: v[rows] if isinstance(v, torch.Tensor) else v for k, v in batch.items()}  # type: ignore[assignment]  # a comprehension loses the keys
    for batches in ([filled], [batch, batch], [filled, batch]):
        model.fit(batches)
        assert torch.equal(model.weights, weights)


@pytest.mark.parametrize(
    ("valid", "cure"),
    [("Choose one of: full.", "Leave this floor out"), ("Did you mean 'sampled-19'?", "'sampled-19'")],
)
def test_a_floor_without_candidates_to_be_fitted_on_says_what_to_do(valid: str, cure: str) -> None:
    class Data:
        catalogue = toy.catalogue()

        def case_loader(self, phase: str, protocol: str) -> list[SequenceBatch]:
            raise UserError(f"There are no candidates {protocol!r}.", valid)

    with pytest.raises(UserError, match=f"--model.fit_protocol: There are no candidates 'sampled-99'.\n.*{cure}"):
        FeatureFloor(toy.NUM_ITEMS).complete(Data())
    with pytest.raises(UserError, match="ranks the catalogue"):
        FeatureFloor(toy.NUM_ITEMS, fit_protocol="full").fit([toy.full_batch()])


def test_a_trainer_fits_the_weights_before_it_tests() -> None:
    fitted, model = FeatureFloor(toy.NUM_ITEMS), FeatureFloor(toy.NUM_ITEMS)
    fitted.attach(toy.catalogue())
    fitted.fit([toy.sampled_batch()])
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.test(model, datamodule=_Data(), verbose=False)
    assert torch.equal(model.weights, fitted.weights)


def test_a_trainer_in_half_precision_rounds_neither_weights_nor_scores() -> None:
    model = TestFeatureFloor().build()
    exact = model.score_catalogue(toy.full_batch())
    precision = HalfPrecision("bf16-true")
    precision.convert_module(model)
    with precision.test_step_context():
        assert torch.equal(model.score_catalogue(toy.full_batch()), exact)


def test_what_the_data_lack_is_not_read() -> None:
    known = toy.catalogue()
    everything = FeatureFloor(toy.NUM_ITEMS)
    everything.attach(known)
    assert {"graph", "attributes"} <= everything.information_set
    for kind, table in (("graph", "relations"), ("attributes", "attributes")):
        model, without = FeatureFloor(toy.NUM_ITEMS), toy.catalogue()
        without[table] = {}  # type: ignore[literal-required]  # one of two keys
        model.attach(without)
        assert everything.information_set - model.information_set == {kind}


def test_as_many_cases_are_read_whatever_the_batch_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.models.feature_floor.MAX_CASES", 7)
    whole, model = toy.sampled_batch(), FeatureFloor(toy.NUM_ITEMS)
    model.attach(toy.catalogue())
    fitted = []
    for size in (2, 5, len(whole["history"])):
        parts = [
            {key: value[rows] if isinstance(value, torch.Tensor) else value for key, value in whole.items()}
            for rows in torch.arange(len(whole["history"])).split(size)
        ]
        model.fit(parts)  # type: ignore[arg-type]  # a comprehension loses the keys
        fitted.append(model.weights.clone())
    assert all(torch.equal(weights, fitted[0]) for weights in fitted)


def test_last_event_clock_reads_no_query_time() -> None:
    assert FeatureFloor(3, clock="last_event").information_set == {"order", "graph", "attributes", "event_times"}
    assert FeatureFloor(3, use_times=False).information_set == {"order", "graph", "attributes"}
