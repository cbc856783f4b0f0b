"""Fixtures of the baselines' tests."""

import pytest

from tests.allmrec.baselines import sentence_model
from tests.allmrec.tiny import WORDS
from tests.common.models import toy


@pytest.fixture(scope="session")
def sberts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folder of a tiny sentence model of each family; they know the words of the toy world and of the small one."""
    folder = tmp_path_factory.mktemp("sberts")
    words = {*WORDS, "item", "about", "chosen", *(str(i) for i in range(toy.NUM_ITEMS + 1))}
    return {family: sentence_model.build(folder, words, family) for family in ("bert", "distilbert")}


@pytest.fixture(scope="session")
def sbert(sberts: dict[str, str]) -> str:
    """Folder of a tiny BERT with mean pooling."""
    return sberts["bert"]
