"""The text-only floor."""

from typing import Any

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from allmrec.baselines.llm_only import LLMOnly
from allmrec.decoding import Scorer
from allmrec.generation import judge
from common.errors import UserError
from tests.allmrec.baselines.prompt_cases import PromptCases
from tests.allmrec.world import NUM_ITEMS, catalogue, evaluation_batch, training_batch


def build(folder: str, scorer: Scorer = "sum") -> LLMOnly:
    model = LLMOnly(NUM_ITEMS, folder, precision="fp32", scorer=scorer)
    model.attach(catalogue())
    return model


class TestLLMOnly(PromptCases):
    model = LLMOnly

    def build(self, folder: str) -> LLMOnly:
        return build(folder)


@pytest.mark.parametrize("family", ["opt", "llama", "qwen2"])
@pytest.mark.parametrize("scorer", ["sum", "mean"])
def test_scores_are_those_of_separate_passes(folders: dict[str, str], family: str, scorer: Scorer) -> None:
    model, batch = build(folders[family], scorer), evaluation_batch(2)
    prompts, scores = model.prompts(batch), model.score(batch)
    assert prompts.slots == [[], []]
    for row, column in ((0, 0), (1, 7)):
        answer = model.composer.answers[int(batch["candidates"][row, column])]
        loss = model.llm.answer_loss([prompts.ids[row]], [answer], None)
        wanted = -loss * (len(answer) if scorer == "sum" else 1)
        torch.testing.assert_close(scores[row, column], wanted, rtol=0, atol=1e-4)


def test_test_reports_ranks_and_answers(folders: dict[str, str]) -> None:
    model, batch = build(folders["opt"]), evaluation_batch()
    pairs = batch.items()
    twice: Any = {k: torch.cat([v, v]) if isinstance(v, torch.Tensor) else v for k, v in pairs}
    trainer = L.Trainer(logger=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu")
    loader: Any = DataLoader([twice], batch_size=None)  # type: ignore[arg-type]  # a list is a dataset
    metrics = trainer.test(model, loader, verbose=False)[0]
    titles = [[model.composer.titles[item] for item in row] for row in batch["candidates"].tolist()]
    verdicts = [judge(answer, shown, 0) for answer, shown in zip(model.generate(batch), titles, strict=True)]
    wanted = sum(verdict.out_of_list for verdict in verdicts) / len(verdicts)
    assert metrics["test/sampled-19/overall/generated/out_of_list"] == pytest.approx(wanted)
    ranks = model.rank(batch)
    assert metrics["test/sampled-19/overall/hr@1"] == pytest.approx(float((ranks["higher"] == 0).double().mean()))


def test_there_is_nothing_to_train(folders: dict[str, str]) -> None:
    model = build(folders["opt"])
    assert model.configure_optimizers() is None
    assert not list(model.parameters())
    with pytest.raises(UserError, match="nothing to train"):
        model.loss(training_batch())
