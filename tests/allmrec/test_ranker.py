"""What a test of a prompt-based method reads, and what it counts."""

from pathlib import Path
from typing import Any

import pytest
import torch

from allmrec.baselines.llm_only import LLMOnly
from allmrec.decoding import Likelihoods, Prefix, read_prefix
from allmrec.generation import verdicts
from allmrec.ranker import BEYOND, Reading
from common.errors import UserError
from common.types import SequenceBatch
from tests.allmrec import tiny
from tests.allmrec.world import NUM_ITEMS, catalogue, evaluation_batch


def build(folder: str, **options: Any) -> LLMOnly:  # noqa: ANN401
    model = LLMOnly(NUM_ITEMS, folder, precision="fp32", **options)
    model.attach(catalogue())
    return model.eval()


def rows(batch: SequenceBatch, order: list[int]) -> SequenceBatch:
    return {key: value[order] if isinstance(value, torch.Tensor) else value for key, value in batch.items()}  # type: ignore[return-value]  # a comprehension loses the keys


def figures(model: LLMOnly, *batches: SequenceBatch) -> dict[str, float]:
    model.on_test_epoch_start()
    for number, batch in enumerate(batches):
        model.test_step(batch, number)
    ranks = model.case_ranks["sampled-19"].metrics()
    return model.extra_metrics() | {name: float(value) for name, value in ranks.items()}


@pytest.mark.parametrize(("option", "least"), [("shown_history", 0), ("max_title_tokens", 1), ("answer_tokens", 1)])
def test_a_prompt_of_less_than_nothing_is_refused(folders: dict[str, str], option: str, least: int) -> None:
    with pytest.raises(UserError, match=f"{option} is {least - 1}\\.\nGive {least} or more"):
        build(folders["opt"], **{option: least - 1})
    assert build(folders["opt"], **{option: least}).score(evaluation_batch()).isfinite().all()


@pytest.mark.parametrize("family", ["opt", "llama", "qwen2"])
def test_what_a_row_writes_near_the_end_of_the_context_depends_on_no_other_row(
    folders: dict[str, str], tmp_path: Path, family: str
) -> None:
    batch, wide = evaluation_batch(), build(folders[family])
    prompts = wide.prompts(batch).ids
    longest = max(len(answer) for answer in wide.composer.answers)
    model = build(tiny.build(tmp_path, family, max(map(len, prompts)) + longest))
    assert model.prompts(batch).ids == prompts
    assert min(map(len, prompts)) + BEYOND < max(map(len, prompts))
    alone = [(model.generate(one), model.write(one, "Likes")) for one in (rows(batch, [row]) for row in range(4))]
    written, said = model.generate(batch), model.write(batch, "Likes")
    assert [written, said] == [[texts[kind][0] for texts in alone] for kind in (0, 1)]


def test_an_answer_may_be_as_long_as_is_asked_for(folders: dict[str, str]) -> None:
    batch = evaluation_batch()
    usual, short = build(folders["opt"]), build(folders["opt"], answer_tokens=2)
    longest = max(map(len, usual.composer.answers)) + BEYOND
    long = build(folders["opt"], answer_tokens=longest + 5)
    words = [[len(text.split()) for text in model.generate(batch)] for model in (short, usual, long)]
    assert max(words[0]) <= 2 < max(words[1]) <= longest < max(words[2])


def test_a_penalty_of_nothing_is_refused(folders: dict[str, str]) -> None:
    with pytest.raises(UserError, match=r"repetition_penalty is 0\.0"):
        build(folders["opt"], repetition_penalty=0.0)


def test_a_penalty_keeps_an_answer_from_repeating_itself(folders: dict[str, str]) -> None:
    plain, varied = (
        build(folders["opt"], answer_tokens=20, repetition_penalty=penalty).generate(evaluation_batch())
        for penalty in (1.0, 50.0)
    )
    assert sum(len(set(text.split())) for text in varied) > sum(len(set(text.split())) for text in plain)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many prompts each pass reads."""
    counts: list[int] = []

    def counted(llm: Any, prompts: Any, soft: Any) -> Prefix:  # noqa: ANN401
        counts.append(len(prompts))
        return read_prefix(llm, prompts, soft)

    monkeypatch.setattr("allmrec.ranker.read_prefix", counted)
    return counts


@pytest.mark.parametrize("family", ["opt", "llama", "qwen2"])
def test_a_test_reads_each_prompt_once_and_finds_what_two_readings_do(
    folders: dict[str, str], family: str, read: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batch, written = build(folders[family]), evaluation_batch(), []

    def noted(answers: list[str], titles: list[list[str]]) -> torch.Tensor:
        written.extend(answers)
        return verdicts(answers, titles)

    monkeypatch.setattr("allmrec.ranker.verdicts", noted)
    figures(model, batch)
    assert read == [4]
    assert written == model.generate(batch)
    found = model.case_ranks["sampled-19"].compute()
    assert torch.equal(found["higher"], model.rank(batch)["higher"])


def test_neither_padded_batches_nor_lack_of_memory_change_a_rate(
    folders: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batch = build(folders["opt"]), evaluation_batch(6)
    once = figures(model, batch)
    assert figures(model, rows(batch, [0, 1, 2, 3]), rows(batch, [4, 5, 4, 5])) == pytest.approx(once, rel=1e-6)
    write = LLMOnly._written

    def short_of_memory(model: LLMOnly, reading: Reading) -> list[str]:
        if len(reading.answers) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return write(model, reading)

    monkeypatch.setattr(LLMOnly, "_written", short_of_memory)
    assert figures(model, batch) == pytest.approx(once, rel=1e-6)
    assert model.chunk_rows == 1


@pytest.mark.parametrize("sharded", [False, True])
def test_mixed_precision_of_the_training_rounds_no_score(
    folders: dict[str, str], monkeypatch: pytest.MonkeyPatch, sharded: bool
) -> None:
    model, batch, scores = build(folders["opt"]), evaluation_batch(), list[torch.Tensor]()
    exact = model.score(batch)
    monkeypatch.setattr(model.llm, "sharded", sharded)
    # What processes ask each other, with one alone.
    monkeypatch.setattr(model.llm, "most", lambda count: count)

    def noted(model: LLMOnly, batch: SequenceBatch, given: Likelihoods) -> torch.Tensor:
        scores.append(given.total)
        return given.total

    monkeypatch.setattr(LLMOnly, "_scores", noted)
    with torch.autocast("cpu", torch.bfloat16):
        model.rank(batch)
    assert torch.equal(scores[0], exact)
