"""Judgement of written answers."""

import pytest
import torch

from allmrec.generation import AnswerRates, judge, legacy_hit, named


@pytest.mark.parametrize(
    ("answer", "target", "hit", "flag"),
    [
        (' "Red  wolf"', 0, 0.5, "ambiguous"),
        ('"sea" ', 1, 1.0, None),
        ('"sea"', 0, 0.0, None),
        ('"red"', 0, 0.0, "out_of_list"),
        (' ""', 0, 0.0, "empty"),
        ("", 0, 0.0, "empty"),
    ],
)
def test_answers_are_judged_by_normalised_equality(answer: str, target: int, hit: float, flag: str | None) -> None:
    verdict = judge(answer, ["red wolf", "sea", "Red Wolf", "old sea"], target)
    assert verdict.hit == hit
    flags = [name for name in ("empty", "ambiguous", "out_of_list") if getattr(verdict, name)]
    assert flags == ([flag] if flag else [])


def test_released_rule_takes_a_part_for_the_whole() -> None:
    assert legacy_hit('"Old Sea"', "sea")
    assert not judge('"Old Sea"', ["sea", "red"], 0).hit
    assert not legacy_hit('"sea" and "red"', "wolf")


def test_inner_quotation_marks_belong_to_the_title() -> None:
    assert named('"the "red" wolf"') == 'the "red" wolf'


def test_rates_are_means_over_distinct_cases() -> None:
    rates, shown = AnswerRates(), ["sea", "sea", "red"]
    rates.update(torch.tensor([3, 1]), ['"sea"', '"red"'], [shown] * 2)
    rates.update(torch.tensor([2, 0, 3]), ["", '"old sea"', '"sea"'], [shown] * 3)
    values = {name: value.item() for name, value in rates.compute().items()}
    assert values == {"hr@1": 0.125, "empty": 0.25, "ambiguous": 0.25, "out_of_list": 0.25, "legacy_hr@1": 0.5}
