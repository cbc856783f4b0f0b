"""From arguments and YAML files to a configuration, its run folder, and its objects."""

from __future__ import annotations

import importlib
import pkgutil
import re
from argparse import ArgumentError, ArgumentParser
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property, reduce
from itertools import pairwise
from operator import or_
from pathlib import Path
from typing import Any, get_args

from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI

import common.models
from benchmarks.arguments import LINKED, data_class, option_names, refuse_linked, with_config_files
from benchmarks.callbacks import LastingEarlyStopping
from benchmarks.experiments import TRAINER, parse_yaml, read_yaml
from benchmarks.messages import explain, own_mistake, refused, require_options
from benchmarks.runs import CHECKPOINT, HIDDEN, LABEL, TIME_READERS, config_id, flat, method_of, read_result, run_id
from benchmarks.secrets import without_secrets
from benchmarks.standins import STANDIN, find_standin
from common.classes import descendants
from common.data.datamodule import SequenceDataModule
from common.data.schema import Manifest
from common.data.stores import find_store
from common.errors import UserError, at_least, nearest
from common.models.base import Recommender
from common.text.encoders import open_encoder

PASSING = ("config", "runs", "force", "wandb", "tensorboard", "ckpt_path", "needs", "suite")
"""Settings of one call, which ``config.yaml`` leaves out; it leaves out loggers as well, since they may hold keys."""
VECTORS = "vectors_sha256"
"""Hash of the vector file that a run's data name: the file's name alone would not reveal a change of its content."""
PARSERS: dict[str, LightningArgumentParser] = {}
"""Parsers made so far, by the data class whose defaults they have."""
NO_MODEL = ("No model is given.", "Name one with --config DATASET/METHOD or --model CLASS.")
SEEDS = 2**32
"""Number of seeds that all libraries accept."""
NO_MEMORY = re.compile("can't allocate memory|not enough memory|out of memory", re.IGNORECASE)
"""What PyTorch says when a processor or an accelerator runs out of memory."""

METHODS = [module.name for module in pkgutil.iter_modules(common.models.__path__, "common.models.")]
OF_PAPERS: tuple[str, ...] = ("lrd.data", "lrd.module", "lrd.backbones.kda", "lrd.text_sasrec")
OF_PAPERS += ("allmrec.data", "allmrec.stage1", "allmrec.stage2", "allmrec.retrieval", "allmrec.controls")
BASELINES = ("morec", "ctrl", "recformer", "llm_only", "tallrec", "mlp_llm")
OF_PAPERS += tuple(f"allmrec.baselines.{name}" for name in BASELINES)
for _name in (*METHODS, *OF_PAPERS):
    importlib.import_module(_name)  # a class is known by its short name once its module is imported


def whole_numbers_first(parser: ArgumentParser) -> None:
    """Makes options that take an int or a float read ``50`` as an int and ``0.5`` as a float, as the Trainer means it.

    Python caches types: once any module has used ``Optional[Union[float, int]]``, ``Optional[Union[int, float]]``
    comes back in that order, and the parser would read ``50`` batches as 50.0, and ``1`` batch as 1.0, all of them.
    """
    for action in parser._actions:
        kinds = get_args(getattr(action, "_typehint", None))
        if int in kinds and float in kinds:
            action._typehint = reduce(or_, sorted(kinds, key=lambda kind: (kind is not int, kind is not float)))  # type: ignore[attr-defined]  # jsonargparse's own field


class RunCLI(LightningCLI):
    """A LightningCLI that parses immediately but builds objects only on demand: the parse decides their run folder.

    Args:
        arguments: Command-line arguments of ``recbench run``.

    Raises:
        UserError: If an option, a class or a value is not valid.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        arguments = with_config_files(arguments)
        self.data_class = data_class(arguments)
        super().__init__(
            Recommender,
            SequenceDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=None,
            seed_everything_default=0,
            auto_configure_optimizers=False,
            # Checkpoints must store the arguments that the class receives, not the links of this command line.
            load_from_checkpoint_support=False,
            parser_kwargs={
                "prog": "recbench run",
                "description": "Trains a model, tests its best checkpoint and writes the run folder.",
                "exit_on_error": False,
                "allow_abbrev": False,
                "default_config_files": [str(TRAINER)],
            },
            args=arguments,
            run=False,
        )

    def setup_parser(
        self, add_subcommands: bool, main_kwargs: dict[str, Any], subparser_kwargs: dict[str, Any]
    ) -> None:
        """Makes the parser, or takes that of an earlier run on such data: a suite plans hundreds of runs."""
        if self.data_class not in PARSERS:
            super().setup_parser(add_subcommands, main_kwargs, subparser_kwargs)
            PARSERS[self.data_class] = self.parser
        self.parser = PARSERS[self.data_class]

    def resolved(self) -> dict[str, Any]:
        """The whole configuration, defaults included, as plain values."""
        # Parsing has validated it.
        text = self.parser.dump(self.config, skip_unset=False, skip_link_targets=True, skip_validation=True)
        values: dict[str, Any] = parse_yaml(text)
        return values

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the run's own options, early stopping, and the links from data to model."""
        whole_numbers_first(parser)
        parser.add_argument("--name", type=str | None, default=None, help="label of the method (default: its class)")
        parser.add_argument("--runs", type=str, default="runs", help="folder of all runs")
        parser.add_argument("--force", action="store_true", help="repeat the run even if it is done")
        parser.add_argument("--wandb", action="store_true", help="log to Weights & Biases, project recbench")
        parser.add_argument("--suite", type=str | None, default=None, help="suite that the run belongs to: W&B's group")
        parser.add_argument("--tensorboard", action="store_true", help="log to TensorBoard, in the run folder")
        parser.add_argument(
            "--ckpt_path", type=str | None, default=None, help="checkpoint to resume from; `last` is the run's own"
        )
        parser.add_argument(
            "--predecessors",
            type=dict[str, str],
            default={},
            help="run folders that this run builds on, by method; their ids are part of the run's id",
        )
        parser.add_argument(
            "--needs",
            type=list[str],
            default=[],
            help="methods that this one builds on; their names stand for their run folders in the model's arguments",
        )
        parser.add_argument(
            "--tuning", type=dict[str, Any], default={}, help="what `recbench sweep` spent on this configuration"
        )
        about = "hash of the data's vector file, part of the run's id; computed at every start"
        parser.add_argument(f"--{VECTORS}", type=str | None, default=None, help=about)
        parser.add_lightning_class_args(LastingEarlyStopping, "early_stopping")
        # With any other class than the requested one, its defaults would be kept for arguments that both have.
        parser.set_defaults({"data": {"class_path": self.data_class}})
        parser.link_arguments("seed_everything", "data.init_args.seed")
        for name in LINKED:
            parser.link_arguments(f"data.{name}", f"model.init_args.{name}", apply_on="instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parses the arguments, and turns a parser error into one readable message."""
        assert isinstance(args, list)
        options = option_names(args)
        refuse_linked([option.removeprefix("--") for option in options])
        for option, value in pairwise(args):
            if option == "--config":
                require_options(parser, Path(value), content := read_yaml(Path(value)))
                refuse_linked(flat(content), f"{value}: ")
        try:
            self.config = parser.parse_args(args)
        except ArgumentError as error:
            nothing_named = not any(argument.startswith(("--config", "--model")) for argument in args)
            if nothing_named and "required" in str(error):
                raise UserError(*NO_MODEL) from error
            raise explain(parser, error, {"model": Recommender, "data": SequenceDataModule}) from error
        if self.config.model is None:
            raise UserError(*NO_MODEL)
        if not {"--model", "--model.class_path"}.isdisjoint(options) and "--name" not in options:
            # The name in a file belongs to the file's own class.
            self.config.name = None
        # The number 1 is one batch, 1.0 is all of them.
        if repr(self.config.trainer.limit_test_batches) not in ("None", "1.0"):
            cure = "Give --data.test_users, which draws the same users for every run."
            raise UserError("--trainer.limit_test_batches would leave out some test cases.", cure)
        if not (monitor := self.config.early_stopping.monitor).startswith("val/"):
            cure = "Name a metric of validation, such as val/ndcg@10: it chooses the checkpoint that is tested."
            raise UserError(f"--early_stopping.monitor is {monitor}.", cure)
        if self.config.trainer.limit_val_batches == 0 and not self.closed_form:
            cure = "Give 1 or more: validation chooses the checkpoint that is tested."
            raise UserError("--trainer.limit_val_batches 0 turns validation off.", cure)
        at_least(0, "early_stopping", patience=self.config.early_stopping.patience)
        seed = self.config.seed_everything
        if isinstance(seed, bool) or not 0 <= seed < SEEDS:
            raise UserError(f"--seed_everything is {seed}.", f"Give a number from 0 to {SEEDS - 1:,}.")

    def with_seed(self, seed: int, predecessors: Mapping[str, str]) -> RunCLI:
        """The same configuration with another seed and other predecessors beside those of files, not parsed again."""
        other = copy(self)
        other.__dict__.pop("plan", None)
        other.config = self.config.clone()
        other.config.seed_everything = other.config.data.init_args.seed = seed
        other.config.predecessors = {**self.config.predecessors, **predecessors}
        return other

    def instantiate_classes(self) -> None:
        """Does nothing: :meth:`build` makes the objects."""

    def build(self) -> tuple[SequenceDataModule, Recommender]:
        """Makes the data module and the model, which receives the sizes that the data know.

        Raises:
            UserError: If a run that the model builds on is not given, another one is, or an argument is wrong.
        """
        self._require_predecessors()
        config = self.config.clone()
        arguments, folders = config.model.init_args, self.plan.predecessor_folders
        for name, value in list(arguments.items()):
            if isinstance(value, str):
                arguments[name] = folders.get(value, value)
        try:
            self.config_init = self.parser.instantiate(config)
        except ValueError as error:
            raise (
                own_mistake(error) or self._unknown_size(error) or self._too_large(error) or self._impossible(error)
            ) from error
        model: Recommender = self.config_init.model
        data: SequenceDataModule = self.config_init.data
        return data, model

    def _require_predecessors(self) -> None:
        if self.missing:
            given = " ".join(f"--predecessors.{method} RUN" for method in self.missing)
            raise UserError(
                f"{self.plan.method} builds on finished runs of {' and '.join(self.missing)}, which are not given.",
                f"Add {given}, or run a suite that contains them all (`recbench list suites`).",
            )

        known = {STANDIN, *self.config.needs, *map(str, self.config.model.init_args.values())}
        for role in self.config.predecessors:
            if role not in known:
                needs = self.config.needs
                cure = nearest(role, needs) if needs else f"Leave --predecessors.{role} out."
                raise UserError(f"{self.plan.method} does not build on {role!r}.", cure)

    def _unknown_size(self, error: ValueError) -> UserError | None:
        """The error to show if the model needs a size that the data do not know."""
        missing = next((name for name in LINKED if f"{name}=None" in str(error)), None)
        if missing is None:
            return None
        model, data = (part.class_path.rpartition(".")[2] for part in (self.config.model, self.config.data))
        return UserError(f"{model} needs {missing}, which {data} does not know.", "Give --data RelationalDataModule.")

    def _too_large(self, error: ValueError) -> UserError | None:
        """The error to show if there is no memory for the model; the parser passes on only the text of the error."""
        if not NO_MEMORY.search(str(error)):
            return None
        name = self.config.model.class_path.rpartition(".")[2]
        cure = "Make it smaller, or use a machine with more memory."
        return UserError(f"There is not enough memory for {name} of the size that its arguments give it.", cure)

    def _impossible(self, error: ValueError) -> UserError:
        """The error to show if an argument is wrong: arithmetic names no argument, but zeros are what it fails on."""
        told = refused(error)
        if "division by zero" not in told.what and "modulo by zero" not in told.what:
            return told
        values = self.config.model.init_args.as_dict().items()
        zeros = [f"--model.{name}" for name, value in values if type(value) is int and not value]
        name = self.config.model.class_path.rpartition(".")[2]
        given = f" with {' and '.join(zeros)} 0" if zeros else ""
        return UserError(f"{name} cannot be made{given}: {told.what}", f"Give another number. {told.cure}")

    @property
    def missing(self) -> list[str]:
        """The methods that it builds on of which no run is given."""
        return [method for method in self.config.needs if method not in self.config.predecessors]

    @property
    def closed_form(self) -> bool:
        """Whether the model needs no training."""
        return closed_form(self.config.model.class_path)

    @cached_property
    def plan(self) -> Plan:
        """Where the run goes and what it is called, known before any object is made."""
        return Plan.of(self)


@dataclass(frozen=True)
class Plan:
    """Everything that is known about a run before it starts.

    Attributes:
        config: The resolved configuration, as written to ``config.yaml``.
        manifest: Manifest of its store.
        method: Label of the method.
        run_id: Id of the run.
        predecessors: Run ids by method, and the id of a stand-in language model.
        predecessor_folders: The folders of the predecessors, for which their names stand in the model's arguments.
        folder: The run folder.
    """

    config: dict[str, Any]
    manifest: Manifest
    method: str
    run_id: str
    predecessors: dict[str, str]
    predecessor_folders: dict[str, str]
    folder: Path

    @classmethod
    def of(cls, cli: RunCLI) -> Plan:
        """The plan of the run that ``cli`` has parsed.

        Raises:
            UserError: If its store or vector file is missing, or its label is not a valid folder name.
        """
        config = cli.resolved()
        for name in PASSING:
            config.pop(name, None)
        config["trainer"].pop("logger", None)
        config = with_vectors(without_secrets(config))
        data = config["data"]["init_args"]
        root, dataset = Path(data["root"]), data["dataset"]
        store = find_store(root, dataset, data["recipe"], data["store"])
        method = method_of(config)
        if not LABEL.fullmatch(method):
            raise UserError(
                f"--name {method!r} is not a valid folder name.", "Use letters, digits, '-', '_', '+' and '.'."
            )
        folders = dict(config["predecessors"])
        # An evaluation on other data already names the stand-in that the training used.
        if STANDIN in config["model"].get("init_args", {}).values() and STANDIN not in folders:
            folders[STANDIN] = str(find_standin(store))
        predecessors = {role: Path(folder).name for role, folder in folders.items()}
        name = run_id(config, store.manifest.fingerprint, predecessors)
        return cls(
            config=config,
            manifest=store.manifest,
            method=method,
            run_id=name,
            predecessors=predecessors,
            predecessor_folders=folders,
            folder=Path(cli.config.runs) / data["dataset"] / method / name,
        )

    @cached_property
    def lineage(self) -> dict[str, str]:
        """The configuration ids of the predecessors, which must be done; a stand-in language model only has an id.

        Raises:
            UserError: If a predecessor is not done.
        """
        return {
            role: self.predecessors[role] if role == STANDIN else read_result(Path(folder)).config_id
            for role, folder in self.predecessor_folders.items()
        }

    @cached_property
    def inherited(self) -> frozenset[str]:
        """What predecessors may not have seen: held-out items, as negatives, where one of them was trained so."""
        folders = [folder for role, folder in self.predecessor_folders.items() if role != STANDIN]
        known = {name for folder in folders for name in read_result(Path(folder)).information_set}
        return frozenset(known & {HIDDEN})

    @property
    def config_id(self) -> str:
        """Id shared by all runs of the same configuration; a test of a finished run has that of the run."""
        return self.lineage.get(CHECKPOINT) or config_id(self.config, self.manifest.fingerprint, self.lineage)


def models_named(class_path: str) -> list[type[Recommender]]:
    """The models whose class has this path or short name."""
    name = class_path.rpartition(".")[2]
    return [kind for kind in descendants(Recommender) if kind.__name__ == name]  # type: ignore[type-abstract]  # only its subclasses are built


def closed_form(class_path: str) -> bool:
    """Whether a model of this class, given by path or short name, needs no training."""
    return any(kind.closed_form for kind in models_named(class_path))


def reads_times(class_path: str) -> bool:
    """Whether a model of this class, given by path or short name, reads times of events or queries."""
    return any(TIME_READERS & kind.information_set for kind in models_named(class_path))


def with_vectors(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with the hash of the vector file that its data name, if they name one.

    Raises:
        UserError: If the file does not exist.
    """
    encoder = str(config["data"]["init_args"].get("text_encoder"))
    content = {VECTORS: open_encoder(encoder).identity["sha256"]} if encoder.startswith("file:") else {}
    return {key: value for key, value in config.items() if key != VECTORS} | content
