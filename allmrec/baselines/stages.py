"""Methods that train in stages within one run: the first epochs prepare, the others are what validation judges."""

from __future__ import annotations

import lightning as L

from common.errors import UserError


def require_patience(trainer: L.Trainer, argument: str, epochs: int) -> None:
    """Looks whether early stopping lets a run come to its last stage.

    Validation may stand still while a stage prepares the next one.

    Args:
        trainer: The trainer of the run.
        argument: Name of the model's argument that sets the length of the earlier stages.
        epochs: That length.

    Raises:
        UserError: If early stopping, or the longest training allowed, could end the run before.
    """
    longest = trainer.max_epochs
    if longest not in (None, -1) and longest <= epochs and not trainer.fast_dev_run:  # type: ignore[attr-defined]
        raise UserError(
            f"{argument} is {epochs}, and training ends after epoch {longest}, before what these epochs prepare",
            f"Raise --trainer.max_epochs, or lower --model.init_args.{argument}.",
        )
    every = trainer.check_val_every_n_epoch or 1
    for callback in trainer.early_stopping_callbacks:
        if callback.patience * every <= epochs and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            raise UserError(
                f"{argument} is {epochs}, and early stopping may end the run {callback.patience * every} epochs after "
                "its first validation",
                f"Raise --early_stopping.patience above {epochs // every}, or lower --model.init_args.{argument}.",
            )
