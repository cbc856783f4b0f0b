"""Top lists hold the best items that a user has not had, for known users and for histories of choice."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks.__main__ import main
from benchmarks.evaluate import load_run
from benchmarks.recommend import _lines, whole_history
from benchmarks.runs import find_runs
from common.models.base import Recommender
from common.models.floors import Popularity
from common.types import SequenceBatch
from tests.benchmarks.conftest import options, without_times


def answers(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, list[dict[str, object]]]:
    capsys.readouterr()
    assert main(["recommend", *arguments, "--json"]) == 0
    return dict(json.loads(capsys.readouterr().out))


def tokens(run: Path, user: int) -> list[str]:
    module, _ = load_run(run)
    names = module.store.items()["item"]
    return [names[item - 1] for item in whole_history(module.events["sequences"], user).items]


def test_lists_are_sorted_and_leave_out_the_whole_history(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = load_run(finished)[0].store.user_tokens()[4]
    best = answers(capsys, str(finished), "--user", name, "--k", "7")[name]
    scores = [float(str(row["score"])) for row in best]
    assert scores == sorted(scores, reverse=True)
    assert len({row["item"] for row in best}) == 7
    assert not {row["item"] for row in best} & set(tokens(finished, 5))


def test_users_may_be_named_one_by_one_or_together(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second, third = load_run(finished)[0].store.user_tokens()[:3]
    assert list(answers(capsys, str(finished), "--user", first, "--user", second, third)) == [first, second, third]


def test_a_floor_recommends_the_most_popular_unseen_items(floor: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module, _ = load_run(floor)
    name = module.store.user_tokens()[0]
    best = answers(capsys, str(floor), "--user", name, "--k", "3")[name]
    counts = module.catalogue["train_count"].clone()
    counts[[0, *whole_history(module.events["sequences"], 1).items]] = -1
    assert [row["score"] for row in best] == counts.sort(descending=True).values[:3].float().tolist()


def test_a_history_on_the_command_line_equals_that_user(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = load_run(finished)[0].store.user_tokens()[2]
    known = answers(capsys, str(finished), "--user", name)[name]
    (given,) = answers(capsys, str(finished), "--history", ",".join(tokens(finished, 3))).values()
    assert [row["item"] for row in given] == [row["item"] for row in known]
    first, second = (torch.tensor([float(str(row["score"])) for row in rows]) for rows in (given, known))
    torch.testing.assert_close(first, second)


def test_a_run_on_a_split_by_imputed_times_recommends_though_no_store_holds_that_split(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stores = without_times(root, tmp_path / "stores")
    for path in stores.rglob("manifest.json"):
        manifest = json.loads(path.read_text())
        del manifest["splits"]["global_temporal"]
        path.write_text(json.dumps(manifest))
    own = ["--data.split=global_temporal", "--data.allow_imputed_time=true", *options(stores, tmp_path / "runs")]
    assert main(["run", "--config", "synthetic/popularity", *own]) == 0
    (run,) = find_runs([tmp_path / "runs"])
    assert len(answers(capsys, str(run), "--user", "u03")["u03"]) == 10


def test_scores_that_are_no_numbers_are_refused(
    floor: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(model: Recommender, batch: SequenceBatch) -> Tensor:
        return torch.full((len(batch["history"]), model.num_items + 1), torch.nan)

    user = load_run(floor)[0].store.user_tokens()[0]
    monkeypatch.setattr(Popularity, "score_catalogue", broken)
    assert main(["recommend", str(floor), "--user", user]) == 2
    assert "NaN or infinite scores of Popularity" in capsys.readouterr().err


def test_a_method_that_ranks_no_catalogue_is_refused(
    floor: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Popularity, "ranks_catalogue", False)
    assert main(["recommend", str(floor), "--user", "u03"]) == 2
    assert "Popularity, which ranks only the candidates in its prompt.\nName a run" in capsys.readouterr().err


def test_an_item_takes_one_line() -> None:
    best = [{"item": "a", "title": "One\nhouse", "score": 1.0}, {"item": "b", "title": "", "score": 0.5}]
    assert [line.split() for line in _lines(("u", best)).splitlines()[1:]] == [
        ["1", "1.0000", "a", "One", "house"], ["2", "0.5000", "b"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "cure"),
    [
        (["--user", "u99"], "no user 'u99'"),
        (["--history", "nothing"], "no item 'nothing'"),
        ([], "--user USER"),
        (["--user", "u01", "--k", "1000"], "from 1 to"),
    ],
)
def test_mistakes(arguments: list[str], cure: str, finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recommend", str(finished), *arguments]) == 2
    assert cure in capsys.readouterr().err
