"""The built-in metrics: of which tasks they are, their titles, and which values are better.

metrics.py and language_module.py compute them. Importing this module does not import torch.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from rnn_lab.validation import AUTO

MetricMode = Literal["min", "max"]  # as Lightning's callbacks have it

# One label a text, any number of them, and the objective that reads none.
MULTICLASS, MULTILABEL, LANGUAGE_MODEL = "multiclass", "multilabel", "language_model"


class Metric(NamedTuple):
    """A built-in metric."""

    name: str  # logged as val/<name> and test/<name>
    titles: Mapping[str, str]  # what tables call it, by each task that has it
    mode: MetricMode = "max"
    is_share: bool = False  # shown as a percentage
    selects_epoch: bool = True
    undefined: str = ""  # why it can be NaN

    @property
    def title(self) -> str:
        """Return its title where the task is unknown."""
        return next(iter(self.titles.values()))


# In the order of tables.
METRICS = (
    Metric(
        "accuracy",
        {MULTICLASS: "accuracy", MULTILABEL: "accuracy (exact match)"},
        is_share=True,
    ),
    Metric("f1", {MULTICLASS: "F1 (macro)", MULTILABEL: "F1 (macro)"}, is_share=True),
    Metric("f1_micro", {MULTILABEL: "F1 (micro)"}, is_share=True),
    Metric(
        "map",
        {MULTILABEL: "mean average precision"},
        is_share=True,
        undefined="no validated text has a label",
    ),
    Metric("auroc", {MULTICLASS: "AUROC"}, undefined="all validated texts have the same class"),
    Metric("loss", {MULTICLASS: "loss", MULTILABEL: "loss", LANGUAGE_MODEL: "loss"}, "min"),
    Metric("perplexity", {LANGUAGE_MODEL: "perplexity"}, "min"),
    Metric("calibration_error", {MULTICLASS: "calibration error"}, "min", selects_epoch=False),
)
METRIC_OF_NAME = {metric.name: metric for metric in METRICS}


def metrics_of(task: str) -> list[Metric]:
    """Return the metrics of a task, or of a language model."""
    return [metric for metric in METRICS if task in metric.titles]


def metric_mode(metric: str, chosen: object = AUTO) -> MetricMode:
    """Return whether a smaller or a larger `metric` is better.

    Args:
        metric: its name, such as val/loss.
        chosen: "min" or "max", where a run says which: `trainer.monitor_mode`, or `monitored_mode`
            in its files. Anything else leaves it to the name.
    """
    if chosen in ("min", "max"):
        return "min" if chosen == "min" else "max"
    name = metric.rpartition("/")[2]
    if name in METRIC_OF_NAME:
        return METRIC_OF_NAME[name].mode
    return "min" if name.endswith(("loss", "error", "perplexity")) else "max"
