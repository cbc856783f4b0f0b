"""Commands as processes of their own, and the weights that runs leave on disk."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch


def process(*arguments: str) -> subprocess.Popen[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks", *arguments]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment}
    # A shell lets what it starts in the background ignore Ctrl-C, and so would the gate's children.
    return subprocess.Popen(command, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL), **pipes)


def weights(folder: Path, name: str = "last.ckpt") -> dict[str, torch.Tensor]:
    content = torch.load(folder / name, weights_only=True)
    return dict(content["state_dict"])
