"""A tiny paper, and data like its own."""

from pathlib import Path
from typing import Any

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
