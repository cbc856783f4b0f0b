"""Frozen candidates: never the history, never a namesake, never twice, and uniform."""

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from common.data import candidates as module
from common.data.candidates import CandidateSampler, TooFewItemsError, normalise_title, title_groups
from common.data.pipeline import CANDIDATE_SEED
from common.data.splits import leave_one_out
from common.types import Split
from tests.fixtures.histories import random_histories, split_of


def sampler_of(split: Split, titles: list[str]) -> CandidateSampler:
    return CandidateSampler(split["sequences"], title_groups(titles))


@given(st.integers(0, 1000), st.integers(1, 12), st.sampled_from([0, 1, 5]))
def test_candidates_avoid_history_and_namesakes_and_never_repeat(seed: int, count: int, namesakes: int) -> None:
    titles = [f"Title {max(i, namesakes)}" for i in range(30)]
    split = leave_one_out(split_of(random_histories(8, 30, 10, seed))["sequences"])
    cases, items, offsets = split["test"], split["sequences"]["items"].numpy(), split["sequences"]["offsets"].numpy()
    drawn = sampler_of(split, titles).draw(cases, count, [seed])
    for user, position, row in zip(cases["user"], cases["position"], drawn, strict=True):
        target = titles[items[position] - 1]
        banned = set(items[offsets[user] : offsets[user + 1]]) | {i + 1 for i in range(30) if titles[i] == target}
        assert len(set(row)) == count
        assert not banned & set(row)
        assert row.min() >= 1
        assert row.max() <= 30


def test_every_ordered_choice_is_equally_likely() -> None:
    split = leave_one_out(split_of([[1, 2, 3]] * 24_000)["sequences"])
    titles = ["a", "b", "same", "SAME ", "c", "d", "e", "f"]
    drawn = sampler_of(split, titles).draw(split["test"], 3, [7])
    keys, counts = np.unique(drawn @ np.array([100, 10, 1]), return_counts=True)
    assert len(keys) == len(list(permutations([5, 6, 7, 8], 3)))
    assert chisquare(counts).pvalue > 1e-3


def test_the_whole_complement_can_be_drawn() -> None:
    split = leave_one_out(split_of([[1, 2, 3, 4]] * 50)["sequences"])
    drawn = sampler_of(split, [f"{i}" for i in range(12)]).draw(split["test"], 8, [0])
    assert (np.sort(drawn, 1) == np.arange(5, 13)).all()


def test_more_candidates_than_16_bits_count() -> None:
    count = 2**15 + 7
    split = leave_one_out(split_of([[1, 2, 3]])["sequences"])
    (drawn,) = sampler_of(split, [f"{i}" for i in range(count + 9)]).draw(split["test"], count, [0])
    assert len(set(drawn.tolist()) - {1, 2, 3}) == count


def test_too_few_items_are_refused_with_the_user() -> None:
    split = leave_one_out(split_of([[1, 2, 3], [1, 2, 3, 4]])["sequences"])
    with pytest.raises(TooFewItemsError, match="User 2 leaves 8 of 12 items to draw 9"):
        sampler_of(split, [f"{i}" for i in range(12)]).draw(split["test"], 9, [0])


def test_a_draw_repeats_with_its_seed_only() -> None:
    split = leave_one_out(split_of(random_histories(30, 200, 9))["sequences"])
    sampler = sampler_of(split, [f"{i}" for i in range(200)])
    first = sampler.draw(split["test"], 19, [0, 1])
    assert (first == sampler.draw(split["test"], 19, [0, 1])).all()
    assert (first != sampler.draw(split["test"], 19, [0, 2])).any()


def test_chunks_do_not_touch_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CELLS", 90)
    split = leave_one_out(split_of(random_histories(40, 40, 9))["sequences"])
    drawn = sampler_of(split, [f"{i}" for i in range(40)]).draw(split["test"], 25, [0])
    assert all(len(set(row)) == 25 for row in drawn.tolist())


def test_shipped_ones_stay_and_only_repeated_ones_are_drawn_anew() -> None:
    split = leave_one_out(split_of([[1, 2, 3]] * 20)["sequences"])
    shipped = np.tile(np.array([4, 5, 4, 6, 5]), (20, 1))
    drawn = sampler_of(split, [f"{i}" for i in range(60)]).draw(split["test"], 5, [0], shipped)
    assert all(len(set(row)) == 5 and {4, 5, 6} <= set(row) for row in drawn.tolist())


def test_titles_group_by_what_a_reader_sees() -> None:
    titles = ["Zelda II", "zelda  ii ", "\uff3aelda II", "", "", "Zelda III"]
    groups = title_groups(titles)
    assert groups[0] == groups[1] == groups[2]
    assert len(set(groups.tolist())) == 4
    assert normalise_title("\u00a0A\tb ") == "a b"


def test_no_case_is_no_error() -> None:
    split = leave_one_out(split_of([[1, 2]])["sequences"])
    empty = sampler_of(split, ["a", "b", "c"]).draw(split["test"], 1, [0])
    assert torch.from_numpy(empty).shape == (0, 1)


def test_draws_never_change() -> None:
    # Those of the stores that results compare on must be drawn again anywhere.
    split = leave_one_out(split_of([[1, 2, 3], [4, 5, 6, 7]])["sequences"])
    drawn = sampler_of(split, [f"{i}" for i in range(12)]).draw(split["test"], 5, [CANDIDATE_SEED, 5, 0, 1])
    assert drawn.tolist() == [[8, 4, 5, 6, 10], [9, 8, 1, 2, 10]]
