"""Smaller batches, where one does not fit into the memory of the device."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from lightning.pytorch.utilities.memory import is_oom_error

from benchmarks.callbacks import NoiseSeed
from common.errors import UserError

ROWS = "batch_size"
"""What a checkpoint's stamp calls the rows of the batches that it was trained on."""
TRIPLETS = "triplet_batch_size"
"""Option for how many triplets LRD reads beside the rows of a batch, if not as many."""


def halve_batch(config: Namespace) -> str:
    """Halves the rows per batch and accumulates gradients over twice as many batches; returns a line that says so.

    Raises:
        UserError: If the number of rows is odd, or that of triplets beside them.
    """
    data, trainer = config.data.init_args, config.trainer
    sizes = {name: data[name] for name in (ROWS, TRIPLETS) if data.get(name) is not None}
    for name, size in sizes.items():
        if size % 2:
            raise UserError(
                f"Out of device memory, and batches of {size} {'rows' if name == ROWS else 'triplets'} cannot be "
                "halved.",
                f"Choose a smaller --data.{name}, with --trainer.accumulate_grad_batches for the same effective batch.",
            )
    for name, size in sizes.items():
        data[name] = size // 2
    trainer.accumulate_grad_batches = 2 * (trainer.accumulate_grad_batches or 1)
    for counted_in_batches in ("val_check_interval", "limit_train_batches"):
        # A float is a share of an epoch, which already has twice as many batches.
        if isinstance(batches := trainer[counted_in_batches], int):
            trainer[counted_in_batches] = 2 * batches
    return f"from now on {trainer.accumulate_grad_batches} batches of {data.batch_size} rows are one step."


def halve_as(config: Namespace, stamp: Mapping[str, str]) -> None:
    """Halves batches as often as the training had to whose checkpoint has this stamp, and counts its place in them."""
    while ROWS in stamp and config.data.init_args.batch_size > int(stamp[ROWS]):
        halve_batch(config)


@contextmanager
def telling_of_the_model(noise: NoiseSeed) -> Iterator[None]:
    """Says so if it is the model itself that does not fit: it would be built again for smaller batches, in vain.

    Args:
        noise: What knows whether a batch was reached.

    Raises:
        UserError: If memory runs out before the first batch of a training.
    """
    try:
        yield
    except RuntimeError as error:
        if noise.begun or not is_oom_error(error):
            raise
        raise UserError(
            "Out of device memory: the model does not fit, whatever its batches.",
            "Make it smaller, or use a device with more memory.",
        ) from error
