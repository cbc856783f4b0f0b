"""The lines that end a run say how it was trained, if it was."""

import pytest

from benchmarks.summary import summary_lines
from tests.benchmarks.made_results import made_result


@pytest.mark.parametrize("closed_form", [True, False])
def test_nothing_trained_is_told_so_even_of_what_is_no_floor(closed_form: bool) -> None:
    training = {"epochs": 0, "stopped": "closed_form", "undertrained": True}
    result = made_result("joint_dot", 0.2, closed_form=closed_form, training=training, seconds={"test": 1.5})
    assert summary_lines(result)[0] == "toy / joint_dot, seed 0: closed form, 1.5 s test, undertrained"


def test_a_training_is_told_with_its_end() -> None:
    training = {"epochs": 2, "stopped": "max_epochs"}
    result = made_result("sasrec", 0.2, training=training, seconds={"train": 3.0, "test": 1.5})
    told = "2 epochs, stopped by max_epochs, 3.0 s training, 1.5 s test"
    assert summary_lines(result)[0] == f"toy / sasrec, seed 0: {told}"
