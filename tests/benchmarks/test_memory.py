"""What is halved where a batch does not fit into memory."""

from typing import Any

import pytest
from jsonargparse import Namespace

from benchmarks.memory import ROWS, halve_as, halve_batch
from common.errors import UserError


def settings(**sizes: int | None) -> Any:  # noqa: ANN401 (as parsed)
    space: Any = Namespace
    trainer = space(accumulate_grad_batches=1, val_check_interval=None, limit_train_batches=None)
    return space(data=space(init_args=space(**sizes)), trainer=trainer)


def test_a_step_reads_as_many_rows_and_triplets_as_before() -> None:
    config = settings(batch_size=64, triplet_batch_size=24)
    halve_as(config, {ROWS: "16"})
    sizes = vars(config.data.init_args)
    assert config.trainer.accumulate_grad_batches == 4
    assert sizes == {"batch_size": 16, "triplet_batch_size": 6}


@pytest.mark.parametrize("sizes", [{"batch_size": 8}, {"batch_size": 8, "triplet_batch_size": None}])
def test_triplets_are_as_many_as_rows_where_no_number_is_given(sizes: dict[str, int | None]) -> None:
    config = settings(**sizes)
    halve_batch(config)
    assert vars(config.data.init_args) == sizes | {"batch_size": 4}


@pytest.mark.parametrize(("rows", "triplets", "said"), [(7, 8, "7 rows"), (8, 7, "7 triplets")])
def test_an_odd_number_is_refused_and_nothing_halved(rows: int, triplets: int, said: str) -> None:
    config = settings(batch_size=rows, triplet_batch_size=triplets)
    with pytest.raises(UserError, match=f"batches of {said} cannot be halved"):
        halve_batch(config)
    assert vars(config.data.init_args) == {"batch_size": rows, "triplet_batch_size": triplets}
