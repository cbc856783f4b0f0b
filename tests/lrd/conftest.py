"""A tiny prepared world with item vectors in a file."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.__main__ import main
from lrd.data import RelationalDataModule

WIDTH = 6
Make = Callable[..., RelationalDataModule]


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stores")
    size = ["--users", "60", "--items", "128", "--interactions", "560"]
    assert main(["prepare", "synthetic", *size, "--root", str(folder)]) == 0
    np.save(folder / "vectors.npy", np.random.default_rng(0).normal(size=(128, WIDTH)).astype(np.float32))
    return folder


@pytest.fixture(scope="session")
def make(root: Path) -> Make:
    def relational(**arguments: Any) -> RelationalDataModule:  # noqa: ANN401 (forwarded)
        given = {"text_encoder": f"file:{root / 'vectors.npy'}", "batch_size": 32, **arguments}
        return RelationalDataModule("synthetic", str(root), **given)

    return relational


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """A number of PyTorch's threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)
