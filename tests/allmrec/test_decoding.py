"""Shared-prefix likelihood and greedy answers."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoTokenizer, GenerationConfig, OPTForCausalLM

from allmrec.composer import Composer, Prompts
from allmrec.decoding import (
    Answers,
    Likelihoods,
    greedy,
    likelihoods,
    read_prefix,
    scored,
)
from allmrec.llm import FrozenLLM
from allmrec.prompts import PromptStyle
from allmrec.tokens import Tokens
from tests.allmrec.tiny import TITLES

HISTORY = torch.tensor([[0, 0, 1], [4, 5, 6], [0, 7, 2]])
SHOWN = torch.stack([torch.randperm(24, generator=torch.Generator().manual_seed(i))[:20] + 1 for i in range(3)])


def asked(llm: FrozenLLM, rows: list[int]) -> tuple[Prompts, Tensor, Answers]:
    """Prompts of some rows, vectors for their slots, and their candidates' answers."""
    composer = Composer(llm, PromptStyle(), TITLES)
    prompts = composer(HISTORY[rows], SHOWN[rows])
    table = torch.randn(len(TITLES), llm.width, generator=torch.Generator().manual_seed(7))
    answers = [[composer.answers[item] for item in row] for row in SHOWN[rows].tolist()]
    return prompts, table[[item for row in prompts.slots for item in row]], answers


def shared(llm: FrozenLLM, rows: list[int]) -> Likelihoods:
    prompts, soft, answers = asked(llm, rows)
    return likelihoods(llm, read_prefix(llm, prompts.ids, soft), answers)


def separate(llm: FrozenLLM, row: int) -> Tensor:
    """One forward pass for each candidate, prompt and answer together."""
    prompts, soft, answers = asked(llm, [row])
    totals = []
    for answer in answers[0]:
        loss = llm.answer_loss(prompts.ids, [answer], soft)
        totals.append(-loss.detach() * len(answer))
    return torch.stack(totals)


def test_shared_prefix_equals_separate_passes(llm: FrozenLLM) -> None:
    together = shared(llm, [0, 1, 2])
    for row in range(3):
        torch.testing.assert_close(together.total[row], separate(llm, row), rtol=0, atol=1e-4)
    assert together.tokens.tolist() == [[len(a) for a in row] for row in asked(llm, [0, 1, 2])[2]]


def test_neither_the_row_nor_its_company_changes_a_likelihood(llm: FrozenLLM) -> None:
    together = shared(llm, [0, 1, 2]).total
    for rows in ([2, 0, 1], [1], [0, 2]):
        torch.testing.assert_close(shared(llm, rows).total, together[rows], rtol=0, atol=1e-4)


def test_permuted_columns_permute_likelihoods(llm: FrozenLLM) -> None:
    prompts, soft, answers = asked(llm, [0])
    order = torch.randperm(20).tolist()
    first = likelihoods(llm, read_prefix(llm, prompts.ids, soft), answers).total
    second = likelihoods(llm, read_prefix(llm, prompts.ids, soft), [[answers[0][i] for i in order]]).total
    assert torch.equal(second, first[:, order])


def test_equal_titles_have_equal_scores(llm: FrozenLLM) -> None:
    prompts, soft, answers = asked(llm, [0])
    doubled = [[answers[0][0], *answers[0]]]
    total = likelihoods(llm, read_prefix(llm, prompts.ids, soft), doubled).total
    assert torch.equal(total[:, 0], total[:, 1])


def test_a_prefix_serves_again_after_likelihoods_and_writes_as_if_fresh(llm: FrozenLLM) -> None:
    prompts, soft, answers = asked(llm, [0, 1, 2])
    prefix = read_prefix(llm, prompts.ids, soft)
    first, again = (likelihoods(llm, prefix, answers).total for _ in range(2))
    assert torch.equal(first, again)
    assert greedy(llm, prefix, [6] * 3) == greedy(llm, read_prefix(llm, prompts.ids, soft), [6] * 3)


@pytest.mark.filterwarnings("error")
def test_caches_are_passed_as_transformers_wants_them(opt: FrozenLLM, caplog: pytest.LogCaptureFixture) -> None:
    prompts, soft, answers = asked(opt, [0])
    prefix = read_prefix(opt, prompts.ids, soft)
    likelihoods(opt, prefix, answers)
    greedy(opt, prefix, [2])
    assert not caplog.records


def test_scorers_follow_their_definitions() -> None:
    given = Likelihoods(torch.tensor([[-6.0, -4.0]]), torch.tensor([[3, 1]]))
    null = Likelihoods(torch.tensor([[-9.0, -4.5]]), given.tokens)
    assert scored(given, "sum").tolist() == [[-6.0, -4.0]]
    assert scored(given, "mean").tolist() == [[-2.0, -4.0]]
    assert scored(given, "null_context", null).tolist() == [[3.0, 0.5]]
    with pytest.raises(ValueError, match="null context"):
        scored(given, "null_context")


@pytest.mark.parametrize("penalty", [1.0, 1.5])
def test_greedy_writes_what_transformers_writes(llm: FrozenLLM, penalty: float) -> None:
    prompts, soft, _ = asked(llm, [0, 1, 2])
    ours = greedy(llm, read_prefix(llm, prompts.ids, soft), [6] * 3, penalty)
    start = 0
    for row, ids in enumerate(prompts.ids):
        slots = len(prompts.slots[row])
        tokens = torch.tensor([ids])
        embeddings = llm.embedding(tokens.masked_fill(llm.is_slot(tokens), 0))
        embeddings[llm.is_slot(tokens)] = soft[start : start + slots]
        start += slots
        theirs = llm.module.generate(  # type: ignore[operator]  # a method that Transformers mixes in
            inputs_embeds=embeddings,
            attention_mask=torch.ones_like(tokens),
            max_new_tokens=6,
            do_sample=False,
            repetition_penalty=penalty,
            eos_token_id=llm.end_id,
            pad_token_id=0,
        )
        assert ours[row] == [token for token in theirs[0].tolist() if token != llm.end_id][: len(ours[row])]
        assert len(ours[row]) == 6 or theirs[0, len(ours[row])] == llm.end_id


def test_greedy_ends_at_special_tokens_by_which_the_model_ends_too(folders: dict[str, str], tmp_path: Path) -> None:
    def written() -> list[int]:
        llm = FrozenLLM(str(folder), precision="fp32")
        return greedy(llm, read_prefix(llm, llm.prompt_ids(["One of these items"]), None), [6])[0]

    folder = Path(shutil.copytree(folders["opt"], tmp_path / "chat"))
    whole = written()
    turn, tokenizer = whole[-1], AutoTokenizer.from_pretrained(folder)
    GenerationConfig(eos_token_id=[int(tokenizer.eos_token_id), turn]).save_pretrained(folder)
    # A word is no end, whatever a configuration says.
    assert written() == whole
    tokenizer.add_special_tokens({"additional_special_tokens": [str(tokenizer.convert_ids_to_tokens(turn))]})
    tokenizer.save_pretrained(folder)
    assert written() == whole[: whole.index(turn)]


def held_to(llm: FrozenLLM, candidates: Sequence[Sequence[int]], prompt: list[int], soft: Tensor) -> list[int]:
    """The likeliest next token with which the text still begins some candidate, again and again."""
    written: list[int] = []
    while going := sorted({answer[len(written)] for answer in candidates if list(answer[: len(written)]) == written}):
        tokens = Tokens.of([[*prompt, *written]], llm.device)
        logits = llm.logits(llm.embed(tokens, soft), tokens.real, keep=1)[0, 0]
        written.append(going[int(logits[going].argmax())])
        if written[-1] == llm.end_id:
            break
    return written


def test_constrained_greedy_agrees_with_likelihood_where_greedy_is_optimal(opt: FrozenLLM) -> None:
    # A model that ignores its context: of words said twice, the likelier word makes the likelier answer.
    assert isinstance(opt.module, OPTForCausalLM)
    norm = opt.module.model.decoder.final_layer_norm
    torch.nn.init.zeros_(norm.weight)
    words = torch.arange(30, 42).tolist()
    for seed in range(5):
        torch.nn.init.normal_(norm.bias, generator=torch.Generator().manual_seed(seed))
        answers = [[word, word, opt.end_id] for word in words]
        prompts, soft, _ = asked(opt, [0])
        best = int(likelihoods(opt, read_prefix(opt, prompts.ids, soft), [answers]).total.argmax())
        assert held_to(opt, answers, prompts.ids[0], soft) == answers[best]
