"""Suites with the settings of the papers train, validate and test every row, on small models and for few epochs."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.__main__ import main
from benchmarks.experiments import find_suite
from benchmarks.launch.plan import plan
from benchmarks.launch.suites import read_suite
from benchmarks.runs import Result, find_runs, read_result
from tests.fixtures.endpoint import serve_embeddings

BRIEF = {"trainer.max_epochs": 3}
PROMPTED: dict[str, Any] = {"model.llm": "standin", "model.quantization": "none", "trainer.max_epochs": 1}
TESTED = {"model.llm": "standin"}
ALLMREC: dict[str, dict[str, Any]] = {
    # The synthetic world has no raw reviews whose times a floor could read.
    "feature_floor": {"model.use_times": None},
    **dict.fromkeys(("ncf", "nextitnet", "gru4rec", "sasrec_allmrec", "sasrec_ce", "gsasrec"), BRIEF),
    "allmrec_stage1": {"model.sbert": "minilm", "trainer.max_epochs": 2},
    **dict.fromkeys(("allmrec", "allmrec_texts", "mlp_llm", "tallrec"), PROMPTED),
    "allmrec_random_llm": {"model.llm": "standin", "trainer.max_epochs": 1},
    "allmrec_retrieval": {"model.reader": "standin", "trainer.max_epochs": 1},
    "llm_only": {"model.llm": "standin", "model.quantization": "none"},
    **dict.fromkeys(
        ("allmrec_untrained", "allmrec_null_context", "allmrec_shuffled_users", "allmrec_shuffled_joint"), TESTED
    ),
    "morec": {"model.sbert": "minilm", "trainer.max_epochs": 2, "trainer.limit_train_batches": 1},
    "ctrl": {"model.sbert": "minilm", "model.align_epochs": 1, "trainer.max_epochs": 3},
    "recformer": {
        "model.initial": None,
        "model.attributes": ["title"],
        "model.width": 16,
        "model.heads": 2,
        "model.refresh_epochs": 1,
        "trainer.max_epochs": 3,
        "data.batch_size": 32,
    },
}
"""What cannot be had or would take long here; all else is the paper's."""


def rehearse(
    suite: str, folder: Path, users: int, changes: dict[str, dict[str, Any]], **content: object
) -> tuple[list[Result], set[str]]:
    """Results of a shipped suite on a small world with one seed, and the labels of all planned rows."""
    root, runs, path = folder / "data", folder / "runs", folder / "rehearsal.yaml"
    size = ["--users", str(users), "--items", "128", "--interactions", str(11 * users)]
    assert main(["prepare", "synthetic", *size, "--root", str(root), "--standin-llm"]) == 0
    own = {"about": "a rehearsal", "like": suite, "datasets": ["synthetic"], "changes": changes}
    path.write_text(yaml.safe_dump(own | {"seeds": [1], "seeds_llm": [1]} | content))
    assert main(["suite", str(path), "--root", str(root), "--runs", str(runs), "--jobs", "2"]) == 0
    results = [read_result(folder) for folder in find_runs([runs])]
    return results, {entry.method for entry in plan(read_suite(path), root, runs)}


def has_cases(result: Result) -> bool:
    return all(cases for name, cases in result.cases.items() if name.endswith("overall"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("suite", "users"),
    [("allmrec-paper", 150), ("allmrec-paper-ablations", 150), ("allmrec-paper-few-shot", 300)],
)
def test_every_row_of_allmrecs_suites_runs(suite: str, users: int, tmp_path: Path) -> None:
    results, planned = rehearse(suite, tmp_path, users, ALLMREC, options={"data.test_users": 100})
    assert {result.method for result in results if has_cases(result)} == planned


@pytest.mark.slow
@pytest.mark.parametrize("suite", ["lrd-paper", "lrd-paper-ablations", "lrd-paper-controls"])
def test_every_row_of_lrds_suites_runs(suite: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    methods = read_suite(find_suite(suite)).methods
    with serve_embeddings() as server:
        monkeypatch.setenv("OPENAI_API_KEY", "any")
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        brief = {method: {"trainer.max_epochs": 4} for method in methods}
        results, planned = rehearse(suite, tmp_path, 150, brief)
        assert server.asked
    assert {result.method for result in results if has_cases(result)} == planned
