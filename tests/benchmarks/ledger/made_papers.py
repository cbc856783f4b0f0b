"""A tiny paper, and data like its own."""

from functools import reduce
from pathlib import Path
from typing import Any

import yaml

from benchmarks.ledger.reported import REPORTED, read_paper
from benchmarks.runs import CONFIG, read_result

TINY = """
paper: Tiny
source: https://example.org
tolerance: 0.1
requires:
  recipe: [5-core]
  language_model: [facebook/opt-6.7b]
  text_encoder: [sentence-transformers/nq-distilbert, "file:*feat.GPT*"]
copies: {ml-100k: [ml-1m]}
protocol: full
metric: hr@10
statistics: {table: Table 1, datasets: {ml-100k: {users: 943}}}
tables:
  - table: Table 2
    about: all users
    columns:
      - {dataset: ml-100k, best: sasrec, values: {sasrec: 0.2, caser: {hr@10: 0.1, ndcg@10: 0.05}}}
"""
DATA: dict[str, Any] = {"dataset": "ml-100k", "data": {"recipe": "5-core"}}


def written(folder: Path, text: str) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(text)
    return path


def as_printed(run: Path, paper: str, method: str, **changes: object) -> None:
    """Gives a run the settings with which a shipped paper has a method on its data, but for some, by option."""
    data = read_result(run).dataset
    settings = read_paper(REPORTED / f"{paper}.yaml").settings_of(method, data) | changes
    tree: dict[str, Any] = {}
    for option, value in settings.items():
        *path, name = option.split(".")
        reduce(lambda level, key: level.setdefault(key, {}), path, tree)[name] = value
    (run / CONFIG).write_text(yaml.safe_dump(tree))
