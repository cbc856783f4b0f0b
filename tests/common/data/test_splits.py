"""Splits against a naive loop over users, on random histories."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from common.data.splits import build_sequences, cut_times, global_temporal, leakage, leave_one_out, ready_made
from common.types import Cases, Sequences

HISTORIES = st.lists(st.lists(st.integers(0, 30), max_size=7).map(sorted), min_size=1, max_size=12).filter(
    lambda histories: any(histories)
)


def sequences_of(histories: list[list[int]]) -> Sequences:
    users = [user for user, times in enumerate(histories, start=1) for _ in times]
    times = [time for history in histories for time in history]
    items = torch.arange(1, len(times) + 1)
    return build_sequences(torch.tensor(users, dtype=torch.long), items, torch.tensor(times), len(histories))


def pairs(cases: Cases) -> list[tuple[int, int]]:
    return list(zip(cases["user"].tolist(), cases["position"].tolist(), strict=True))


@given(HISTORIES)
def test_leave_one_out_equals_a_loop_over_users(histories: list[list[int]]) -> None:
    split = leave_one_out(sequences_of(histories))
    start, val, test, ends = 0, [], [], [0]
    for user, times in enumerate(histories, start=1):
        end = start + len(times)
        if len(times) >= 3:
            val.append((user, end - 2))
            test.append((user, end - 1))
        ends.append(end - 2 if len(times) >= 3 else end)
        start = end
    assert (pairs(split["val"]), pairs(split["test"]), split["train_end"].tolist()) == (val, test, ends)


@given(HISTORIES)
def test_global_temporal_equals_a_loop_over_users(histories: list[list[int]]) -> None:
    sequences = sequences_of(histories)
    first, second = cuts = cut_times(sequences)
    split = global_temporal(sequences, cuts)
    start, val, test, ends = 0, [], [], [0]
    for user, times in enumerate(histories, start=1):
        between = [i for i, time in enumerate(times) if first <= time < second]
        after = [i for i, time in enumerate(times) if time >= second]
        if between and between[0] > 0:
            val.append((user, start + between[0]))
        if after and after[0] > 0:
            test.append((user, start + after[0]))
        ends.append(start + sum(time < first for time in times))
        start += len(times)
    assert (pairs(split["val"]), pairs(split["test"]), split["train_end"].tolist()) == (val, test, ends)


@given(HISTORIES)
def test_a_ready_made_leave_one_out_is_the_same_split(histories: list[list[int]]) -> None:
    sequences = sequences_of(histories)
    expected = leave_one_out(sequences)
    part = torch.zeros_like(sequences["items"])
    part[expected["val"]["position"]], part[expected["test"]["position"]] = 1, 2
    split = ready_made(sequences, part)
    assert torch.equal(split["train_end"], expected["train_end"])
    assert (pairs(split["val"]), pairs(split["test"])) == (pairs(expected["val"]), pairs(expected["test"]))


@given(HISTORIES)
def test_leakage_counts_targets_before_the_last_training_event(histories: list[list[int]]) -> None:
    split = leave_one_out(sequences_of(histories))
    trained = [time for times in histories for time in (times[:-2] if len(times) >= 3 else times)]
    targets = [times[-1] for times in histories if len(times) >= 3]
    leaked = sum(any(time > target for time in trained) for target in targets)
    assert leakage(split) == (leaked / len(targets) if targets else 0.0)


def test_no_training_event_of_a_temporal_split_is_at_or_after_the_first_cut() -> None:
    generator = torch.Generator().manual_seed(1)
    histories = [sorted(torch.randint(0, 1000, (9,), generator=generator).tolist()) for _ in range(50)]
    sequences = sequences_of(histories)
    cuts = cut_times(sequences)
    split = global_temporal(sequences, cuts)
    for user in range(1, 51):
        begin, end = int(sequences["offsets"][user]), int(split["train_end"][user])
        assert (sequences["times"][begin:end] < cuts[0]).all()
    assert (sequences["times"][split["test"]["position"]] >= cuts[1]).all()
    assert 0 < len(split["test"]["user"]) <= 50
