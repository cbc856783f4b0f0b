"""The settings of A-LLMRec's paper train, validate and test every row, on small models and for few epochs."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.__main__ import main
from benchmarks.runs import find_runs, read_result

PROMPTED: dict[str, Any] = {"model.llm": "standin", "model.quantization": "none", "trainer.max_epochs": 1}
TESTED = {"model.llm": "standin"}
HERE: dict[str, dict[str, Any]] = {
    # The synthetic world has no raw reviews whose times a floor could read.
    "feature_floor": {"model.use_times": None},
    **{name: {"trainer.max_epochs": 3} for name in ("ncf", "nextitnet", "gru4rec", "sasrec_allmrec")},
    "allmrec_stage1": {"model.sbert": "minilm", "trainer.max_epochs": 2},
    **dict.fromkeys(("allmrec", "allmrec_texts", "mlp_llm", "tallrec"), PROMPTED),
    "allmrec_random_llm": {"model.llm": "standin", "trainer.max_epochs": 1},
    "allmrec_retrieval": {"model.reader": "standin", "trainer.max_epochs": 1},
    "llm_only": {"model.llm": "standin", "model.quantization": "none"},
    **dict.fromkeys(("allmrec_null_context", "allmrec_shuffled_users", "allmrec_shuffled_joint"), TESTED),
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


@pytest.mark.slow
def test_every_row_of_the_papers_suite_runs(tmp_path: Path) -> None:
    root, runs, suite = tmp_path / "data", tmp_path / "runs", tmp_path / "rehearsal.yaml"
    size = ["--users", "150", "--items", "128", "--interactions", "1600"]
    assert main(["prepare", "synthetic", *size, "--root", str(root), "--standin-llm"]) == 0
    content = {"about": "a rehearsal", "like": "allmrec-paper", "datasets": ["synthetic"], "changes": HERE}
    seeds = {"seeds": [1], "seeds_llm": [1], "options": {"data.test_users": 100}}
    suite.write_text(yaml.safe_dump(content | seeds))
    assert main(["suite", str(suite), "--root", str(root), "--runs", str(runs), "--jobs", "2"]) == 0
    results = [read_result(folder) for folder in find_runs([runs])]
    assert set(HERE) <= {result.method for result in results}
    assert all(result.cases["test/sampled-19/overall"] == 100 for result in results)
