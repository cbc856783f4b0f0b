"""Search spaces in the W&B sweep schema (https://docs.wandb.ai/guides/sweeps/sweep-config-keys)."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from benchmarks.experiments import CONFIGS, EXPERIMENTS, as_yaml, find_experiment, read_yaml
from benchmarks.runs import LABEL
from common.errors import UserError, nearest

if TYPE_CHECKING:
    import optuna

SWEEPS = CONFIGS / "sweeps"
ARGS = "${args}"
KEYS = {"program", "command", "method", "metric", "parameters", "early_terminate", "name", "description", "run_cap"}
KEYS |= {"project", "entity"}
DISTRIBUTIONS = {
    "constant": ("value",),
    "categorical": ("values",),
    "int_uniform": ("min", "max"),
    "uniform": ("min", "max"),
    "q_uniform": ("min", "max", "q"),
    "log_uniform": ("min", "max"),
    "q_log_uniform": ("min", "max", "q"),
    "log_uniform_values": ("min", "max"),
    "q_log_uniform_values": ("min", "max", "q"),
}
"""Supported distributions and their keys; ``q`` is optional, and ``log_uniform`` takes exponents of e."""
LARGEST_EXPONENT = 700
"""Above, a power of e is infinite."""
HYPERBAND = {"min_iter": 1, "eta": 3}
"""Keys of early termination besides its type, and their defaults."""
Method = Literal["grid", "random", "bayes"]
Goal = Literal["maximize", "minimize"]
NOT_SEARCHED = (
    "seed_everything", "name",
    "data.dataset", "data.recipe", "data.store", "data.split", "data.scenario", "data.val_",
)  # fmt: skip
"""Options, or their beginnings, that say what is compared or how."""


@dataclass(frozen=True)
class Parameter:
    """One dimension of a search.

    Attributes:
        name: Option of ``recbench run``, without dashes.
        kind: Its distribution.
        keys: Arguments of the distribution.
    """

    name: str
    kind: str
    keys: dict[str, Any]

    @classmethod
    def of(cls, name: str, keys: Mapping[str, Any], place: str) -> Parameter:
        """The parameter that the schema describes by ``keys``; if it names no distribution, the keys imply one."""
        if not isinstance(keys, dict):
            raise UserError(
                f"{place}: {name} is not a mapping.", "Give value, values, or distribution with min and max."
            )
        given = {key: value for key, value in keys.items() if key != "distribution"}
        kind = keys.get("distribution") or _implied(given)
        if not isinstance(kind, str) or kind not in DISTRIBUTIONS:
            raise UserError(f"{place}: {name} has no distribution {kind!r}.", nearest(str(kind), DISTRIBUTIONS))
        missing = [key for key in DISTRIBUTIONS[kind] if key not in given and key != "q"]
        if missing:
            raise UserError(f"{place}: {name} lacks {' and '.join(missing)}.", f"{kind} takes {DISTRIBUTIONS[kind]}.")
        for key in given:
            if key not in DISTRIBUTIONS[kind]:
                raise UserError(f"{place}: {name} ({kind}) has no {key!r}.", nearest(key, DISTRIBUTIONS[kind]))
        _require_range(given, f"{place}: {name}")
        if kind.endswith("log_uniform_values") and given["min"] <= 0:
            raise UserError(f"{place}: {name} has min {given['min']} on a logarithmic scale.", "Give one above 0.")
        if kind.endswith("log_uniform") and given["max"] > LARGEST_EXPONENT:
            what = f"{place}: {name} goes up to e to the power of {given['max']}, since {kind} takes exponents."
            raise UserError(what, f"Write {kind}_values for the values themselves.")
        return cls(name, kind, given)

    @property
    def fixed(self) -> bool:
        """Whether it has a single value."""
        return self.kind == "constant"

    @property
    def first(self) -> Any:  # noqa: ANN401
        """The value of a first trial."""
        return self.samples[0]

    @property
    def samples(self) -> list[Any]:
        """Values to check the space with: all choices, or the least value of a range."""
        if self.kind == "categorical":
            return list(self.keys["values"])
        if self.fixed or self.kind == "int_uniform":
            return [self.keys["value" if self.fixed else "min"]]
        return [self._bounds[0]]

    @property
    def _bounds(self) -> tuple[float, float]:
        """Smallest and largest value of a range."""
        least, greatest = float(self.keys["min"]), float(self.keys["max"])
        exponents = self.kind in ("log_uniform", "q_log_uniform")
        return (math.exp(least), math.exp(greatest)) if exponents else (least, greatest)

    @property
    def choices(self) -> list[Any]:
        """What Optuna chooses from: the values or, if one is a list, their texts, because its journal takes scalars."""
        values: list[Any] = self.keys["values"]
        if all(value is None or isinstance(value, (bool, int, float, str)) for value in values):
            return values
        return [as_yaml(value) for value in values]

    def suggest(self, trial: optuna.Trial) -> Any:  # noqa: ANN401
        """A value chosen by Optuna."""
        keys = self.keys
        if self.kind == "constant":
            return keys["value"]
        if self.kind == "categorical":
            chosen = trial.suggest_categorical(self.name, self.choices)
            return keys["values"][self.choices.index(chosen)]
        if self.kind == "int_uniform":
            return trial.suggest_int(self.name, keys["min"], keys["max"])
        low, high = self._bounds
        value = trial.suggest_float(self.name, low, high, log="log" in self.kind)
        step = keys.get("q", 1.0) if self.kind.startswith("q_") else None
        return value if step is None else min(max(round(value / step) * step, low), high)


@dataclass(frozen=True)
class Space:
    """A search space.

    Attributes:
        name: Name of the study.
        method: ``grid``, ``random`` or ``bayes``.
        metric: Validation metric to optimise.
        goal: ``maximize`` or ``minimize``.
        arguments: Arguments of ``recbench run`` before those of the parameters.
        parameters: The parameters to search.
        hyperband: ``min_iter`` and ``eta`` of early termination, or ``None``.
        source: The file's content.
    """

    name: str
    method: Method
    metric: str
    goal: Goal
    arguments: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    hyperband: dict[str, int] | None
    source: dict[str, Any] = field(default_factory=dict)

    @property
    def experiment(self) -> str:
        """The experiment to tune."""
        return next(argument for argument in self.arguments if argument.startswith("--config=")).partition("=")[2]

    def of(self, experiment: str) -> Space:
        """The same space for another experiment."""
        old, new = f"--config={self.experiment}", f"--config={experiment}"
        command = [new if part == old else part for part in self.source["command"]]
        arguments = tuple(new if part == old else part for part in self.arguments)
        name = experiment.replace("/", "-")
        return replace(self, name=name, arguments=arguments, source=self.source | {"command": command, "name": name})

    def without(self, names: Collection[str]) -> Space:
        """The same space without some of its parameters."""
        kept = tuple(parameter for parameter in self.parameters if parameter.name not in names)
        written = {name: keys for name, keys in self.source["parameters"].items() if name not in names}
        return replace(self, parameters=kept, source=self.source | {"parameters": written})

    def grid(self) -> dict[str, list[Any]]:
        """All choices of each parameter that is not constant.

        Raises:
            UserError: If one has a range instead of choices.
        """
        chosen = [parameter for parameter in self.parameters if not parameter.fixed]
        for parameter in chosen:
            if parameter.kind != "categorical":
                raise UserError(f"A grid cannot hold the range of {parameter.name}.", "Give values, or method: random.")
        return {parameter.name: parameter.choices for parameter in chosen}


def find_space(name: str) -> Space:
    """The search space in a file, or the shipped one of an experiment ``<data set>/<method>``.

    A variant of a method (``kda_lrd_free``) uses the space of the method (``kda_lrd``), except for parameters in which
    the two experiments differ (``weight_lrd``): these make it the variant.

    Raises:
        UserError: If there is none, or nothing is left of it.
    """
    if Path(name).is_file():
        return read_space(Path(name))
    path = find_experiment(name)
    method = path.stem
    owners = [owner for owner in shipped_spaces() if method == owner or method.startswith(f"{owner}_")]
    if not owners or not path.is_relative_to(EXPERIMENTS):
        raise UserError(f"There is no search space for {name!r}.", nearest(method, shipped_spaces()))
    owner = max(owners, key=len)
    space, usual = read_space(SWEEPS / f"{owner}.yaml"), path.with_stem(owner)
    differing = _differing(space, name, str(usual) if usual.is_file() else space.experiment)
    if len(differing) == len(space.parameters):
        raise UserError(
            f"Nothing is left to search for {name!r}: it differs from {owner} in {' and '.join(differing)}.",
            f"Search {owner}, or write a search space for {method}.",
        )
    return space.of(name).without(differing)


def _differing(space: Space, experiment: str, other: str) -> list[str]:
    """The parameters of a space for which two experiments have different values."""
    from benchmarks.settings import setting_of

    names = [parameter.name for parameter in space.parameters]
    return [name for name in names if setting_of(experiment, name) != setting_of(other, name)]


def shipped_spaces() -> list[str]:
    """Methods that have a shipped search space."""
    return sorted(path.stem for path in SWEEPS.glob("*.yaml"))


def read_space(path: Path) -> Space:
    """Reads a search space.

    Raises:
        UserError: If the file is not a search space.
    """
    values = read_yaml(path)
    if not isinstance(values, dict) or not isinstance(values.get("parameters"), dict) or not values["parameters"]:
        raise UserError(f"{path} is not a search space.", "It needs command, method, metric and parameters.")
    for key in values:
        if key not in KEYS:
            raise UserError(f"{path}: a sweep has no {key!r}.", nearest(key, KEYS))
    method, metric = values.get("method"), values.get("metric")
    if not isinstance(metric, dict):
        raise UserError(f"{path} has no metric.", "Write: metric: {name: val/ndcg@10, goal: maximize}.")
    if method is None or "goal" not in metric:
        raise UserError(
            f"{path} does not set {'method' if method is None else 'metric.goal'}, whose default differs by backend.",
            "Write method: bayes (or grid, random), and in metric goal: maximize (or minimize).",
        )
    if method not in ("grid", "random", "bayes"):
        raise UserError(f"{path}: there is no method {method!r}.", nearest(str(method), ("grid", "random", "bayes")))
    name = str(metric.get("name", ""))
    if not name.startswith("val/"):
        raise UserError(f"{path} optimises {name!r}.", "Name a validation metric such as val/ndcg@10: never the test.")
    goal = metric["goal"]
    if goal not in ("maximize", "minimize"):
        raise UserError(f"{path}: there is no goal {goal!r}.", "Write maximize or minimize.")
    study = str(values.get("name", path.stem))
    if not LABEL.fullmatch(study):
        cure = "Use letters, digits, '-', '_', '+' and '.'."
        raise UserError(f"{path}: the name {study!r} is not a valid folder name.", cure)
    for option in values["parameters"]:
        if option.replace(".init_args", "").startswith(NOT_SEARCHED):
            cure = "Leave it out: trials with other values cannot be compared."
            raise UserError(f"{path} searches {option}.", cure)
    return Space(
        name=study,
        method=method,
        metric=name,
        goal=goal,
        arguments=_arguments(values.get("command"), path),
        parameters=tuple(Parameter.of(n, keys, str(path)) for n, keys in values["parameters"].items()),
        hyperband=_hyperband(values.get("early_terminate"), path),
        source=values,
    )


def _implied(keys: Mapping[str, Any]) -> str:
    if "value" in keys or "values" in keys:
        return "constant" if "value" in keys else "categorical"
    return "int_uniform" if all(isinstance(keys.get(key), int) for key in ("min", "max")) else "uniform"


def _arguments(command: object, path: Path) -> tuple[str, ...]:
    parts = [str(part) for part in command] if isinstance(command, list) else []
    if "run" not in parts or parts[-1:] != [ARGS] or not any(part.startswith("--config=") for part in parts):
        raise UserError(
            f"{path}: its command does not run an experiment.",
            f"Write: command: [recbench, run, --config=DATASET/METHOD, --wandb, '{ARGS}'].",
        )
    return tuple(part for part in parts[parts.index("run") + 1 : -1] if part != "--wandb")


def _hyperband(values: object, path: Path) -> dict[str, int] | None:
    if values is None:
        return None
    if not isinstance(values, dict) or values.get("type") != "hyperband":
        raise UserError(f"{path}: early_terminate must be of type hyperband.", "Leave it out to stop no trial early.")
    given = {key: value for key, value in values.items() if key != "type"}
    for key, value in given.items():
        if key not in HYPERBAND:
            raise UserError(f"{path}: early_terminate has no {key!r} here.", nearest(key, HYPERBAND))
        if type(value) is not int or value < (2 if key == "eta" else 1):
            raise UserError(
                f"{path}: early_terminate.{key} is {value!r}.", "Give a whole number such as min_iter 1 or eta 3."
            )
    return HYPERBAND | given


def _require_range(keys: Mapping[str, Any], place: str) -> None:
    """Checks that bounds and step are numbers in the right order, and values a list.

    Raises:
        UserError: If they are not.
    """
    for key in ("min", "max", "q"):
        if key in keys and (isinstance(keys[key], bool) or not isinstance(keys[key], (int, float))):
            raise UserError(f"{place}: {key} is {keys[key]!r}, not a number.", "Write 1.0e-4: YAML reads 1e-4 as text.")
    if keys.get("q", 1) <= 0:
        raise UserError(f"{place}: q is {keys['q']}.", "Give a step above 0.")
    if "min" in keys and keys["min"] > keys["max"]:
        raise UserError(f"{place}: min {keys['min']} is above max {keys['max']}.", "Swap them, or give a value.")
    if "values" in keys and not (isinstance(keys["values"], list) and keys["values"]):
        raise UserError(f"{place}: values is {keys['values']!r}, not a list.", "Write values: [A, B], or value: A.")
