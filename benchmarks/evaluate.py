"""``recbench evaluate``: scores a finished run again, as a new result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.callbacks import STAMP, RunRecord
from benchmarks.cli import write
from benchmarks.configuration import Plan, RunCLI, models_named
from benchmarks.description import Origin, describe, reads_unrecorded_time
from benchmarks.environment import peak_memory
from benchmarks.experiments import read_yaml
from benchmarks.runs import CHECKPOINT, CONFIG, ORIGIN, RESULT, UNDER, Result, alone, hash_of, read_result
from benchmarks.standins import STANDIN, domain_of
from benchmarks.summary import summary_lines
from benchmarks.train import finish, prepare_folder, quieten, refuse_catalogue, say
from benchmarks.trainer import instantiated
from common.data.datamodule import SequenceDataModule
from common.data.schema import Manifest
from common.data.views import OVERALL, require_scenario
from common.errors import UserError
from common.models.base import Recommender
from common.models.closed_form import NothingToTrain
from common.models.finished import WEIGHTS, load_checkpoint

ACROSS = "from-"
"""Prefix of the scenario of a test on another data set; the data set of the training follows."""
ON_OTHERS = "The run was trained on other devices: say with --devices on how many to test."


def evaluate(
    run: Path,
    *,
    protocol: list[str] | None = None,
    scenario: str | None = None,
    data: str | None = None,
    root: Path | None = None,
    runs: Path | None = None,
    devices: int | None = None,
    force: bool = False,
) -> None:
    """Scores a finished run again under another protocol, scenario or data set, as a new result next to it.

    Args:
        run: Run folder.
        protocol: Protocols to test under; the run's own when omitted.
        scenario: Scenario to test under; the run must not have seen what it withholds. The run's own when omitted.
        data: Data set to test on (``KEY`` or ``KEY/RECIPE``), of whose items the run knows only the texts, as the
            scenario ``from-<own data set>``. Not applicable to methods that know items by their ids. Floors that count
            events are fitted to the new data set instead.
        root: Folder of the stores, if it is not the run's own.
        runs: Folder of all runs, where the new result goes; the run's own when omitted.
        devices: Devices of this machine to test on; as the run was trained when omitted. Figures are the same.
        force: Repeat an evaluation that is already done.
    """
    quieten()
    own = read_result(run)
    if scenario and (data or ORIGIN in own.data):
        raise UserError("A test on another data set is a scenario of its own.", "Give --scenario or --data.")
    if scenario:
        require_scenario(scenario, "--scenario")
    changes = [f"--runs={runs or home_of(run, own)}", f"--name={own.method}"]
    changes += [f"--data.test_protocols=[{','.join(protocol)}]"] if protocol else []
    changes += [f"--data.scenario={scenario}"] if scenario else []
    changes += [f"--data.root={root}"] if root else []
    if data:
        changes += across(configuration_of(run), scenario_of_training(run), data)
    cli = configuration_of(run, changes)
    plan = plan_of_test(cli, own.run_id, run)
    if (plan.folder / RESULT).is_file() and not force:
        write(f"Already done: {plan.folder} (--force repeats it).")
        return
    module, model = built(run, cli, data is not None)
    refuse_catalogue(model, module, "--protocol sampled-19")
    imputed = reads_unrecorded_time(model, module)
    record = RunRecord(cli.config.early_stopping.monitor, cli.config.early_stopping.mode, {})
    cli.trainer_defaults = {"callbacks": [record]}
    trainer = instantiated(cli, ON_OTHERS, **_place(devices), logger=False, enable_checkpointing=False)
    try:
        trainer.test(model, module, verbose=False)
    except SystemExit as stop:
        say("Interrupted: nothing was written.", error=True)
        raise SystemExit(1) from stop
    if not trainer.is_global_zero:
        return
    result = replace(
        describe(plan, module, model, record, origin_of(own, cli, module)),
        imputed_time=imputed,
        training=own.training,
        parameters=own.parameters,
        seconds=own.seconds | {"test": record.test_seconds},
        peak_memory=peak_memory(),
        # What its weights were made from tells how far its seeds are independent.
        predecessors=own.predecessors | {CHECKPOINT: own.run_id},
        checkpoint=own.checkpoint or str(run.resolve()),
    )
    with alone(plan.folder):
        prepare_folder(plan, None)
        finish(plan.folder, result, record, [])
    write("\n".join([*summary_lines(result), f"Run folder: {plan.folder}"]))


def _place(devices: int | None) -> dict[str, Any]:
    """Options of a Trainer on so many devices of this machine; none where the run's own are to do."""
    return {} if devices is None else {"accelerator": "auto", "strategy": "auto", "num_nodes": 1, "devices": devices}


def home_of(run: Path, own: Result) -> Path:
    """The folder of all runs in which a run lies.

    Raises:
        UserError: If it was copied or moved elsewhere.
    """
    place = run.resolve()
    if place.parts[-3:] != (own.dataset, own.method, own.run_id):
        raise UserError(
            f"{run} is not where runs are kept, as {own.dataset}/{own.method}/{own.run_id} in a folder of all runs.",
            "Name the folder of all runs, where the new result goes, with --runs.",
        )
    return place.parents[2]


def plan_of_test(cli: RunCLI, tested: str, run: Path) -> Plan:
    """The plan of a test of a run; its id depends on the run and on everything that the test changes.

    Args:
        cli: The configuration of the test.
        tested: Id of the run.
        run: Its folder.
    """
    roles, folder = {CHECKPOINT: tested}, {CHECKPOINT: str(run)}
    name = hash_of(cli.plan.run_id, roles)
    place = cli.plan.folder.with_name(name)
    return replace(cli.plan, run_id=name, folder=place, predecessors=roles, predecessor_folders=folder)


def across(trained: RunCLI, scenario: str, data: str) -> list[str]:
    """Options that change a run's configuration for a test on another data set: its store and the prompts' domain.

    A stand-in language model remains that of the training.

    Args:
        trained: The run.
        scenario: Scenario of its training.
        data: The other data set, as ``KEY`` or, if it has several stores, ``KEY/RECIPE``.

    Raises:
        UserError: If the run was trained on only some of the users.
    """
    if scenario != OVERALL:
        what = f"The run {trained.plan.method} was trained under {scenario}, a scenario that {data} does not share."
        raise UserError(what, "Name a run that was trained on all users.")
    key, _, recipe = data.partition("/")
    changes = [f"--data.dataset={key}", f"--data.recipe={recipe or 'null'}", "--data.store=null"]
    changes += [f"--model.domain={domain_of(key)}"] if "domain" in trained.config.model.init_args else []
    folder = None if _untrained(trained) else trained.plan.predecessor_folders.get(STANDIN)
    return changes if folder is None else [*changes, f"--predecessors.{STANDIN}={folder}"]


def transferable(class_path: str, arguments: Mapping[str, Any]) -> bool:
    """Whether a trained model can rank items of another data set.

    Args:
        class_path: Its class, by path or short name.
        arguments: Those that it is made with.
    """
    return any(
        kind.transfer is not Recommender.transfer and kind.transfers_with.items() <= arguments.items()
        for kind in models_named(class_path)
    )


def scenario_of_training(run: Path) -> str:
    """The scenario under which the weights of a run or an evaluation were trained."""
    settings: dict[str, Any] = read_yaml(trained_run(run) / CONFIG)["data"]["init_args"]
    return str(settings.get("scenario", OVERALL))


def trained_run(run: Path) -> Path:
    """The run folder that holds the weights of a run: its own or, for an evaluation, that of the evaluated run."""
    checkpoint = read_result(run).checkpoint
    if not checkpoint:
        return run
    # A folder of runs may have been moved as a whole; a test on another data set lies elsewhere in it than its run.
    for place in (Path(checkpoint), run.parent / Path(checkpoint).name, _beside(run, Path(checkpoint))):
        if place.is_dir():
            return place
    raise UserError(f"{run} is a test of {checkpoint}, which is not there.", "Name the run that was trained.")


def origin_of(own: Result, cli: RunCLI, module: SequenceDataModule) -> Origin | None:
    """The training of a run, if its data set or scenario differs from that of the test.

    A method without training is fitted to whatever data it is tested on.
    """
    other = cli.plan.manifest.fingerprint != own.data["fingerprint"] or ORIGIN in own.data
    if other and not _untrained(cli):
        dataset = own.data.get(ORIGIN, own.dataset)
        mark = f"from {dataset}" if own.closed_form else f"trained on {dataset}"
        return Origin(f"{ACROSS}{dataset}", {ORIGIN: dataset}, mark)
    trained = module.trained_scenario
    if trained != module.scenario:
        return Origin(f"{trained} on {module.view.scenario}", {UNDER: trained}, f"trained under {trained}")
    return None


def load_run(run: Path, root: Path | None = None) -> tuple[SequenceDataModule, Recommender]:
    """The data and the tested model of a finished run; errors are those of the two functions below.

    Args:
        run: Run folder of a training or an evaluation.
        root: Folder of the stores, if it is not the run's own.
    """
    quieten()
    return built(run, configuration_of(run, [f"--data.root={root}"] if root else []))


def configuration_of(run: Path, changes: Sequence[str] = ()) -> RunCLI:
    """The configuration of a finished run, on its own store.

    Args:
        run: Run folder of a training or an evaluation.
        changes: Options that override its configuration.

    Raises:
        UserError: If the run is not finished, or an option is not valid.
    """
    own = store_of(read_result(run))
    return RunCLI(["--config", str(run / CONFIG), own, *moved_predecessors(run), *changes])


def moved_predecessors(run: Path) -> list[str]:
    """Options that say where the runs now are that a run builds on.

    A folder of runs may have been moved as a whole, or its path may lead nowhere from the current folder.

    Args:
        run: Run folder of a training or an evaluation.
    """
    content = read_yaml(run / CONFIG)
    named = content.get("predecessors") if isinstance(content, dict) else None
    places = {role: Path(str(folder)) for role, folder in named.items()} if isinstance(named, dict) else {}
    now = {role: _beside(run, place) for role, place in places.items() if not place.is_dir()}
    return [f"--predecessors.{role}={place}" for role, place in now.items() if place.is_dir()]


def _beside(run: Path, other: Path) -> Path:
    """Where another run is if it lies in the same folder of all runs as ``run``."""
    return run.resolve().parent.parent.parent.joinpath(*other.parts[-3:])


def built(run: Path, cli: RunCLI, elsewhere: bool = False) -> tuple[SequenceDataModule, Recommender]:
    """The data and the tested model of a finished run.

    Args:
        run: Run folder of a training or an evaluation.
        cli: Its configuration.
        elsewhere: Whether the data may differ from those of its training.

    Raises:
        UserError: If its checkpoint was trained on other items or users or on what the scenario withholds, or the
            method cannot rank items of another data set.
    """
    result, trained_in = read_result(run), trained_run(run)
    module, model = cli.build()
    if (trained := scenario_of_training(run)) != module.scenario:
        module.keep_training(trained)
    # Of the run itself: a test of it on other data has no weights for these either.
    if _untrained(cli) and cli.plan.manifest.fingerprint != read_result(trained_in).data["fingerprint"]:
        model.attach(module.catalogue)
        if isinstance(model, NothingToTrain):
            model.complete(module)
        return module, model.eval()
    weights = trained_in / WEIGHTS
    content = load_checkpoint(weights, "Train the run again with --force.")
    if (elsewhere or ORIGIN in result.data) and not _same(content, module.manifest):
        module.trained_elsewhere = True
        model.transfer(content, module.catalogue)
    else:
        refuse_other_data(content, weights, module.manifest)
        model.attach(module.catalogue)
        model.restore(content)
    return module, model.eval()


def store_of(own: Result) -> str:
    """The option that names the store of a finished run: its configuration need not, and more stores may have come."""
    return f"--data.store={own.data['recipe']}-{own.data['fingerprint'][:12]}"


def _untrained(cli: RunCLI) -> bool:
    """Whether a model is computed from a catalogue's events, so that it is computed again for other data."""
    made_from_runs, model = set(cli.config.predecessors) - {STANDIN}, cli.config.model
    return cli.closed_form and not made_from_runs and not transferable(model.class_path, vars(model.init_args))


def _same(content: dict[str, Any], manifest: Manifest) -> bool:
    """Whether a checkpoint was trained on the store's items and users."""
    known: dict[str, str] = content.get(STAMP, {})
    return all(known.get(table) == manifest.hashes[f"{table}.parquet"] for table in ("items", "users"))


def refuse_other_data(content: dict[str, Any], path: Path, manifest: Manifest) -> None:
    """Raises a :class:`UserError` if a checkpoint was trained on items or users other than the store's."""
    stamp: dict[str, str] = content.get(STAMP, {})
    if not _same(content, manifest):
        raise UserError(
            f"{path} was trained on {stamp.get('dataset', 'unknown data')} ({str(stamp.get('fingerprint'))[:12]}), "
            f"whose items and users are not those of {manifest.dataset} ({manifest.fingerprint[:12]}).",
            f"Train on it: recbench run --config {manifest.dataset}/METHOD.",
        )
