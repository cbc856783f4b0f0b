"""Prompts of items: slots, orders, long prompts and long titles."""

from pathlib import Path

import pytest
import torch

from allmrec.composer import UNTITLED, USER_SLOT, Composer, Shown, prompt_order
from allmrec.llm import FrozenLLM
from allmrec.prompts import PromptStyle
from common.errors import DataError, UserError
from tests.allmrec.tiny import TITLES, build

HISTORY = torch.tensor([[0, 1, 2, 3], [4, 5, 6, 7]])
SHOWN = torch.tensor([[8, 9, 10], [11, 12, 13]])


def test_slots_name_the_user_then_history_then_candidates(llm: FrozenLLM) -> None:
    prompts = Composer(llm, PromptStyle(), TITLES)(HISTORY, SHOWN)
    assert prompts.slots == [[USER_SLOT, 1, 2, 3, 8, 9, 10], [USER_SLOT, 4, 5, 6, 7, 11, 12, 13]]
    counts = [int(llm.is_slot(torch.tensor([row])).sum()) for row in prompts.ids]
    assert counts == [len(row) for row in prompts.slots]


def test_answers_have_the_tokens_that_they_have_behind_a_prompt(llm: FrozenLLM) -> None:
    style = PromptStyle()
    composer = Composer(llm, style, TITLES)
    for title, answer in zip(composer.titles, composer.answers, strict=True):
        prompt = style.compose(TITLES[1:3], TITLES[4:7])
        alone, whole = llm.prompt_ids([prompt, prompt + style.answer(title)])
        assert [*whole, llm.end_id] == [*alone, *answer]


def test_items_without_titles_are_counted(opt: FrozenLLM) -> None:
    with pytest.warns(UserWarning, match="2 of 3 items have no titles: prompts call them 'untitled'"):
        composer = Composer(opt, PromptStyle(), ["", "sea", " ", "</s>"])
    assert composer.titles[1:] == ["sea", "untitled", "untitled"]


def test_newest_items_are_shown(opt: FrozenLLM) -> None:
    prompts = Composer(opt, PromptStyle(), TITLES, max_history=2)(HISTORY, SHOWN, user=False)
    assert prompts.slots == [[2, 3, 8, 9, 10], [6, 7, 11, 12, 13]]


def test_no_history_may_be_shown(opt: FrozenLLM) -> None:
    blind, seeing = Composer(opt, PromptStyle(), TITLES, max_history=0), Composer(opt, PromptStyle(), TITLES)
    assert blind(HISTORY, SHOWN) == seeing(HISTORY[:, :0], SHOWN)
    assert blind.about(HISTORY, "Likes") == seeing.about(HISTORY[:, :0], "Likes")


def test_text_prompts_have_no_slots(opt: FrozenLLM) -> None:
    prompts = Composer(opt, PromptStyle(), TITLES)(HISTORY, SHOWN, user=False, soft=False)
    assert prompts.slots == [[], []]
    assert not bool(opt.is_slot(torch.tensor([prompts.ids[0]])).any())


def test_prompts_about_a_user_have_slots_or_titles_alone(opt: FrozenLLM) -> None:
    composer = Composer(opt, PromptStyle(), TITLES)
    told, plain = (composer.about(HISTORY, "Likes", soft=soft) for soft in (True, False))
    assert told.slots == [[USER_SLOT, 1, 2, 3], [USER_SLOT, 4, 5, 6, 7]]
    assert plain.slots == [[], []]
    assert [int(opt.is_slot(torch.tensor([row])).sum()) for row in (*told.ids, *plain.ids)] == [4, 5, 0, 0]


@pytest.mark.parametrize(
    ("shown", "slots"),
    [
        (Shown(user=False), [1, 2, 3]),
        (Shown(joint=False), [USER_SLOT]),
        (Shown(titles=False), [USER_SLOT, 1, 2, 3]),
        (Shown(in_order=False), [USER_SLOT, 1, 2, 3]),
    ],
)
def test_free_text_lacks_what_an_ablation_lacks(opt: FrozenLLM, shown: Shown, slots: list[int]) -> None:
    composer = Composer(opt, PromptStyle(), TITLES, shown=shown)
    told, asked = composer.about(HISTORY[:1], "Likes"), composer(HISTORY[:1], SHOWN[:1])
    assert told.slots[0] == asked.slots[0][: len(slots)]
    assert sorted(told.slots[0]) == sorted(slots)
    # What is told ends with one token for the question, and the other prompt goes on with its candidates.
    assert told.ids[0][:-1] == asked.ids[0][: len(told.ids[0]) - 1]


def test_a_question_has_no_slots_of_its_own(opt: FrozenLLM) -> None:
    composer = Composer(opt, PromptStyle(), TITLES)
    asked = composer.about(HISTORY, "[UserRep] Likes</s> the [CandidateEmb] sea")
    assert asked == composer.about(HISTORY, "  Likes  the   sea")


def test_a_question_that_is_too_long_is_told_so(opt: FrozenLLM) -> None:
    composer = Composer(opt, PromptStyle(), TITLES)
    with pytest.raises(UserError, match=r"no history has 5\d\d tokens.* room for 511\nAsk a shorter question"):
        composer.about(HISTORY, "sea " * 512)
    assert composer.about(HISTORY, "sea " * 490).shortened == [True, True]


def test_long_prompt_loses_its_oldest_items_and_no_candidate(tmp_path: Path) -> None:
    free = Composer(FrozenLLM(build(tmp_path / "wide", "opt"), "fp32"), PromptStyle(), TITLES)
    longest = [max(len(free.answers[item]) for item in row) for row in SHOWN.tolist()]
    whole = free(HISTORY, SHOWN).ids
    context = len(whole[1]) + longest[1] - 1
    llm = FrozenLLM(build(tmp_path / "narrow", "opt", context), "fp32")
    composer = Composer(llm, PromptStyle(), TITLES)
    prompts = composer(HISTORY, SHOWN)
    assert prompts.slots[1] == [USER_SLOT, 5, 6, 7, 11, 12, 13]
    assert prompts.shortened == [False, True]
    assert all(len(row) + most <= context for row, most in zip(prompts.ids, longest, strict=True))
    assert prompts.ids[1] == free(HISTORY[1:, 1:], SHOWN[1:]).ids[0]


def test_long_prompt_loses_its_oldest_items_in_whatever_order_it_shows_them(tmp_path: Path) -> None:
    mixed = Shown(in_order=False)
    free = Composer(FrozenLLM(build(tmp_path / "wide", "opt"), "fp32"), PromptStyle(), TITLES, shown=mixed)
    history, shown = torch.tensor([[1, 2, 3, 4, 5, 6, 7]]), SHOWN[1:]
    context = len(free(history, shown).ids[0]) + max(len(free.answers[item]) for item in shown[0].tolist()) - 1
    llm = FrozenLLM(build(tmp_path / "narrow", "opt", context), "fp32")
    assert Composer(llm, PromptStyle(), TITLES, shown=mixed)(history, shown)[:2] == free(history[:, 1:], shown)[:2]


def test_candidates_that_do_not_fit_are_an_error_with_counts(tmp_path: Path) -> None:
    llm = FrozenLLM(build(tmp_path, "opt", context=30), "fp32")
    with pytest.raises(UserError, match=r"3 candidates and no history has \d+ tokens"):
        Composer(llm, PromptStyle(), TITLES)(HISTORY, SHOWN)


def test_titles_lose_special_tokens_and_length(opt: FrozenLLM) -> None:
    titles = ["", "red [HistoryEmb] wolf</s>", "", "sea " * 30]
    composer = Composer(opt, PromptStyle(), titles, max_title_tokens=5)
    assert composer.titles[1:] == ["red wolf", UNTITLED, "sea sea sea sea sea"]
    assert composer.cut_titles == 1


def test_data_without_titles_is_refused(opt: FrozenLLM) -> None:
    with pytest.raises(DataError, match="no titles"):
        Composer(opt, PromptStyle(), ["", ""])


def test_orders_are_permutations_that_put_the_target_everywhere_equally() -> None:
    cases, count = 20_000, 20
    order = prompt_order(torch.arange(cases), count)
    assert torch.equal(order.sort(1).values, torch.arange(count).expand(cases, count))
    places = torch.bincount((order == 0).nonzero()[:, 1], minlength=count).double()
    expected = cases / count
    chi_squared = float(((places - expected) ** 2 / expected).sum())
    assert chi_squared < 43.8  # 0.999 quantile at 19 degrees of freedom


def test_order_depends_on_case_and_seed_alone() -> None:
    keys = torch.tensor([5, 9, 5])
    order = prompt_order(keys, 20)
    assert torch.equal(order[0], order[2])
    assert torch.equal(prompt_order(keys[1:2], 20)[0], order[1])
    assert not torch.equal(prompt_order(keys, 20, seed=1), order)


def test_orders_never_change() -> None:
    # Stored nowhere: results of different versions compare because this stays.
    assert prompt_order(torch.tensor([0, 7, 40]), 6).tolist() == [
        [2, 0, 3, 5, 1, 4],
        [0, 5, 2, 3, 4, 1],
        [1, 5, 0, 2, 3, 4],
    ]
    assert prompt_order(torch.tensor([7]), 6, seed=1).tolist() == [[0, 5, 3, 1, 4, 2]]


def test_a_title_of_which_nothing_is_left_is_called_untitled(folders: dict[str, str]) -> None:
    composer = Composer(FrozenLLM(folders["qwen2"]), PromptStyle(), ["", "日本", "red wolf"], max_title_tokens=2)
    assert composer.titles[1] == UNTITLED
