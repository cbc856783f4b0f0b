"""One trial: a training with chosen hyper-parameters, judged only by validation; nothing is tested."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning as L

from benchmarks.callbacks import NoiseSeed, RunRecord
from benchmarks.configuration import RunCLI
from benchmarks.description import reads_unrecorded_time
from benchmarks.experiments import as_yaml
from benchmarks.launch.plan import devices_of
from benchmarks.loggers.tracking import ending_its_own, log_best
from benchmarks.sweeps.space import Space
from benchmarks.train import make_trainer, quieten, require_same_data
from common.errors import UserError

Report = Callable[[float, int], bool]
"""Takes the metric and the number of an epoch; says whether to continue."""


class Reporter(L.Callback):
    """Reports the metric of each epoch, and stops a trial that is not worth continuing.

    Args:
        metric: Name of the metric.
        report: Called with the metric of each epoch; says whether to continue.
    """

    def __init__(self, metric: str, report: Report) -> None:
        self.metric, self.report = metric, report
        self.pruned = False

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Reports the metric, once per epoch.

        Raises:
            UserError: If validation does not log the metric.
        """
        if trainer.sanity_checking:
            return
        if self.metric not in trainer.callback_metrics:
            known = sorted(name for name in trainer.callback_metrics if name.startswith("val/"))
            raise UserError(f"Validation does not log {self.metric!r}.", f"Choose one of: {', '.join(known)}.")
        if not self.report(float(trainer.callback_metrics[self.metric]), trainer.current_epoch):
            self.pruned = trainer.should_stop = True


def run_trial(arguments: Sequence[str], metric: str, goal: str, report: Report) -> tuple[float, bool]:
    """Trains, and returns the best value of ``metric`` and whether the trial was stopped early.

    Args:
        arguments: Arguments of ``recbench run``.
        metric: Validation metric, also used for early stopping.
        goal: ``maximize`` or ``minimize``.
        report: Called with the metric of each epoch; says whether to continue.

    Raises:
        UserError: If an argument is not valid, or there was no validation.
        KeyboardInterrupt: If the process is told to end.
    """
    quieten()
    mode = "max" if goal == "maximize" else "min"
    cli = RunCLI([*arguments, *selection(metric, goal)])
    data, model = cli.build()
    reads_unrecorded_time(model, data)
    model.attach(data.catalogue)
    record, reporter = RunRecord(metric, mode, {}), Reporter(metric, report)
    cli.config_init.trainer.enable_checkpointing = False
    cli.plan.folder.mkdir(parents=True, exist_ok=True)
    trainer = make_trainer(cli, cli.plan, [NoiseSeed(int(cli.plan.config["seed_everything"])), record, reporter])
    with ending_its_own():
        try:
            if model.closed_form:
                trainer.validate(model, data, verbose=False)
            else:
                trainer.fit(model, data)
        except SystemExit as stop:
            # Lightning would end the process without a word, and upon SIGTERM with code 0.
            raise KeyboardInterrupt from stop
        if record.best is None:
            raise UserError("The trial had no validation.", "Give --trainer.max_epochs of at least 1.")
        log_best(trainer.loggers, metric, record.best)
    return record.best, reporter.pruned


def check(space: Space, options: Sequence[str], with_data: bool = False) -> str:
    """Parses as many configurations of the space as show every choice of each parameter once.

    Args:
        space: What is searched.
        options: Further options of every trial.
        with_data: Whether trials run in this process: their data, and the runs that they build on, must exist.

    Returns:
        The fingerprint of the data of all trials; empty unless they run in this process.

    Raises:
        UserError: If a parameter is not an option of ``recbench run`` (the message names the nearest one), a run that
            trials build on is not given, the data are missing, or a trial of this process would need others.
    """
    if space.method == "grid":
        space.grid()
    for place in range(max(len(parameter.samples) for parameter in space.parameters)):
        values = {p.name: p.samples[min(place, len(p.samples) - 1)] for p in space.parameters}
        cli = RunCLI([*space.arguments, *options, *as_arguments(values)])
    if cli.missing:
        given = " ".join(f"predecessors.{method}=RUN" for method in cli.missing)
        raise UserError(
            f"{space.experiment} builds on finished runs of {' and '.join(cli.missing)}, which are not given.",
            f"Add --options {given}; a suite that contains them makes such runs (`recbench list suites`).",
        )
    if with_data:
        if (devices := devices_of(cli)) > 1:
            # The other processes of a trial would begin the command anew, and with it trials of their own.
            cure = "Leave trainer.devices out and start one process per device, or search with --backend wandb."
            raise UserError(f"A trial runs in one process, not on {devices} devices.", cure)
        plan = cli.plan
        for predecessor in cli.config.predecessors.values():
            require_same_data(Path(predecessor), plan)
        return plan.manifest.fingerprint
    return ""


def selection(metric: str, goal: str) -> list[str]:
    """Options of ``recbench run`` that judge epochs by the same metric as trials.

    >>> selection("val/ndcg@10", "maximize")
    ['--early_stopping.monitor=val/ndcg@10', '--early_stopping.mode=max']
    """
    return [f"--early_stopping.monitor={metric}", f"--early_stopping.mode={goal[:3]}"]


def as_arguments(values: dict[str, Any]) -> list[str]:
    """Values as options of ``recbench run``.

    >>> as_arguments({"model.lr": 0.01, "model.layers": [8, 4]})
    ['--model.lr=0.01', '--model.layers=[8, 4]']
    """
    return [f"--{name}={as_yaml(value)}" for name, value in values.items()]
