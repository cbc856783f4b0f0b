"""Runs and tables on Weights & Biases; offline without a key, so that ``wandb sync`` can upload them later."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import Logger, WandbLogger

from benchmarks.leaderboard.formats import record_of
from benchmarks.leaderboard.rows import Table
from benchmarks.loggers.account import wandb_mode
from benchmarks.results import ALL_CASES
from benchmarks.runs import LAST, RANKS, RESULT, Result
from benchmarks.standins import STANDIN

if TYPE_CHECKING:
    from benchmarks.configuration import Plan

PROJECT = "recbench"


class RunLogger(WandbLogger):
    """A W&B logger that continues the W&B run of the training which a run resumes.

    Args:
        folder: Run folder.
        options: As for Lightning's own.
    """

    def __init__(self, folder: Path, **options: Any) -> None:  # noqa: ANN401
        super().__init__(save_dir=folder, **options)
        self.folder = folder

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:  # noqa: ANN401 (wandb's run has no public type)
        """The W&B run, which starts once the folder is prepared: one that is not resumed has no checkpoint then."""
        if self._experiment is None and (self.folder / LAST).is_file():
            self._wandb_init["id"] = _latest(self.folder)
        with _without_arguments():
            return super().experiment


@contextmanager
def _without_arguments() -> Iterator[None]:
    """Hides the command line from W&B, which would keep it with any password in it; the configuration has none."""
    arguments, sys.argv = sys.argv, sys.argv[:1]
    try:
        yield
    finally:
        sys.argv = arguments


def _latest(folder: Path) -> str | None:
    """Id of the last W&B run of a run folder, which the name of W&B's own folder ends with, after the time."""
    names = [path.name.partition("run-")[2] for path in (folder / "wandb").glob("*run-*-*")]
    return max(names).partition("-")[2] if names else None


def wandb_logger(plan: Plan, suite: str | None) -> WandbLogger:
    """The logger of one run; its group is the suite, its job type the method.

    Args:
        plan: The run, whose configuration contains no secrets.
        suite: Suite that it belongs to.
    """
    data = plan.config["data"]["init_args"]
    tags = [plan.manifest.dataset, plan.method, f"seed-{plan.config['seed_everything']}", data["val_protocol"]]
    return RunLogger(
        plan.folder,
        project=PROJECT,
        name=f"{plan.manifest.dataset}/{plan.method}/{plan.run_id}",
        group=suite or plan.manifest.dataset,
        job_type=plan.method,
        tags=tags,
        mode=wandb_mode(),
        config=plan.config | {"run_id": plan.run_id, "config_id": plan.config_id, "predecessors": plan.predecessors},
    )


def log_result(loggers: Sequence[Logger], result: Result, folder: Path) -> None:
    """Sends the final metrics to each logger; W&B also gets a summary, the protocol ids, and the run as an artifact.

    Metrics of slices, some hundreds, are left to the summary and to ``result.json``.

    If a logger fails, one line says so: the run itself is finished.

    Args:
        loggers: The run's loggers.
        result: Result of the run.
        folder: Folder that holds its result and ranks.
    """
    metrics = {name: value for name, value in result.metrics.items() if f"/{ALL_CASES}/" in name}
    for logger in loggers:
        with spared(f"{type(logger).__name__} did not accept the final metrics of {folder}"):
            logger.log_metrics(metrics, step=result.training.get("steps", 0))
            if isinstance(logger, WandbLogger):
                seal(logger.experiment, result, folder)
            logger.finalize("success")


@contextmanager
def spared(what: str) -> Iterator[None]:
    """Reduces any error of a service to one line on standard error, because the work itself is done and on disk.

    Args:
        what: What went wrong, as the line says it.
    """
    try:
        yield
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        sys.stderr.write(f"recbench: {what}: {reason}\n")


@contextmanager
def ending_its_own() -> Iterator[None]:
    """Ends the W&B run that begins within, if it has not ended, so that the next one of the process has its own.

    Upon an error it ends as failed, which W&B would not know of a process that handles its errors.
    """
    earlier, failed = _current(), True
    try:
        yield
        failed = False
    finally:
        run = _current()
        if run is not None and run is not earlier:
            with spared("W&B was not told that the run has ended"):
                run.finish(exit_code=int(failed))


def _current() -> Any:  # noqa: ANN401 (wandb's run has no public type)
    """The W&B run of this process, if any, without importing W&B."""
    return getattr(sys.modules.get("wandb"), "run", None)


def log_best(loggers: Sequence[Logger], metric: str, best: float) -> None:
    """Tells W&B the best validation of a training that is not tested; its summary would be the last one.

    Args:
        loggers: The training's loggers.
        metric: Name of the metric.
        best: Its best value.
    """
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            with spared(f"W&B did not accept the best {metric}"):
                logger.experiment.summary[metric] = best


def log_leaderboard(tables: Sequence[Table], suite: str, folder: Path) -> None:
    """Logs each table as a ``wandb.Table``, in a separate run.

    Args:
        tables: The tables.
        suite: The suite, which is the run's group.
        folder: Where offline runs are kept.
    """
    import wandb

    run = wandb.init(
        project=PROJECT,
        group=suite,
        job_type="leaderboard",
        name=f"leaderboard {suite}",
        dir=folder,
        mode=wandb_mode(),  # type: ignore[arg-type]  # the environment's word
    )
    for table in tables:
        rows = [_flat(record_of(table, row)) for row in table.rows]
        columns: list[str | int] = list(dict.fromkeys(name for row in rows for name in row))
        content = wandb.Table(columns=columns, data=[[row.get(str(name)) for name in columns] for row in rows])
        run.log({f"leaderboard/{table.dataset}/{table.protocol}/{table.scenario}/{table.protocol_id}": content})
    run.finish()


def artifact_name(run_id: str) -> str:
    """Name of a run's artifact. It depends only on the id, which is all that later runs know about it.

    >>> artifact_name("0a1b")
    'run-0a1b'
    """
    return f"run-{run_id}"


def seal(run: Any, result: Result, folder: Path) -> None:  # noqa: ANN401 (wandb's run has no public type)
    """Completes a W&B run with its summary, lineage and artifact, and ends it.

    Args:
        run: The W&B run.
        result: Result of the run.
        folder: Folder that holds its result and ranks.
    """
    import wandb

    protocols = {name: entry["id"] for name, entry in result.protocols.items()}
    run.config.update({"protocols": protocols, "information_set": result.information_set}, allow_val_change=True)
    run.summary.update(result.metrics | _flat({"seconds": result.seconds, "peak_memory": result.peak_memory}))
    run.summary.update(_flat({"parameters": result.parameters, "training": result.training}))
    if (best := result.training.get("best")) is not None:
        # A sweep on W&B judges a run by its summary, which would be the last validation.
        run.summary[result.training["monitor"]] = best
    # An offline run cannot request an artifact; its lineage is then only in the metadata.
    if not run.offline:
        _use(run, result.predecessors)
    metadata: dict[str, Any] = {"predecessors": result.predecessors, "protocols": protocols}
    metadata |= {"config_id": result.config_id, "dataset": result.dataset, "method": result.method, "seed": result.seed}
    artifact = wandb.Artifact(artifact_name(result.run_id), "run", metadata=metadata)
    for name in (RESULT, RANKS):
        artifact.add_file(str(folder / name))
    run.log_artifact(artifact)
    run.finish()


def _use(run: Any, predecessors: Mapping[str, str]) -> None:  # noqa: ANN401
    for role, predecessor in predecessors.items():
        # A stand-in is not a run, so it has no artifact.
        if role == STANDIN:
            continue
        name = artifact_name(predecessor)
        with spared(f"W&B has no artifact {name} of the {role} that this run builds on, so the lineage lacks it"):
            run.use_artifact(f"{name}:latest", type="run")


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one mapping with joined keys; lists become text.

    >>> _flat({"a": {"b": 1}, "c": ["x", "y"]})
    {'a/b': 1, 'c': 'x, y'}
    """
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}/")
        else:
            flat[prefix + key] = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else value
    return flat
