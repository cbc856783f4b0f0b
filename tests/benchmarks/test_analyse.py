"""``recbench analyse`` on tiny runs."""

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.analyse import best_pairs
from common.data.stores import find_store
from common.data.synthetic import true_relation
from tests.benchmarks.conftest import options

SMALL = [
    "--trainer.max_epochs=1",
    "--data.test_protocols=[sampled-99]",
    "--model.backbone.init_args.width=8",
    "--model.backbone.init_args.rounds=1",
]


def trained(method: str, root: Path, runs: Path, *more: str) -> Path:
    assert main(["run", "--config", f"synthetic/{method}", *options(root, runs, *SMALL, *more)]) == 0
    return next((runs / "synthetic" / method).iterdir())


@pytest.fixture(scope="module")
def analysed(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lrd")
    np.save(folder / "vectors.npy", np.random.default_rng(0).normal(size=(128, 12)).astype(np.float32))
    run = trained("kda_lrd", root, folder / "runs", f"--data.text_encoder=file:{folder / 'vectors.npy'}")
    assert main(["analyse", str(run), "--examples", "3", "--users", "4", "--resamples", "5"]) == 0
    return run / "analysis"


@pytest.fixture(scope="module")
def found(analysed: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((analysed / "analysis.json").read_text())
    return values


def test_every_relation_has_a_place_in_every_part(found: dict[str, Any]) -> None:
    names = found["relations"]
    assert names[0] == "virtual"
    assert names[-8:] == [f"latent {i}" for i in range(1, 9)]
    assert len(found["cosines"]) == len(found["projection"]) == len(names)
    assert sum(found["shares"].values()) == pytest.approx(1)
    assert sum(found["mean_probability"].values()) == pytest.approx(1, abs=1e-4)


def test_every_latent_relation_has_examples_and_those_of_no_pair_are_called_dead(
    found: dict[str, Any], analysed: Path
) -> None:
    alive = [name for name in found["relations"] if found["shares"][name]]
    assert found["dead"] == [name for name in found["relations"] if name not in alive] != []
    assert found["q_largest_share"] == pytest.approx(max(found["shares"].values()))
    latent = [name for name in found["relations"] if name.startswith("latent")]
    assert {name: len(rows) for name, rows in found["most_confident"].items()} == dict.fromkeys(latent, 3)
    assert (analysed / "index.html").read_text().count(">dead<") == len(found["dead"])


def test_explanations_name_users_titles_and_relations(found: dict[str, Any]) -> None:
    assert len(found["explanations"]) == 4
    for row in found["explanations"]:
        assert row["relation"] in found["relations"]
        assert row["user"]
        assert row["recommended"] != row["because_of"] != ""


def test_synthetic_runs_are_held_against_the_truth_on_pairs_that_no_training_history_holds(
    found: dict[str, Any], root: Path
) -> None:
    assert set(found["agreement"]) == {"discovered", "permuted", "k_means", "untrained", "probe"}
    assert all(row["low"] <= row["ami"] <= row["high"] for row in found["agreement"].values())
    store = find_store(root, "synthetic", "planted")
    split, truth = store.split(), {name: value.numpy() for name, value in store.truth().items()}
    items, offsets = split["sequences"]["items"].tolist(), split["sequences"]["offsets"].tolist()
    trained, held_out = set(), set()
    for start, end in zip(offsets, split["train_end"].tolist(), strict=False):
        trained |= {frozenset(pair) for pair in combinations(items[start:end], 2)}
    for part in (split["val"], split["test"]):
        for user, position in zip(part["user"].tolist(), part["position"].tolist(), strict=True):
            held_out |= {(item, items[position]) for item in items[offsets[user] : position][-20:]}
    heads, tails = np.array([pair for pair in held_out if frozenset(pair) not in trained]).T
    related = int((true_relation(truth, heads, tails) > 0).sum())
    assert {row["pairs"] for row in found["agreement"].values()} == {related}
    assert 0 < related < len(heads) < len(held_out)


def test_the_most_confident_pairs_come_first() -> None:
    pairs, probability = torch.tensor([[1, 2], [2, 3], [3, 1]]), torch.tensor([0.1, 0.7, 0.4])
    best = best_pairs(pairs, probability, ["", "a", "b", "c"], 2)
    assert [(row["head"], row["tail"]) for row in best] == [("b", "c"), ("c", "a")]


def test_page_holds_the_pictures_and_escapes_titles(analysed: Path) -> None:
    page = (analysed / "index.html").read_text()
    assert "{{" not in page
    assert "synthetic / kda_lrd" in page
    for name in ("cosines", "projection", "shares"):
        assert (analysed / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert f'alt="{name}"' in page
    assert page.count("<table>") >= 5


def test_another_seed_explains_other_users(analysed: Path, found: dict[str, Any], tmp_path: Path) -> None:
    given = ["--examples", "0", "--users", "4", "--resamples", "0", "--seed", "1"]
    assert main(["analyse", str(analysed.parent), *given, "--out", str(tmp_path)]) == 0
    other = json.loads((tmp_path / "analysis.json").read_text())
    users = [{row["user"] for row in part["explanations"]} for part in (found, other)]
    assert users[0] != users[1]


@pytest.mark.parametrize(("option", "value"), [("users", "0"), ("examples", "-1"), ("resamples", "-1")])
def test_numbers_out_of_range_are_refused_by_name(
    option: str, value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["analyse", str(tmp_path), f"--{option}={value}"]) == 2
    assert f"--{option} is {value}" in capsys.readouterr().err


def test_plain_backbones_are_analysed_without_discovery(root: Path, tmp_path: Path) -> None:
    run = trained("rcf", root, tmp_path)
    assert main(["analyse", str(run)]) == 0
    found = json.loads((run / "analysis" / "analysis.json").read_text())
    assert "shares" not in found
    assert len(found["explanations"]) == 10


def test_other_methods_are_refused(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["analyse", str(finished)]) == 2
    assert "not a run of LRD" in capsys.readouterr().err
