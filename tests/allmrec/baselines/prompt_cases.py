"""Properties that every baseline must have that ranks the candidates of a prompt; one subclass a model."""

from abc import ABC, abstractmethod
from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from allmrec.ranker import LanguageModelRanker
from common.types import SequenceBatch
from tests.allmrec.world import evaluation_batch


class PromptCases(ABC):
    """A subclass says how its model is made, with a tiny language model in fp32."""

    model: ClassVar[type[LanguageModelRanker]]

    @abstractmethod
    def build(self, folder: str) -> LanguageModelRanker:
        """The model, attached, on the language model in ``folder``."""

    @pytest.fixture(params=["opt", "llama", "qwen2"])
    def made(self, folders: dict[str, str], request: pytest.FixtureRequest) -> LanguageModelRanker:
        return self.build(folders[request.param]).eval()

    def scores(self, model: LanguageModelRanker, batch: SequenceBatch) -> Tensor:
        with torch.inference_mode():
            return model.score(batch)

    def test_score_does_not_depend_on_the_rest_of_the_batch(self, made: LanguageModelRanker) -> None:
        batch = evaluation_batch(4)
        mixed = self.scores(made, batch)
        for row in range(4):
            alone = {k: v[row : row + 1] if isinstance(v, Tensor) else v for k, v in batch.items()}
            torch.testing.assert_close(self.scores(made, alone)[0], mixed[row], atol=1e-4, rtol=1e-4)  # type: ignore[arg-type]  # a comprehension loses the keys

    def test_more_padding_does_not_change_scores(self, made: LanguageModelRanker) -> None:
        batch = evaluation_batch(3)
        wide: SequenceBatch = {**batch, "history": F.pad(batch["history"], (3, 0))}
        torch.testing.assert_close(self.scores(made, wide), self.scores(made, batch))

    def test_evaluation_is_deterministic(self, made: LanguageModelRanker) -> None:
        assert torch.equal(self.scores(made, evaluation_batch(3)), self.scores(made, evaluation_batch(3)))

    def test_another_history_gives_other_scores(self, made: LanguageModelRanker) -> None:
        batch = evaluation_batch(3)
        other: SequenceBatch = {**batch, "history": batch["history"].flip(1)}
        assert not torch.allclose(self.scores(made, other), self.scores(made, batch))
