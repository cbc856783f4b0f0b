"""Methods that train in stages within one run: the first epochs prepare, the others are what validation judges."""

from __future__ import annotations

import math

import lightning as L
from torch.nn.parallel import DistributedDataParallel

from common.errors import UserError


def require_stages(trainer: L.Trainer, argument: str, epochs: int) -> None:
    """Looks whether a run that begins now can come to its last stage, of which each trains parts of its own.

    Args:
        trainer: The trainer of the run.
        argument: Name of the model's argument that sets the length of the earlier stages.
        epochs: That length; without any there are no stages.

    Raises:
        UserError: If the run would end before, or its strategy wants a gradient for every parameter at every step.
    """
    if not epochs:
        return
    parallel = trainer.strategy.model
    if isinstance(parallel, DistributedDataParallel) and not parallel.find_unused_parameters:
        raise UserError(
            f"{argument} is {epochs}: epochs before and after train different parts of the model, and strategy ddp "
            "wants a gradient for every parameter at every step",
            "Give --trainer.strategy ddp_find_unused_parameters_true.",
        )
    require_budget(trainer, argument, epochs)
    require_patience(trainer, argument, epochs)


def require_budget(trainer: L.Trainer, argument: str, epochs: int) -> None:
    """Looks whether the longest training allowed comes to the last stage of a run.

    Args:
        trainer: The trainer of the run.
        argument: Name of the model's argument that sets how long the stage before the last one is.
        epochs: Epochs before the last stage.

    Raises:
        UserError: If ``max_epochs`` or ``max_steps`` would end the run before.
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
        f"{argument} last until epoch {epochs}, and training ends after {end}, before the stage that follows",
        f"Raise --trainer.{option}, or lower --model.init_args.{argument}.",
    )


def require_patience(trainer: L.Trainer, argument: str, epochs: int) -> None:
    """Looks whether early stopping lets a run come to the stage that follows its first epochs.

    Validation may stand still while a stage prepares the next one.

    Args:
        trainer: The trainer of the run.
        argument: Name of the model's argument that sets the length of the earlier stages.
        epochs: That length.

    Raises:
        UserError: If early stopping could end the run before.
    """
    if trainer.fast_dev_run:  # type: ignore[attr-defined]  # Lightning sets it by name
        return
    every = trainer.check_val_every_n_epoch or 1
    for callback in trainer.early_stopping_callbacks:
        if callback.patience * every <= epochs:
            raise UserError(
                f"{argument} is {epochs}, and early stopping may end the run {callback.patience * every} epochs after "
                "its first validation",
                f"Raise --early_stopping.patience above {epochs // every}, or lower --model.init_args.{argument}.",
            )


def steps_of(trainer: L.Trainer, epochs: int) -> tuple[int | float, int | float]:
    """Steps of the first ``epochs`` of a run that has begun, and of all of it, infinite where nothing ends it."""
    each = -(-trainer.num_training_batches // trainer.accumulate_grad_batches)
    longest = trainer.max_epochs
    whole = math.inf if longest in (None, -1) else longest * each
    return epochs * each, whole if trainer.max_steps == -1 else min(whole, trainer.max_steps)


def warmed(step: int | float, steps: int | float, warmup: int) -> float:
    """Share of the learning rate that a step takes: it rises linearly for ``warmup`` steps, then falls to 0 at the end.

    >>> [warmed(step, 8, 4) for step in (0, 3, 4, 6)]
    [0.25, 1.0, 1.0, 0.5]
    """
    if step < warmup:
        return (step + 1) / warmup
    return 1.0 if math.isinf(steps) else max(0.0, steps - step) / max(1.0, steps - warmup)


def set_rates(trainer: L.Trainer, *rates: float) -> None:
    """Sets the learning rates of the groups of parameters, in their order."""
    for optimizer in trainer.optimizers:
        for group, rate in zip(optimizer.param_groups, rates, strict=False):
            group["lr"] = rate


def begin_anew(trainer: L.Trainer) -> None:
    """Lets the optimiser forget the moments of an earlier stage."""
    for optimizer in trainer.optimizers:
        optimizer.state.clear()
