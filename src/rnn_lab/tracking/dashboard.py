"""A W&B workspace and a W&B report of the runs of a project, as code.

The panels are those of `wandb_workspaces` (the extra `dashboard`). `check_keys` compares them with
what runs logged, so that no panel stays empty because of a mistyped key.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws

from rnn_lab.errors import ConfigError
from rnn_lab.models.metric_table import MULTICLASS, MULTILABEL, metrics_of
from rnn_lab.tracking.logged_runs import LoggedRun
from rnn_lab.tracking.wandb_environment import SWEEP_SUMMARY
from rnn_lab.validation import flatten, unknown_choice_message

METRICS = {
    task: (
        "loss",
        *(one.name for one in metrics_of(task) if one.selects_epoch and one.name != "loss"),
    )
    for task in (MULTICLASS, MULTILABEL)
}
_TRAIN_METRICS = ("loss", "accuracy")  # measured on the training split too
_IMPORTANCES = re.compile(r"importances/.*_table")
_FLOW = r"gradient_flow/.*/distance_\d+"
_COLUMNS = (
    *("model.name", "model.hidden_size", "model.num_layers", "model.dropout"),
    *("optimizer.lr", "optimizer.weight_decay", "data.batch_size"),
)


@dataclass(frozen=True)
class Contents:
    """What the runs of a project have to show.

    `metrics` are names without the split, `columns` the options that the sweep panels compare,
    `model` the key of the model's name in W&B's config.
    """

    metrics: Sequence[str] = METRICS[MULTICLASS]
    monitor: str = "val/accuracy"
    columns: Sequence[str] = _COLUMNS
    model: str = "model.name"
    has_confusion_matrix: bool = True
    has_test: bool = True
    has_plots: bool = True
    has_steps: bool = True  # not in a run of fewer steps than trainer.log_every_n_steps
    has_gradient_flow: bool = True
    has_summary: bool = True
    importances: Sequence[str] = ()  # tables of a search: the share of each option in a metric


class Section(NamedTuple):
    """Panels under one heading."""

    title: str
    text: str
    panels: list[Any]


class Dashboard(NamedTuple):
    """A workspace and a report with the same panels, of one W&B project."""

    workspace: Any
    report: Any

    def specifications(self) -> dict[str, dict[str, Any]]:
        """Return what W&B stores of the workspace and of the report."""
        view, report = self.workspace._to_model(), self.report._to_model()
        return {
            name: {
                "entity": self.workspace.entity,
                "project": self.workspace.project,
                "title": model.display_name,
                "spec": model.spec.model_dump(mode="json", by_alias=True, exclude_none=True),
            }
            for name, model in (("workspace", view), ("report", report))
        }


def contents_of(runs: Sequence[LoggedRun]) -> Contents:
    """Return what dashboards of such runs show, by their options and their task.

    Raises:
        ConfigError: there is no run of a training.
    """
    configs = [run.config for run in runs if run.job_type != SWEEP_SUMMARY]
    if not configs:
        raise ConfigError(f"{runs[0].path}: the summary of a sweep; its folder has the runs")
    options = [_options(config) for config in configs]
    of_multilabel = {f"val/{name}" for name in METRICS[MULTILABEL]}
    is_multilabel = any(of_multilabel <= run.keys for run in runs)
    tables = {key for run in runs for key in run.keys if _IMPORTANCES.fullmatch(key)}
    monitors = {str(found.get("trainer.monitor", "auto")) for found in options} - {"auto"}
    # A W&B sweep that varies `model` has its choice in place of the group.
    is_choice = any(isinstance(config.get("model"), str) for config in configs)
    return Contents(
        metrics=METRICS[MULTILABEL if is_multilabel else MULTICLASS],
        monitor=min(monitors, default=Contents.monitor),
        columns=_columns(configs, {name for found in options for name in found}),
        model="model" if is_choice else "model.name",
        has_confusion_matrix=not is_multilabel,
        has_test=any(found.get("test", True) for found in options),
        has_plots=any(found.get("plots", True) for found in options),
        has_steps=any("lr" in run.keys for run in runs),
        has_gradient_flow=any(found.get("trainer.gradient_flow") for found in options),
        has_summary=any(run.job_type == SWEEP_SUMMARY for run in runs),
        importances=sorted(tables),
    )


def _columns(configs: Sequence[Mapping[str, Any]], known: set[str]) -> list[str]:
    """Return the options that the sweep of these runs varies; without a sweep, the usual ones."""
    searched = (config.get("search") for config in configs)
    swept = {name for names in searched if isinstance(names, Mapping) for name in names}
    # The parameters of a W&B sweep.
    swept |= {name for config in configs for name in config if "." in name and name[0] != "_"}
    swept |= {"model" for config in configs if isinstance(config.get("model"), str)}
    # Of a group, such as model, W&B has the options.
    names = (f"{name}{suffix}" for name in sorted(swept) for suffix in ("", ".name", ".source"))
    return [name for name in names if name in known] or [n for n in _COLUMNS if n in known]


def _options(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that a panel can name, flat: `a.b` is the option b of the group a."""
    return flatten({k: v for k, v in config.items() if "." not in k and not k.startswith("_")})


def build_dashboard(entity: str, project: str, title: str, shown: Contents) -> Dashboard:
    """Return the dashboard of a project; nothing is sent to W&B."""
    workspace = ws.Workspace(
        entity=entity,
        project=project,
        name=title,
        sections=[
            ws.Section(name=section.title, panels=section.panels, is_open=True)
            for section in sections(shown)
        ],
    )
    blocks: list[Any] = [wr.TableOfContents()]
    for section in sections(shown):
        runset = wr.Runset(name="Runs")  # of the report's project
        runset._id = _id(section.title)
        grid = wr.PanelGrid(runsets=[runset], panels=section.panels)
        blocks += [wr.H2(section.title), wr.P(section.text), grid]
    report = wr.Report(
        entity=entity, project=project, title=title, blocks=blocks, width="fluid",
        description="Curves, sweeps, the test split and the mistakes of the runs of RNN Lab.",
    )  # fmt: skip
    return Dashboard(workspace, report)


def sections(shown: Contents) -> list[Section]:
    """Return the sections of a dashboard; each call builds new panels."""
    found = [_curves(shown), _optimization(shown), _sweep(shown)]
    if shown.has_test:
        found += [_test(shown), _mistakes()]
    if shown.has_gradient_flow:
        found.append(_gradient_flow(shown))
    for section in found:
        for number, panel in enumerate(section.panels):
            panel._id = _id(f"{section.title}/{number}")  # a second specification is equal
    return found


def _id(name: str) -> str:
    """Return an id like W&B's, always the same for a name."""
    return hashlib.sha256(name.encode()).hexdigest()[:12]


def _line(shown: Contents, key: str, x: str = "epoch", **options: Any) -> Any:
    """Return the curve of a metric by model: the mean of its runs, between the extremes."""
    return wr.LinePlot(
        title=f"{key} by model",
        x=x,
        y=[key],
        groupby=wr.Config(shown.model),
        groupby_aggfunc="mean",
        groupby_rangefunc="minmax",
        **options,
    )


def _bars(shown: Contents, key: str) -> Any:
    return wr.BarPlot(
        title=f"{key} by model",
        metrics=[key],
        groupby=wr.Config(shown.model),
        groupby_aggfunc="mean",
        groupby_rangefunc="minmax",
        orientation="h",
    )


def _chart(table: str, preset: str, columns: Mapping[str, str], **strings: str) -> Any:
    """Return the custom chart that W&B draws of a table that `wandb.plot` logged."""
    columns_of_runs = dict.fromkeys(("id", "name", "_defaultColorIndex"))
    return wr.CustomChart(
        query=columns_of_runs | {"summaryTable": {"tableKey": table}},
        chart_name=preset,
        chart_fields=dict(columns),
        chart_strings={name.replace("_", "-"): text for name, text in strings.items()},
    )


def _wide(panel: Any, height: int = 10) -> Any:
    """Return the panel with the full width of a report."""
    panel.layout = wr.Layout(w=24, h=height)
    return panel


def _curves(shown: Contents) -> Section:
    panels = []
    for name in shown.metrics:
        splits = ("train", "val") if name in _TRAIN_METRICS else ("val",)
        panels += [_line(shown, f"{split}/{name}") for split in splits]
    text = "Each curve is the mean over the runs of a model; the band is between their extremes."
    return Section("Learning curves", text, panels)


def _optimization(shown: Contents) -> Section:
    step = "trainer/global_step"
    panels = [
        _line(shown, "train/examples_per_second"),
        _bars(shown, "train/examples_per_second"),
    ]
    if shown.has_steps:
        panels += [_line(shown, "lr", step), _line(shown, "grad_norm", step, log_y=True)]
    text = "Training speed without validation, learning rate, and gradient norm before clipping."
    return Section("Throughput and optimization", text, panels)


def _sweep(shown: Contents) -> Section:
    columns = [wr.ParallelCoordinatesPlotColumn(metric=wr.Config(name)) for name in shown.columns]
    columns.append(wr.ParallelCoordinatesPlotColumn(metric=wr.SummaryMetric(shown.monitor)))
    panels = [
        _wide(wr.ParallelCoordinatesPlot(title=f"Options and {shown.monitor}", columns=columns)),
        _wide(wr.ParameterImportancePlot(with_respect_to=shown.monitor)),
    ]
    for table in shown.importances:
        metric = table.removeprefix("importances/").removesuffix("_table")
        fields = {"label": "option", "value": "importance"}
        title = f"Share of each option in {metric}"
        panels.append(_chart(table, "wandb/bar/v0", fields, title=title))
    if shown.has_summary:
        panels.append(_wide(wr.WeavePanelSummaryTable(table_name="sweep/runs")))
    text = f"How {shown.monitor} of the selected epoch depends on the options of a run."
    return Section("Sweeps", text, panels)


def _test(shown: Contents) -> Section:
    panels = [_bars(shown, f"test/{name}") for name in shown.metrics]
    if shown.has_confusion_matrix:
        panels.append(
            _chart(
                "test/confusion_matrix_table",
                "wandb/confusion_matrix/v1",
                {name: name for name in ("Actual", "Predicted", "nPredictions")},
                title="Confusion matrix",
            )
        )
    for table, x, y in (
        ("test/roc_table", "false positive rate", "true positive rate"),
        ("test/precision_recall_table", "recall", "precision"),
    ):
        strings = {"title": f"{y} against {x}", "x_axis_title": x, "y_axis_title": y}
        columns = {"x": x, "y": y, "class": "class"}
        panels.append(_chart(table, "wandb/area-under-curve/v0", columns, **strings))
    if shown.has_plots and shown.has_confusion_matrix:
        keys = ["plots/confusion_matrix", "plots/calibration"]
        panels.append(_wide(wr.MediaBrowser(title="Plots by run", media_keys=keys)))
    panels.append(_wide(wr.WeavePanelSummaryTable(table_name="test/per_class"), 8))
    return Section("Test split", "Read once, after the epoch has been selected.", panels)


def _mistakes() -> Section:
    table = _wide(wr.WeavePanelSummaryTable(table_name="test/top_losses"), 16)
    return Section("Worst mistakes", "The test texts with the highest loss of each run.", [table])


def _gradient_flow(shown: Contents) -> Section:
    columns = {name: name for name in ("step", "lineKey", "lineVal")}
    panels = [
        wr.LinePlot(
            title="Gradient norm by distance from the end",
            x="trainer/global_step",
            metric_regex=_FLOW,
            log_y=True,
        ),
        _chart(
            "gradient_flow/layer0_forward_table",
            "wandb/lineseries/v0",
            columns,
            title="log10 of the norm of dL/dh by distance from the end",
            xname="distance",
        ),
    ]
    text = "How far back the gradient of the loss reaches; trainer.gradient_flow measures it."
    return Section("Gradient flow", text, panels)


class Key(NamedTuple):
    """What a panel needs of a run: a logged key, a pattern of keys, or an option of the config."""

    name: str
    kind: str = "logged"  # or "pattern", "option"


def panel_keys(panel: Any) -> Iterator[Key]:
    """Yield all that a panel reads from the runs."""
    match panel:
        case wr.LinePlot(x=x, y=y, metric_regex=pattern):
            yield from (Key(_name(metric)) for metric in (x, *y))
            if pattern:
                yield Key(pattern, "pattern")
        case wr.BarPlot(metrics=metrics):
            yield from (Key(_name(metric)) for metric in metrics)
        case wr.ParallelCoordinatesPlot(columns=columns):
            for column in columns:
                is_option = isinstance(column.metric, wr.Config)
                yield Key(_name(column.metric), "option" if is_option else "logged")
        case wr.ParameterImportancePlot(with_respect_to=metric):
            yield Key(metric)
        case wr.CustomChart(query=query):
            yield Key(query["summaryTable"]["tableKey"])
        case wr.WeavePanelSummaryTable(table_name=name):
            yield Key(name)
        case wr.MediaBrowser(media_keys=names):
            yield from map(Key, names)
        case _:
            raise TypeError(f"{type(panel).__name__}: add the keys of this panel")
    if (group := getattr(panel, "groupby", None)) is not None:
        yield Key(_name(group), "option")


def _name(metric: Any) -> str:
    return metric if isinstance(metric, str) else metric.name


def check_keys(dashboard: Dashboard, runs: Sequence[LoggedRun], where: str) -> int:
    """Return how many keys the panels have, all of which the runs logged.

    Raises:
        ConfigError: a key that no run logged, with its panel; `where` names the runs.
    """
    logged = set().union(*(run.keys for run in runs))
    options = {name for run in runs for name in _options(run.config)}
    checked = set()
    for section in dashboard.workspace.sections:
        for key in (key for panel in section.panels for key in panel_keys(panel)):
            name, known = key.name, options if key.kind == "option" else logged
            checked.add(key)
            if key.kind == "pattern":
                is_known = any(re.fullmatch(name, logged_name) for logged_name in known)
            else:
                is_known = name in known
            if not is_known:
                what = "has this option" if key.kind == "option" else "logged this key"
                problem = f"{name}: no run in {where} {what} (section {section.name!r})"
                raise ConfigError(unknown_choice_message(problem, name, _choices(name, known)))
    return len(checked)


def _choices(name: str, known: set[str]) -> list[str]:
    """Return the known names that are of the same kind as `name`, by what is before the slash."""
    group = re.split(r"[/.]", name)[0]
    alike = [other for other in known if re.split(r"[/.]", other)[0] == group]
    return alike or sorted({re.split(r"[/.]", other)[0] for other in known})
