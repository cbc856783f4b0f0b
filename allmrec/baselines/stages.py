"""Methods that train in stages within one run: earlier stages prepare the last one."""

from __future__ import annotations

import math

import lightning as L
from torch.nn.parallel import DistributedDataParallel

from common.errors import UserError


def require_stages(trainer: L.Trainer, argument: str, epochs: int) -> None:
    """Checks that a run can pass its first stage, which trains other parts of the model than the next one.

    Args:
        trainer: Trainer of the run.
        argument: The model's argument that sets the length of the first stage.
        epochs: Length of the first stage; 0 if there is none.

    Raises:
        UserError: If the run could end before, or its strategy expects a gradient for every parameter in every step.
    """
    if not epochs:
        return
    parallel = trainer.strategy.model
    if isinstance(parallel, DistributedDataParallel) and not parallel.find_unused_parameters:
        raise UserError(
            f"{argument} is {epochs}: epochs before and after it train different parts of the model, and strategy ddp "
            "expects a gradient for every parameter in every step",
            "Give --trainer.strategy ddp_find_unused_parameters_true.",
        )
    require_budget(trainer, argument, epochs)
    require_patience(trainer, argument, epochs)


def require_budget(trainer: L.Trainer, argument: str, epochs: int) -> None:
    """Checks that the budget of a run is longer than a number of epochs.

    Args:
        trainer: Trainer of the run.
        argument: The model's argument that sets the length of the stage that ends with these epochs.
        epochs: Number of epochs.

    Raises:
        UserError: If ``max_epochs`` or ``max_steps`` end the run before.
    """
    if trainer.fast_dev_run:  # type: ignore[attr-defined]  # Lightning sets it by name
        return
    longest, steps = trainer.max_epochs, trainer.max_steps
    if longest not in (None, -1) and longest <= epochs:
        end, option = f"epoch {longest}", "max_epochs"
    elif steps != -1 and steps <= steps_of(trainer, epochs)[0]:
        end, option = f"step {steps}", "max_steps"
    else:
        return
    raise UserError(
        f"{argument} last until epoch {epochs}, but training ends after {end}, before the next stage",
        f"Raise --trainer.{option}, or lower --model.{argument}.",
    )


def require_patience(trainer: L.Trainer, argument: str, epochs: int) -> None:
    """Checks that early stopping cannot end a run within a number of epochs.

    Validation may not improve while one stage prepares the next.

    Args:
        trainer: Trainer of the run.
        argument: The model's argument that sets this number.
        epochs: Number of epochs.

    Raises:
        UserError: If it can.
    """
    if trainer.fast_dev_run:  # type: ignore[attr-defined]  # Lightning sets it by name
        return
    every = epochs_of_validation(trainer)
    for callback in trainer.early_stopping_callbacks:
        if callback.patience * every <= epochs:
            raise UserError(
                f"{argument} is {epochs}, but early stopping may end the run {callback.patience * every:g} epochs "
                "after its first validation",
                f"Raise --early_stopping.patience above {math.floor(epochs / every)}, or lower --model.{argument}.",
            )


def epochs_of_validation(trainer: L.Trainer) -> int | float:
    """Epochs from one validation to the next; if these go by the clock, as many as without an interval."""
    interval, every = trainer.val_check_interval, trainer.check_val_every_n_epoch or 1
    if isinstance(interval, int):
        return every * interval / trainer.num_training_batches
    return every * interval if isinstance(interval, float) else every


def steps_of(trainer: L.Trainer, epochs: int) -> tuple[int | float, int | float]:
    """Steps of the first ``epochs`` of a running training, and of the whole training, infinite without a budget."""
    each = -(-trainer.num_training_batches // trainer.accumulate_grad_batches)
    longest = trainer.max_epochs
    whole = math.inf if longest in (None, -1) else longest * each
    return epochs * each, whole if trainer.max_steps == -1 else min(whole, trainer.max_steps)


def warmed(step: int | float, steps: int | float, warmup: int) -> float:
    """Factor of the learning rate in a step: it rises linearly for ``warmup`` steps, then falls to 0 at the end.

    >>> [warmed(step, 8, 4) for step in (0, 3, 4, 6)]
    [0.25, 1.0, 1.0, 0.5]
    """
    if step < warmup:
        return (step + 1) / warmup
    return 1.0 if math.isinf(steps) else max(0.0, steps - step) / max(1.0, steps - warmup)


def set_rates(trainer: L.Trainer, *rates: float) -> None:
    """Sets the learning rates of the parameter groups, in their order."""
    for optimizer in trainer.optimizers:
        for group, rate in zip(optimizer.param_groups, rates, strict=False):
            group["lr"] = rate


def forget_moments(trainer: L.Trainer) -> None:
    """Resets the optimiser's moments, as a new optimiser would."""
    for optimizer in trainer.optimizers:
        optimizer.state.clear()
