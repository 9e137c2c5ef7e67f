"""The learning curves of a run, as its picture, its page and the page of its sweep show them."""

from pathlib import Path
from typing import Any

import numpy as np

from rnn_lab.models.metric_table import metric_mode
from rnn_lab.runs.metrics import best_validations, read_metrics


def read_learning_curves(
    run_folder: Path, monitor: str, mode: Any, *, being_written: bool = False
) -> dict[str, np.ndarray]:
    """Return each column of metrics.csv, of several validations in an epoch the best one.

    Args:
        run_folder: of a run.
        monitor: the metric that selects.
        mode: "min" or "max", as the run recorded it; anything else leaves it to the name.
        being_written: ignore a truncated last line.
    """
    metrics = read_metrics(run_folder, being_written=being_written)
    return best_validations(metrics, monitor, metric_mode(monitor, mode))
