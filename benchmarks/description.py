"""From a test's ranks to its result: metrics, protocol ids, and what the method has read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.callbacks import RunRecord
from benchmarks.configuration import Plan
from benchmarks.environment import environment
from benchmarks.results import METRIC_VERSION, rank_table, slice_metrics
from benchmarks.runs import HIDDEN, TIME_READERS, Result, compared, flat, hash_of
from benchmarks.standins import STANDIN
from common.data.datamodule import SequenceDataModule
from common.data.views import OVERALL, leakage_between
from common.errors import UserError
from common.models.base import Recommender


@dataclass(frozen=True)
class Origin:
    """A training under conditions that differ from those of the test.

    Attributes:
        scenario: Name of the combination in the test's protocol.
        data: What it adds to the ``data`` of the result.
        mark: The mark shown beside the method's name.
    """

    scenario: str
    data: dict[str, str]
    mark: str


def describe(
    plan: Plan,
    data: SequenceDataModule,
    model: Recommender,
    record: RunRecord,
    origin: Origin | None = None,
) -> Result:
    """The result of a test, without the fields that only training can fill.

    Args:
        plan: The run.
        data: Its data.
        model: The tested model.
        record: Ranks of the test, what else is known of its cases, and the metric that chose the checkpoint.
        origin: The training, if its conditions differed from those of the test.
    """
    record.slices = {p: data.slices(table) | model.slices(table) for p, table in record.ranks.items()}
    metrics, cases = slice_metrics(rank_table(record.ranks, values=record.values), record.slices)
    settings = plan.config["data"]["init_args"]
    selection = f"{settings['val_protocol']} {record.monitor.removeprefix('val/')}"
    return Result(
        run_id=plan.run_id,
        config_id=plan.config_id,
        method=plan.method,
        dataset=plan.manifest.dataset,
        seed=int(plan.config["seed_everything"]),
        protocols={p: protocol_of(p, data, model, selection, cases, origin) for p in record.ranks},
        information_set=sorted(information_set(model, settings) | plan.inherited),
        metrics=metrics | record.top_metrics,
        cases=cases,
        data={
            "fingerprint": plan.manifest.fingerprint,
            "recipe": plan.manifest.recipe,
            "split": settings["split"],
            "time": plan.manifest.time,
            "leakage": leakage_of(data),
            "post_hoc_graph": data.post_hoc_graph,
        }
        | ({} if origin is None else origin.data),
        # A method that builds on trained runs is not a floor.
        closed_form=model.closed_form and not set(plan.config["predecessors"]) - {STANDIN},
        environment=environment(),
        predecessors=plan.predecessors,
        lineage=plan.lineage,
        tuning=plan.config.get("tuning") or {},
        language_model=model.language_model,
        text_encoder=model.text_encoder or encoder_of(model, settings),
        marks=[*model.table_marks(), *([] if origin is None else [origin.mark])],
        settings=flat(compared(plan.config)),
    )


def protocol_of(
    protocol: str,
    data: SequenceDataModule,
    model: Recommender,
    selection: str,
    cases: Mapping[str, int],
    origin: Origin | None,
) -> dict[str, Any]:
    """``id`` and ``fields`` of a protocol: all in which two results must agree to be compared.

    Args:
        protocol: Its name.
        data: The data.
        model: The tested model.
        selection: Protocol and metric that chose the checkpoint.
        cases: Numbers of cases, by protocol and slice.
        origin: The training, if its conditions differed from those of the test.
    """
    fields = {
        **data.protocol_fields(protocol),
        **({} if origin is None else {"scenario": origin.scenario}),
        "selection": selection,
        "scorer": "score",
        "prompt_order": "none",
        **model.protocol_overrides(),
        "metric_version": METRIC_VERSION,
        "cases": cases[f"test/{protocol}/overall"],
    }
    return {"id": hash_of(fields), "fields": fields}


def leakage_of(data: SequenceDataModule) -> float | None:
    """Share of test cases for which the training data hold later events (PROTOCOL P1), if times were recorded.

    It is that of the cases that are tested, under a scenario or of drawn users, and of the users that were trained on;
    of a training on another data set nothing is known.
    """
    known: float | None = data.manifest.splits.get(data.split, {}).get("leakage")
    if known is None or data.trained_elsewhere:
        return None
    cases = data.drawn_cases("test")
    whole = cases is None and data.scenario == data.trained_scenario == OVERALL
    return known if whole else leakage_between(data.training, data.view, cases)


def encoder_of(model: Recommender, settings: dict[str, Any]) -> str | None:
    """The encoder behind the item vectors that a model reads as text; for a control, what replaces it."""
    encoder: str | None = settings.get("text_encoder")
    if encoder is None or "text" not in model.information_set:
        return None
    control = settings.get("vectors", "text")
    return encoder if control == "text" else f"{control} in place of {encoder}"


def information_set(model: Recommender, settings: dict[str, Any]) -> set[str]:
    """Everything that a row has read, including what it learns through its data."""
    known = set(model.information_set)
    if "order" in known:
        known.add("history")
    if settings["split"] == "leave_one_out" and known & {"history", "event_times"}:
        known.add("val_item")
    if settings["negatives"] == "complete" and not model.closed_form:
        known.add(HIDDEN)
    return known


def reads_unrecorded_time(model: Recommender, data: SequenceDataModule) -> bool:
    """Whether the model or the split reads times that were not recorded.

    Raises:
        UserError: If the model does and the user has not allowed it.
    """
    if data.manifest.time == "real":
        return False
    reads = TIME_READERS & model.information_set
    # A split that cuts by such times the data have refused by themselves.
    if reads and not data.allow_imputed_time:
        raise UserError(
            f"{type(model).__name__} reads {' and '.join(sorted(reads))}, but the times of {data.manifest.dataset} are "
            f"{data.manifest.time}.",
            "Choose another data set, or give --data.allow_imputed_time true, which marks the row.",
        )
    return bool(reads) or data.split == "global_temporal"


def parameter_counts(model: Recommender) -> dict[str, int]:
    """Numbers of trained and frozen parameters, including those held outside the module tree."""
    counts = {"trained": 0, "frozen": model.frozen_parameters()}
    for parameter in model.parameters():
        counts["trained" if parameter.requires_grad else "frozen"] += parameter.numel()
    return counts
