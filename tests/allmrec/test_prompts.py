"""Prompt styles: slots, titles and the clauses that may be missing."""

import pytest

from allmrec.prompts import CANDIDATE, HISTORY, SLOTS, STYLES, USER, Domain, PromptStyle

PAST, SHOWN = ["red wolf", "sea"], ["old road", "city", "king"]


@pytest.mark.parametrize("domain", STYLES)
def test_each_title_stands_before_its_slot(domain: Domain) -> None:
    prompt = STYLES[domain].compose(PAST, SHOWN)
    assert prompt.count(USER) == 1
    assert [prompt.count(slot) for slot in (HISTORY, CANDIDATE)] == [len(PAST), len(SHOWN)]
    places = [prompt.index(f'"{title}"{HISTORY}') for title in PAST]
    places += [prompt.index(f'"{title}"{CANDIDATE}') for title in SHOWN]
    assert places == sorted(places)
    assert prompt.index(USER) < places[0]


def test_null_context_keeps_the_question_alone() -> None:
    style = PromptStyle()
    assert style.compose([], SHOWN, user=False) == style.ask(", ".join(f'"{t}"{CANDIDATE}' for t in SHOWN))


def test_text_prompt_has_no_slot_and_all_titles() -> None:
    prompt = PromptStyle().compose(PAST, SHOWN, soft=False)
    assert not any(slot in prompt for slot in SLOTS)
    assert all(f'"{title}"' in prompt for title in PAST + SHOWN)


def test_a_profile_without_slots_is_the_history_alone() -> None:
    style = PromptStyle()
    assert style.profile(PAST).count(HISTORY) == len(PAST)
    plain = style.profile(PAST, soft=False)
    assert not any(slot in plain for slot in SLOTS)
    assert plain == style.remember('"red wolf", "sea"')
    assert (style.profile([]), style.profile([], soft=False)) == (style.introduce(), "")


def test_domains_speak_differently() -> None:
    assert len({style.compose(PAST, SHOWN) for style in STYLES.values()}) == len(STYLES)
    assert "watched" in STYLES["movies"].compose(PAST, SHOWN)
    assert "played" in STYLES["games"].compose(PAST, SHOWN)


def test_answer_is_the_quoted_title() -> None:
    assert PromptStyle().answer("red wolf").strip() == '"red wolf"'
