"""``recbench evaluate``: a finished run scored again, as a new result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.callbacks import STAMP, RunRecord
from benchmarks.cli import write
from benchmarks.configuration import RunCLI
from benchmarks.environment import peak_memory
from benchmarks.runs import BEST, CONFIG, RESULT, hash_of, read_result
from benchmarks.summary import summary_lines
from benchmarks.train import describe, finish, parameter_counts, prepare_folder, quieten, reads_unrecorded_time
from common.data.datamodule import SequenceDataModule
from common.data.schema import Manifest
from common.errors import UserError
from common.models.base import Recommender


def evaluate(
    run: Path,
    *,
    protocol: list[str] | None = None,
    data: str | None = None,
    root: Path | None = None,
    runs: Path | None = None,
    force: bool = False,
) -> None:
    """Scores a finished run again, under other protocols or on another data set, as a new result beside it.

    Args:
        run: Run folder.
        protocol: Protocols to test under; the run's own when omitted.
        data: Data set to test on; it must have the run's items and users, unless nothing of the method was trained.
        root: Folder of the stores, where it is not the run's.
        runs: Folder of all runs, where the new result goes; the run's own when omitted.
        force: Evaluate again what was evaluated before.
    """
    own = read_result(run)
    changes = [f"--runs={runs or run.resolve().parents[2]}", f"--name={own.method}"]
    changes += [f"--data.test_protocols=[{','.join(protocol)}]"] if protocol else []
    changes += [f"--data.root={root}"] if root else []
    changes += [f"--data.dataset={data}", "--data.recipe=null", "--data.store=null"] if data else []
    cli, module, model = load_run(run, changes)
    roles = {"checkpoint": own.run_id}
    name = hash_of(cli.plan.run_id, roles)
    plan = replace(cli.plan, run_id=name, folder=cli.plan.folder.with_name(name), predecessors=roles)
    if (plan.folder / RESULT).is_file() and not force:
        write(f"Done before: {plan.folder} (--force does it again).")
        return
    imputed = reads_unrecorded_time(model, module)
    monitor = cli.config.early_stopping.monitor
    record = RunRecord(monitor, cli.config.early_stopping.mode, {})
    cli.trainer_defaults = {"callbacks": [record]}
    trainer = cli.instantiate_trainer(logger=False, enable_checkpointing=False)
    trainer.test(model, module, verbose=False)
    if not trainer.is_global_zero:
        return
    prepare_folder(plan, None)
    result = replace(
        describe(plan, module, model, record, monitor),
        imputed_time=imputed,
        training=own.training,
        parameters=parameter_counts(model),
        seconds=own.seconds | {"test": record.test_seconds},
        peak_memory=peak_memory(),
        checkpoint=str(run),
    )
    finish(plan.folder, result, record, [])
    write("\n".join([*summary_lines(result), f"Run folder: {plan.folder}"]))


def load_run(run: Path, changes: Sequence[str] = ()) -> tuple[RunCLI, SequenceDataModule, Recommender]:
    """The data and the tested model of a finished run.

    Args:
        run: Run folder, of a training or of an evaluation.
        changes: Options that override its configuration.

    Raises:
        UserError: If the run is not finished, or its checkpoint was trained on other items or users.
    """
    quieten()
    result = read_result(run)
    weights = (Path(result.checkpoint) if result.checkpoint else run) / BEST
    cli = RunCLI(["--config", str(run / CONFIG), *changes])
    module, model = cli.build()
    model.attach(module.catalogue)
    # On another data set a closed-form model is made anew of that catalogue, not restored.
    if not model.closed_form or cli.plan.manifest.fingerprint == result.data["fingerprint"]:
        restore(model, weights, module.manifest)
    return cli, module, model.eval()


def restore(model: Recommender, path: Path, manifest: Manifest) -> None:
    """Loads a checkpoint's weights.

    Raises:
        UserError: If it is not there, cannot be read, or belongs to other items or users.
    """
    if not path.is_file():
        raise UserError(f"There is no checkpoint {path}.", "Train the run again with --force.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(
            f"{path} cannot be read as a checkpoint: {error}", "Train the run again with --force."
        ) from error
    refuse_other_data(content.get(STAMP, {}), path, manifest)
    model.load_state_dict(content["state_dict"])


def refuse_other_data(stamp: dict[str, str], path: Path, manifest: Manifest) -> None:
    """Raises a :class:`UserError` if ``stamp`` speaks of other items or users than the store's."""
    if any(stamp.get(name) != manifest.hashes[f"{name}.parquet"] for name in ("items", "users")):
        raise UserError(
            f"{path} was trained on {stamp.get('dataset', 'unknown data')} ({str(stamp.get('fingerprint'))[:12]}), "
            f"whose items and users are not those of {manifest.dataset} ({manifest.fingerprint[:12]}).",
            f"Train on it: recbench run --config {manifest.dataset}/METHOD.",
        )
