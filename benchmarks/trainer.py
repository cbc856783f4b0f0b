"""The Trainer that a configuration describes, if it can train or test here."""

from __future__ import annotations

import lightning as L
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher

from benchmarks.configuration import RunCLI
from common.errors import UserError

HELP = "`recbench run --help` describes the options of the Trainer."


def instantiated(cli: RunCLI, cure: str = HELP, **options: object) -> L.Trainer:
    """The Trainer of a configuration.

    Args:
        cli: The configuration.
        cure: What to do where it is refused.
        options: Options of the Trainer that replace those of the configuration.

    Raises:
        UserError: If it refuses an option, or its processes would hand back weights alone.
    """
    try:
        trainer = cli.instantiate_trainer(**options)
    except (MisconfigurationException, ValueError, TypeError) as error:
        raise UserError(f"The Trainer refuses an option: {error}", cure) from error
    if isinstance(trainer.strategy.launcher, _MultiProcessingLauncher):
        raise UserError(
            f"--trainer.strategy {cli.config.trainer.strategy} works in processes that keep to themselves what they "
            "record.",
            "Give ddp, which starts the program once for each device.",
        )
    return trainer
