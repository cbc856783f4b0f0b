"""What the page knows equals what the tables say, and its file stands alone."""

import json
import re
from pathlib import Path
from typing import Any

from benchmarks.html.payload import as_script, payload
from benchmarks.leaderboard.judge import judged
from benchmarks.leaderboard.rows import build_table
from benchmarks.leaderboard.sources import own_runs
from tests.benchmarks.made_results import made_run


def payload_of(runs: Path) -> dict[str, Any]:
    found = own_runs([runs])
    return payload([judged(build_table([run.result for run in found], "full"), found, resamples=200)], found)


def test_figures_and_pairs_are_those_of_the_table(tmp_path: Path) -> None:
    made_run(tmp_path, "a", 0.4)
    made_run(tmp_path, "b", 0.2)
    table = payload_of(tmp_path)["tables"][0]
    means = [row["metrics"]["ndcg@10"][0] for row in table["rows"]]
    assert round(means[0] - means[1], 4) == round(table["pairs"][0][1][0], 4)
    assert table["pairs"][0][0] is None
    found = {run.result.method: run.result.metrics for run in own_runs([tmp_path])}
    for row in table["rows"]:
        own = {f"test/full/overall/{name}": cell[0] for name, cell in row["metrics"].items()}
        assert own == {key: found[row["method"]][key] for key in own}
    assert table["slices"] == {"cold_items": 23}


def test_a_card_has_the_curve_of_its_run(tmp_path: Path) -> None:
    made_run(tmp_path, "a", 0.4)
    (card,) = payload_of(tmp_path)["runs"].values()
    assert card["curve"]["val/ndcg@10"] == [[0, 0.1], [1, 0.2]]


def test_what_is_no_number_in_a_curve_is_skipped(tmp_path: Path) -> None:
    run = made_run(tmp_path, "a", 0.4)
    (run / "metrics.csv").write_bytes(b"epoch,train/loss,val/ndcg@10\n0,0.9,\xff\xfe\n\xff,0.8,\n1,,0.2\n2,,nan\n3\n")
    (card,) = payload_of(tmp_path)["runs"].values()
    assert card["curve"] == {"val/ndcg@10": [[1, 0.2]], "train/loss": [[0, 0.9]]}


def test_one_machine_is_described_once(tmp_path: Path) -> None:
    for seed in range(3):
        made_run(tmp_path, "a", 0.4, seed, environment={"versions": {"torch": "2.13"}})
    assert len(payload_of(tmp_path)["environments"]) == 1


def test_data_cannot_leave_their_script_element() -> None:
    text = as_script({"name": "</script><script>alert(1)"})
    assert "<" not in text
    assert json.loads(text)["name"].startswith("</script>")


def test_the_page_names_no_other_place(site: Path) -> None:
    page = (site / "index.html").read_text()
    outside = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert not re.findall(r"(?:src|href)=[\"']?(?:https?:)?//", outside)
    assert "default-src 'none'" in page
    assert sorted(path.name for path in site.iterdir()) == [
        "index.html",
        "leaderboard.csv",
        "leaderboard.json",
        "leaderboard.md",
        "ledger.html",
    ]
