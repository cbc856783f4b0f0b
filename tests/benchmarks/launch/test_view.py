"""What a plan will take is judged by runs that are done."""

from pathlib import Path

from benchmarks.launch.plan import Entry
from benchmarks.launch.view import clock, durations, plan_lines
from tests.benchmarks.made_results import made_run


def test_estimates_are_medians_of_earlier_runs_shared_by_the_jobs(tmp_path: Path) -> None:
    for seed, seconds in enumerate((100.0, 120.0, 500.0)):
        made_run(tmp_path, "a", 0.3, seed, seconds={"train": seconds, "test": 0.0})
    assert durations(tmp_path) == {("toy", "a"): 120.0}
    entries = [Entry("toy", "a", seed, (), tmp_path / str(seed)) for seed in range(4)]
    assert plan_lines(entries, tmp_path, jobs=2)[-1] == "# 4 of 4 runs to do, about 4 min; 2 at a time"
    unknown = Entry("toy", "b", 1, (), tmp_path / "b")
    assert "1 runs of methods that have not run yet" in plan_lines([*entries, unknown], tmp_path, jobs=1)[-1]


def test_lengths_of_time() -> None:
    assert [clock(seconds) for seconds in (0, 59, 61, 7325)] == ["0 s", "59 s", "1 min", "2 h 02 min"]
