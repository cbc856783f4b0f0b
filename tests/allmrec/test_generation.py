"""Judgement of written answers."""

import pytest
import torch

from allmrec.generation import AnswerRates, PromptRates, judge, legacy_hit, named, owed_to_lengths, verdicts


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
    rates.update(torch.tensor([3, 1]), verdicts(['"sea"', '"red"'], [shown] * 2))
    rates.update(torch.tensor([2, 0, 3]), verdicts(["", '"old sea"', '"sea"'], [shown] * 3))
    values = {name: value.item() for name, value in rates.figures().items()}
    assert values == {"hr@1": 0.125, "empty": 0.25, "ambiguous": 0.25, "out_of_list": 0.25, "legacy_hr@1": 0.5}
    assert {name: hits.tolist() for name, hits in rates.hits().items()} == {
        "hr@1": [0, 0, 0, 0.5], "legacy_hr@1": [1, 0, 0, 1]
    }  # fmt: skip


def test_length_correlation_is_pearson_s_within_each_list() -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(1, 9, (6, 20), generator=generator)
    # Levels of lists, which have nothing to do with lengths within them.
    scores = torch.randn(6, 20, generator=generator) - 0.4 * tokens + 100 * torch.arange(6)[:, None]
    rates = PromptRates()
    cases, shortened = torch.arange(6), [False, True, False, False, True, True]
    # The last batch repeats a case that stands in both, and one of its own.
    for rows in ([0, 1, 2, 3], [4, 5, 3, 4]):
        table = owed_to_lengths(scores[rows], tokens[rows], [shortened[row] for row in rows])
        rates.update(cases[rows], table)
    centred = [(values.double() - values.double().mean(1, keepdim=True)).flatten() for values in (tokens, scores)]
    wanted = torch.corrcoef(torch.stack(centred))[0, 1]
    found = rates.figures()
    torch.testing.assert_close(found["length_correlation"], wanted)
    assert found["shortened"] == 0.5
    rates.reset()
    rates.update(cases, owed_to_lengths(scores, torch.ones_like(tokens), [False] * 6))
    assert rates.figures() == {"length_correlation": 0.0, "shortened": 0.0}
