"""Fixtures of A-LLMRec's tests."""

from pathlib import Path

import pytest

from allmrec.llm import FrozenLLM
from tests.allmrec import tiny


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folder of a tiny language model of each family."""
    root = tmp_path_factory.mktemp("llm")
    return {family: tiny.build(root, family) for family in tiny.FAMILIES}


@pytest.fixture(params=tiny.FAMILIES)
def llm(request: pytest.FixtureRequest, folders: dict[str, str]) -> FrozenLLM:
    """A tiny language model in fp32, one family after another."""
    return FrozenLLM(folders[request.param], precision="fp32")


@pytest.fixture
def opt(folders: dict[str, str]) -> FrozenLLM:
    """A tiny OPT in fp32."""
    return FrozenLLM(folders["opt"], precision="fp32")


@pytest.fixture
def empty_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    return folder
