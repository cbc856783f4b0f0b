"""``recbench run``: train, test the checkpoint that validation chose, write the run folder."""

from __future__ import annotations

import logging
import shutil
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.plugins import TorchCheckpointIO
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.memory import garbage_collection_cuda, is_oom_error

from benchmarks.callbacks import (
    Artifacts,
    AtomicCheckpointIO,
    NoiseSeed,
    RunRecord,
    checkpoints,
    stamp_of,
    training_summary,
)
from benchmarks.configuration import Plan, RunCLI
from benchmarks.description import describe, parameter_counts, reads_unrecorded_time
from benchmarks.environment import forget_device_peak, forget_peak_memory, peak_memory
from benchmarks.experiments import read_yaml
from benchmarks.loggers.account import wandb_mode
from benchmarks.loggers.metrics import MetricsFile
from benchmarks.loggers.tracking import ending_its_own, log_result, wandb_logger
from benchmarks.memory import ROWS, halve_as, halve_batch, telling_of_the_model
from benchmarks.results import rank_table, write_ranks
from benchmarks.resuming import Continuation, checkpoint_to_resume
from benchmarks.runs import (
    CONFIG,
    LAST,
    METRICS,
    RANKS,
    RESULT,
    Result,
    alone,
    read_result,
    write_atomically,
)
from benchmarks.standins import STANDIN
from benchmarks.summary import summary_lines
from benchmarks.trainer import HELP, instantiated
from common.data.datamodule import FULL, SequenceDataModule
from common.errors import UserError
from common.models.base import Recommender
from common.models.finished import WEIGHTS

BOARD = "tensorboard"
"""Subfolder of a run folder for what TensorBoard shows."""
NOT_LOGGED = "Early stopping conditioned on metric"
"""How Lightning's message begins if the monitored metric is not logged."""


def main(arguments: Sequence[str]) -> None:
    """Trains and tests one model; a run that is already done is skipped unless ``--force`` is given.

    Raises:
        UserError: If the arguments, the store or the checkpoint are wrong, or the loss is not a number.
    """
    quieten()
    cli = RunCLI(arguments)
    plan = cli.plan
    if is_done(cli, plan):
        return
    if cli.config.wandb:
        # Fails before files of an earlier run are removed.
        wandb_mode()
    forget_peak_memory()
    try:
        with ending_its_own():
            result = launch_within_memory(cli, plan)
    except MisconfigurationException as error:
        raise UserError(str(error), HELP) from error
    if result is not None:
        say("\n".join([*summary_lines(result), f"Run folder: {plan.folder}"]))


def is_done(cli: RunCLI, plan: Plan) -> bool:
    """Whether a run is done and must not be repeated, which is said."""
    done = (plan.folder / RESULT).is_file() and not cli.config.force
    if done:
        say(f"Already done: {plan.folder} (--force runs it again).")
    return done


def launch_within_memory(cli: RunCLI, plan: Plan) -> Result | None:
    """Launches a run, and halves the rows per batch until a batch fits into the device's memory.

    Gradients are accumulated over twice as many batches each time, so that a step still reads the same rows. If a loss
    is a mean over tokens or draws candidates from its own batch, each part has its own mean and its own candidates.

    Raises:
        UserError: If a batch that cannot be halved does not fit.
    """
    while True:
        try:
            return launch(cli, plan)
        except RuntimeError as error:
            if not is_oom_error(error):
                raise
            say(f"Out of device memory: {halve_batch(cli.config)}", error=True)
        # Outside the handler, because its traceback still holds the tensors of the failed attempt.
        cli.config_init = None
        garbage_collection_cuda()
        L.seed_everything(int(plan.config["seed_everything"]), workers=True, verbose=False)


def launch(cli: RunCLI, plan: Plan) -> Result | None:
    """Builds the objects and carries out the run; returns ``None`` on every process except the first."""
    for predecessor in cli.config.predecessors.values():
        require_same_data(Path(predecessor), plan)
    resumed = checkpoint_to_resume(cli.config.ckpt_path, plan)
    resume = resumed and resumed.path
    if resumed:
        halve_as(cli.config, resumed.stamp)
    data, model = cli.build()
    imputed = reads_unrecorded_time(model, data)
    refuse_catalogue(model, data)
    model.attach(data.catalogue)
    # Encoding texts needs memory that the model does not, and only the first run of a data set does it.
    forget_device_peak()
    # The processes of a run on several devices share its folder; the first one prepares and locks it.
    with alone(plan.folder) if not rank_zero_only.rank else nullcontext():  # type: ignore[attr-defined]  # Lightning sets it by name
        # Another process may have finished it since this one began.
        if not rank_zero_only.rank and is_done(cli, plan):  # type: ignore[attr-defined]  # Lightning sets it by name
            return None
        return train_and_test(cli, plan, data, model, resume, imputed)


def train_and_test(
    cli: RunCLI, plan: Plan, data: SequenceDataModule, model: Recommender, resume: Path | None, imputed: bool
) -> Result | None:
    """Trains, tests the checkpoint that validation chose, and writes the folder on the first process.

    Returns:
        The result; ``None`` on the other processes and with ``fast_dev_run``.
    """
    monitor, mode = cli.config.early_stopping.monitor, cli.config.early_stopping.mode
    rows = int(cli.config.data.init_args.batch_size)
    stamp = stamp_of(plan.manifest) | {ROWS: str(rows)}
    record = RunRecord(monitor, mode, stamp)
    noise = NoiseSeed(int(plan.config["seed_everything"]))
    callbacks = [noise, record, Continuation(rows), Artifacts(plan.folder), *checkpoints(plan.folder, monitor, mode)]
    trainer = make_trainer(cli, plan, callbacks, resume)
    prepare_folder(plan, resume)
    with continuable(plan.folder), ending_others(trainer):
        with telling_of_the_model(noise):
            fit(trainer, model, data, plan.folder, resume)
        # Must come before the test, which resets callbacks to the state of the best checkpoint.
        summary = training_summary(trainer, record, model.closed_form)
        seconds = {"train": record.train_seconds, "to_best": record.seconds_to_best}
        best = None if model.closed_form or trainer.fast_dev_run else str(plan.folder / WEIGHTS)  # type: ignore[attr-defined]  # Lightning sets it by name
        test(trainer, model, data, best)
    if model.closed_form:
        summary |= shortcomings(plan)
    if (parts := cli.config.trainer.accumulate_grad_batches) != plan.config["trainer"]["accumulate_grad_batches"]:
        summary["batches_a_step"] = parts
    if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]  # Lightning sets it by name
        return None
    result = replace(
        describe(plan, data, model, record),
        imputed_time=imputed,
        training=summary,
        parameters=parameter_counts(model),
        seconds=seconds | {"test": record.test_seconds},
        peak_memory=peak_memory(),
    )
    finish(plan.folder, result, record, trainer.loggers)
    return result


def shortcomings(plan: Plan) -> dict[str, Any]:
    """What the training lacked whose weights a row scores that is not trained itself; nothing without predecessors."""
    folders = [folder for role, folder in plan.predecessor_folders.items() if role != STANDIN]
    found = [read_result(Path(folder)) for folder in folders]
    earlier = {run_id for result in found for run_id in result.predecessors.values()}
    last = [result.training for result in found if result.run_id not in earlier]
    late = {"undertrained": True} if any(training.get("undertrained") for training in last) else {}
    halved = [training["batches_a_step"] for training in last if "batches_a_step" in training]
    return late | ({"batches_a_step": max(halved)} if halved else {})


@contextmanager
def continuable(folder: Path) -> Iterator[None]:
    """Says how to continue a run that is interrupted; Lightning turns that into an exit of its own.

    Raises:
        SystemExit: With code 1; of SIGTERM, Lightning would make 0.
    """
    try:
        yield
    except (SystemExit, KeyboardInterrupt) as stop:
        saved = (folder / LAST).is_file()
        cure = "--ckpt_path last continues it" if saved else "no epoch was complete, so it starts from scratch"
        say(f"Interrupted. The run is in {folder}: {cure}.", error=True)
        raise SystemExit(1) from stop


def require_same_data(run: Path, plan: Plan) -> None:
    """Checks that a predecessor is finished, has its id for a name, and was trained on the same events of its store.

    Raises:
        UserError: If it is not.
    """
    other = read_result(run)
    if Path(run).name != other.run_id:
        # The id of this run is made from the names of those that it builds on.
        raise UserError(f"{run} holds the run {other.run_id}.", f"Give the folder its name, {other.run_id}.")
    if other.data.get("fingerprint") != plan.manifest.fingerprint:
        known = str(other.data.get("fingerprint"))[:12]
        raise UserError(
            f"{run} was trained on {other.dataset} ({known}), not on {plan.manifest.dataset} "
            f"({plan.manifest.fingerprint[:12]}), so its users and items differ.",
            f"Give a run on store {plan.manifest.store_id}, or choose that run's store with --data.store.",
        )
    own, theirs = plan.config["data"]["init_args"], read_yaml(run / CONFIG)["data"]["init_args"]
    differences = {
        "split": "it may have seen events that are held out here",
        "scenario": "it has seen different users",
    }
    if "history" in other.information_set:
        differences["max_history"] = "it reads histories of another length"
    for name, what in differences.items():
        if name in own and theirs.get(name, own[name]) != own[name]:
            raise UserError(
                f"{run} was trained with {name} {theirs[name]}, not {own[name]}: {what}.",
                f"Give --data.{name} {theirs[name]}, or a run with {name} {own[name]}, which a suite would train.",
            )


def refuse_catalogue(
    model: Recommender, data: SequenceDataModule, cure: str = "--data.test_protocols '[sampled-19]'"
) -> None:
    """Checks that the model can be tested under the protocols of its data.

    Args:
        model: The model.
        data: Its data.
        cure: Option that names such protocols.

    Raises:
        UserError: If it ranks only candidates that it is shown, and a protocol ranks the whole catalogue.
    """
    whole = FULL.keys() & {data.val_protocol, *data.test_protocols}
    if whole and not model.ranks_catalogue:
        raise UserError(
            f"{type(model).__name__} ranks only the candidates in its prompt, but {min(whole)} ranks the whole "
            "catalogue.",
            f"Choose protocols with sampled candidates, such as {cure}.",
        )


def fit(trainer: L.Trainer, model: Recommender, data: SequenceDataModule, folder: Path, resume: Path | None) -> None:
    """Trains the model; a closed-form model is only validated and saved.

    Raises:
        UserError: If no validation chose a checkpoint, validation does not log the monitored metric, or one of several
            processes has too little memory: the others have batches of their own, and cannot halve them with it.
    """
    if model.closed_form:
        trainer.validate(model, data, verbose=False)
        trainer.save_checkpoint(folder / WEIGHTS)
        return
    try:
        trainer.fit(model, data, ckpt_path=resume, weights_only=True)
    except RuntimeError as error:
        if is_oom_error(error) and trainer.world_size > 1:
            raise UserError(
                f"Out of device memory on process {trainer.global_rank} of {trainer.world_size}.",
                "Choose a smaller --data.batch_size, and more --trainer.accumulate_grad_batches for the same steps.",
            ) from error
        if not str(error).startswith(NOT_LOGGED):
            raise
        raise UserError(str(error), "Name a metric of validation with --early_stopping.monitor.") from error
    except ValueError as error:
        if "val_check_interval" not in str(error):
            raise
        raise UserError(" ".join(str(error).split()), HELP) from error
    if not trainer.fast_dev_run and not (folder / WEIGHTS).is_file():  # type: ignore[attr-defined]  # Lightning sets it by name
        raise UserError(
            "Training ended before its first validation, so no checkpoint was chosen.",
            "Train longer or validate earlier: --trainer.max_epochs, max_steps, check_val_every_n_epoch, "
            "val_check_interval and limit_val_batches decide.",
        )


def test(trainer: L.Trainer, model: Recommender, data: SequenceDataModule, checkpoint: str | None) -> None:
    """Tests the chosen checkpoint.

    Raises:
        UserError: If not even a single row fits into memory; smaller training batches would not help.
    """
    try:
        trainer.test(model, data, ckpt_path=checkpoint, weights_only=True, verbose=False)
    except (RuntimeError, UserError) as error:
        if not is_oom_error(error.__cause__ or error):
            raise
        raise UserError(
            "Out of device memory: training fitted, but not even a single row of the test does.",
            "The trained model is kept: continue with --ckpt_path last on a device with more memory.",
        ) from error


@contextmanager
def ending_others(trainer: L.Trainer) -> Iterator[None]:
    """Ends, upon an error, the processes that this one has started: they wait for its gradients, deaf to less."""
    try:
        yield
    except Exception:
        if trainer.strategy.launcher is not None:
            trainer.strategy.launcher.kill(signal.SIGKILL)
        raise


def prepare_folder(plan: Plan, resume: Path | None) -> None:
    """Creates the run folder; files of an earlier attempt are removed, or kept if this run resumes it."""
    plan.folder.mkdir(parents=True, exist_ok=True)
    if not rank_zero_only.rank:  # type: ignore[attr-defined]  # Lightning sets it by name
        (plan.folder / RESULT).unlink(missing_ok=True)
        if resume is None:
            for name in (WEIGHTS, LAST, RANKS, METRICS):
                (plan.folder / name).unlink(missing_ok=True)
            # TensorBoard would draw all attempts as one curve.
            shutil.rmtree(plan.folder / BOARD, ignore_errors=True)
        elif resume.parent.resolve() != plan.folder.resolve():
            # Until a later epoch is better, the best is the other run's.
            shutil.copyfile(resume.parent / WEIGHTS, plan.folder / WEIGHTS)
        write_atomically(plan.folder / CONFIG, yaml.safe_dump(plan.config, sort_keys=False))


def make_trainer(cli: RunCLI, plan: Plan, callbacks: list[L.Callback], resume: Path | None = None) -> L.Trainer:
    """The configured Trainer, with the run's loggers and callbacks."""
    given = cli.config_init.trainer.logger
    loggers: list[Logger] = [MetricsFile(plan.folder, resume and resume.parent)]
    loggers += given if isinstance(given, list) else [given] if isinstance(given, Logger) else []
    if cli.config.tensorboard:
        loggers.append(TensorBoardLogger(plan.folder, name="", version=BOARD))
    if cli.config.wandb:
        loggers.append(wandb_logger(plan, cli.config.suite))
    bars: list[L.Callback] = [RichProgressBar()] if cli.config_init.trainer.enable_progress_bar is not False else []
    cli.trainer_defaults = {"callbacks": [*bars, *callbacks]}
    trainer = instantiated(cli, logger=loggers, default_root_dir=str(plan.folder))
    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
        trainer.strategy.checkpoint_io = AtomicCheckpointIO()
    return trainer


def finish(folder: Path, result: Result, record: RunRecord, loggers: Sequence[Logger]) -> None:
    """Writes the ranks, completes the folder with ``result.json``, and passes the metrics to the loggers."""
    write_ranks(rank_table(record.ranks, record.slices, record.values), folder / RANKS)
    result.write(folder)
    # Last, so that a failing service cannot spoil a finished run.
    log_result(loggers, result, folder)


def quieten() -> None:
    """Silences messages that require no action from the user."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    for pattern in (
        ".*does not have many workers.*",
        ".*exists and is not empty.*",
        ".*log_every_n_steps.*",
        # All processes log the same values.
        ".*It is recommended to use `self.log.*sync_dist=True.*",
        # Evaluation counts every case once, whatever the number of devices.
        ".*Using `DistributedSampler` with the dataloaders.*",
        ".*LeafSpec.*",
        "MLFlow only allows .* special characters.*",
    ):
        warnings.filterwarnings("ignore", pattern)


@rank_zero_only
def say(text: str, error: bool = False) -> None:
    """Prints on the first process only."""
    (sys.stderr if error else sys.stdout).write(text + "\n")
