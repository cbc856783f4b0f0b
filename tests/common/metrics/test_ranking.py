import json
import subprocess
import sys
from pathlib import Path

import torch

from common.metrics.ranking import CaseRanks


def _update(ranks: CaseRanks, case_id: list[int], higher: list[int], equal: list[int], candidates: int = 100) -> None:
    ids = torch.tensor(case_id)
    ranks.update(
        ids,
        ids + 1,
        ids + 2,
        higher=torch.tensor(higher),
        equal=torch.tensor(equal),
        num_candidates=torch.full_like(ids, candidates),
    )


def test_table_is_sorted_and_holds_each_case_once() -> None:
    ranks = CaseRanks()
    _update(ranks, [3, 1], [30, 10], [0, 1])
    _update(ranks, [2, 3], [20, 30], [0, 0])
    table = ranks.compute()
    assert {name: column.tolist() for name, column in table.items()} == {
        "case_id": [1, 2, 3],
        "user": [2, 3, 4],
        "target": [3, 4, 5],
        "higher": [10, 20, 30],
        "equal": [1, 0, 0],
        "num_candidates": [100, 100, 100],
    }


def test_a_table_outlives_changes_of_what_it_was_given() -> None:
    ranks, ids = CaseRanks(), torch.arange(4)
    wide = torch.arange(40).view(4, 10)
    lists = []
    for step in range(5):
        counts = {"higher": ids, "equal": ids, "num_candidates": ids + 9}
        ranks.update(ids + 4 * step, ids, ids, **counts, top_items=wide[:, :3])
        lists.append(wide[:, :3].clone())
        wide += 1
    table = ranks.compute()
    assert torch.equal(table["top_items"], torch.cat(lists))
    assert table["case_id"].tolist() == list(range(20))


def test_a_single_case_has_metrics() -> None:
    ranks = CaseRanks()
    _update(ranks, [7], [1], [0])
    assert {name: column.tolist() for name, column in ranks.table().items()}["case_id"] == [7]
    assert {name: float(value) for name, value in ranks.metrics().items()}["hr@5"] == 1.0


def test_a_single_case_keeps_its_top_list() -> None:
    ranks, one = CaseRanks(torch.tensor([0, 4, 2])), torch.ones(1, dtype=torch.long)
    ranks.update(one, one, one, higher=0 * one, equal=0 * one, num_candidates=2 * one, top_items=one[:, None])
    assert ranks.table()["top_items"].tolist() == [[1]]
    assert float(ranks.metrics()["mean_popularity@1"]) == 4.0


def test_any_number_of_processes_gives_the_same_bits(tmp_path: Path) -> None:
    script: list[str | Path] = [sys.executable, "-m", "tests.common.metrics.evaluate_ddp", tmp_path]
    subprocess.run(script, check=True, timeout=120, capture_output=True)
    alone, *others = [[json.loads(path.read_text()) for path in tmp_path.glob(f"{n}-*.json")] for n in (1, 2, 3, 4)]
    assert [len(files) for files in others] == [2, 3, 4]
    ((scores, figures),) = [(one.pop("scores"), one) for one in alone]
    assert len(scores) == 2 * len(figures["table"]["case_id"]) > 50
    assert 0 < figures["metrics"]["full"]["ndcg@10"] < 1
    for files in others:
        shared = [one.pop("scores") for one in files]
        assert {case: bits for own in shared for case, bits in own.items()} == scores
        assert all(one == figures for one in files)
