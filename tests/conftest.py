"""Fixtures that the whole suite shares."""

import gc
import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings

# The first example of a test also pays for imports; a slow machine is no failed property.
settings.register_profile("recbench", deadline=None)
settings.load_profile("recbench")


def pytest_collection_finish() -> None:
    """Leaves what imports and collection made out of later searches for garbage, which take a second each otherwise."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def fresh() -> None:
    """The random state and the arithmetic of a new process, whatever earlier tests have set."""
    torch.manual_seed(0)
    torch.set_flush_denormal(False)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets, or a skip that says why."""
    folder = os.environ.get("RECBENCH_DATA")
    if not folder:
        pytest.skip("RECBENCH_DATA is unset: no real data on this machine")
    path = Path(folder)
    assert path.is_dir(), f"RECBENCH_DATA names {folder!r}, which is not a folder"
    return path


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of parity tensors, or a skip that says why."""
    folder = os.environ.get("RECBENCH_GOLDEN") or (
        f"{os.environ['RECBENCH_DATA']}/../golden" if os.environ.get("RECBENCH_DATA") else ""
    )
    if not folder or not Path(folder).is_dir():
        pytest.skip("neither RECBENCH_GOLDEN nor $RECBENCH_DATA/../golden names the parity tensors")
    return Path(folder)
