"""``recbench wandb dashboard``: a saved workspace that shows a sweep or a suite from its first run."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Literal

from benchmarks.cli import write
from benchmarks.leaderboard.rows import PRIMARY
from benchmarks.loggers.account import wandb_state
from benchmarks.loggers.tracking import PROJECT
from common.errors import UserError

if TYPE_CHECKING:
    from wandb_workspaces.workspaces import Workspace

NAME = "recbench"


def wandb(action: Literal["dashboard"], *, entity: str | None = None, project: str = PROJECT) -> None:
    """Creates the dashboard of a W&B project.

    Args:
        action: What to do; only ``dashboard`` exists.
        entity: User or team that owns the project; your default entity when omitted.
        project: Name of the project.
    """
    if importlib.util.find_spec("wandb_workspaces") is None:
        raise UserError("wandb-workspaces is not installed.", "Install it with `pip install 'recbench[sweep]'`.")
    state = wandb_state()
    if not state.startswith("logged in"):
        raise UserError(f"A dashboard needs an account: {state}.", "Run `wandb login`, or set WANDB_API_KEY.")
    import wandb as client

    owner = entity or client.Api().default_entity
    if owner is None:
        raise UserError("Your W&B account has no default entity.", "Give --entity.")
    saved = workspace(owner, project)
    saved.save()
    write(saved.url)


def workspace(entity: str, project: str) -> Workspace:
    """The workspace: leaderboard, learning curves, quality against cost, and tuning, grouped by suite and method."""
    import wandb_workspaces.reports.v2.interface as panels
    import wandb_workspaces.workspaces as views

    def section(name: str, *members: object, is_open: bool = True) -> views.Section:
        return views.Section(name=name, panels=list(members), is_open=is_open)  # type: ignore[arg-type]  # panels are typed as object

    figures = {protocol: f"test/{protocol}/overall/{metric}" for protocol, metric in PRIMARY.items()}
    headline = figures["full"]
    return views.Workspace(
        entity=entity,
        project=project,
        name=NAME,
        sections=[
            section("Leaderboard", *(panels.BarPlot(title=f"{p}: {f}", metrics=[f]) for p, f in figures.items())),
            section(
                "Learning curves",
                panels.LinePlot(title="Validation nDCG@10", x="epoch", y=["val/ndcg@10"]),
                panels.LinePlot(title="Validation nDCG@5", x="epoch", y=["val/ndcg@5"]),
                panels.LinePlot(title="Parts of the loss", x="epoch", metric_regex="train/loss.*"),
            ),
            section(
                "Quality against cost",
                panels.ScatterPlot(title="Seconds of training", x="seconds/train", y=headline, log_x=True),
                panels.ScatterPlot(title="Trained parameters", x="parameters/trained", y=headline, log_x=True),
            ),
            section(
                "Tuning",
                panels.ParameterImportancePlot(with_respect_to="val/ndcg@10"),
                panels.RunComparer(diff_only=True),
                is_open=False,
            ),
        ],
        settings=views.WorkspaceSettings(x_axis="epoch", group_by_prefix="first"),
        runset_settings=views.RunsetSettings(groupby=[views.Metric("Group"), views.Metric("JobType")]),
    )
