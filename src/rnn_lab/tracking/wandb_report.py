"""The plots, the examples of highest loss and the best checkpoint of a run, for W&B."""

from pathlib import Path
from typing import Any

import numpy as np
import wandb

from rnn_lab.reports.evaluation_curves import class_curves
from rnn_lab.runs.gradient_flow import by_place, read_gradient_flow
from rnn_lab.runs.predictions import HighLossExample, read_predictions, read_top_losses
from rnn_lab.runs.result_json import read_result
from rnn_lab.tracking.loggers import add_checkpoint

POINTS = 500  # of a curve: as many as a screen shows


def report_to_wandb(run: Any, folder: Path, checkpoint: Path | None) -> None:
    """Log to the open W&B `run` what the output folder holds, its test metrics above all.

    `checkpoint` is of the best epoch.
    """
    result = read_result(folder)
    run.summary.update({key: value for key, value in result.items() if "/" in key})
    run.summary["best_epoch"] = result["best_epoch"]
    for baseline, scores in result.get("baseline", {}).items():
        run.summary.update({f"baseline/{baseline}/{key}": score for key, score in scores.items()})

    charts: dict[str, Any] = {}
    if (folder / "predictions.csv").exists():
        charts |= _test_charts(folder)
    if per_class := result.get("per_class"):
        columns = ["class", *next(iter(per_class.values()))]
        rows = [[name, *metrics.values()] for name, metrics in per_class.items()]
        charts["test/per_class"] = wandb.Table(columns=columns, data=rows)
    floor = np.finfo(np.float64).tiny
    for (layer, direction), flows in by_place(read_gradient_flow(folder)).items():
        charts[f"gradient_flow/layer{layer}_{direction}"] = wandb.plot.line_series(
            xs=[flow.distances.tolist() for flow in flows],
            # W&B's line charts have no logarithmic scale.
            ys=[np.log10(np.maximum(flow.norms, floor)).tolist() for flow in flows],
            keys=[f"step {flow.step}" for flow in flows],
            title="log10 of the norm of dL/dh by distance from the end",
            xname="distance",
        )
    for plot in sorted((folder / "plots").glob("*.png")):
        charts[f"plots/{plot.stem}"] = wandb.Image(str(plot))
    run.log(charts)

    if checkpoint is None:
        return
    artifact = wandb.Artifact(f"model-{run.id}", type="model", metadata={"run": result["run_name"]})
    add_checkpoint(artifact, checkpoint)
    run.log_artifact(artifact, aliases=["best"])


def _test_charts(folder: Path) -> dict[str, Any]:
    predictions = read_predictions(folder)
    charts: dict[str, Any] = {}
    if not predictions.is_multilabel:  # a text of several classes has no one cell
        charts["test/confusion_matrix"] = wandb.plot.confusion_matrix(
            y_true=predictions.labels.tolist(),
            preds=predictions.predicted.tolist(),
            class_names=list(predictions.class_names),
        )
    curves = [curve.thinned(POINTS) for curve in class_curves(predictions)]
    if curves:
        roc = [(c.name, c.false_positive_rate, c.true_positive_rate) for c in curves]
        charts["test/roc"] = _curves(roc, "false positive rate", "true positive rate")
        precision_recall = [(c.name, c.recall, c.precision) for c in curves]
        charts["test/precision_recall"] = _curves(precision_recall, "recall", "precision")
    charts["test/top_losses"] = wandb.Table(
        columns=["text", *HighLossExample._fields],
        data=[[one.text, *one.example] for one in read_top_losses(folder)],
    )
    return charts


def _curves(curves: list[tuple[str, Any, Any]], x: str, y: str) -> Any:
    rows = [
        [name, float(a), float(b)] for name, xs, ys in curves for a, b in zip(xs, ys, strict=True)
    ]
    # W&B's own preset; its roc_curve and pr_curve need scikit-learn.
    return wandb.plot_table(
        "wandb/area-under-curve/v0",
        wandb.Table(columns=["class", x, y], data=rows),
        {"x": x, "y": y, "class": "class"},
        {"title": f"{y} against {x}", "x-axis-title": x, "y-axis-title": y},
    )
