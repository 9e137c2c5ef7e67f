"""metrics.csv: what a run logged, by epoch and by step."""

from pathlib import Path
from typing import Literal

import numpy as np

from rnn_lab.runs.csv_table import CsvTable

LEARNING_RATE, GRAD_NORM = "lr", "grad_norm"  # by step


def read_metrics(run_folder: Path, *, being_written: bool = False) -> dict[str, np.ndarray]:
    """Return each column of metrics.csv as float64 [rows], NaN where a cell is empty.

    With `being_written`, a truncated last line is ignored.
    """
    table = CsvTable(run_folder / "metrics.csv", ("step",), being_written=being_written)
    return {name: table.numbers(name, empty="nan") for name in table.columns}


def best_validations(
    metrics: dict[str, np.ndarray], monitor: str | None, mode: Literal["min", "max"]
) -> dict[str, np.ndarray]:
    """Return the metrics with one validation of each epoch, where there are several.

    It is the one that would be best.ckpt of that epoch alone: with the best `monitor`, of equal
    ones with the lowest val/loss. Where `monitor` was not logged, it is the last one.
    """
    names = [name for name in metrics if name.startswith("val/")]
    if not names or "epoch" not in metrics:
        return metrics
    logged = np.any([~np.isnan(metrics[name]) for name in names], axis=0)
    dropped = np.zeros(len(metrics["epoch"]), dtype=np.bool_)
    for epoch in np.unique(metrics["epoch"][logged]):
        rows = np.flatnonzero(logged & (metrics["epoch"] == epoch))
        kept = rows[-1]
        if monitor in metrics:
            costs = [
                np.nan_to_num(sign * metrics[name][rows], nan=np.inf)
                for name, sign in ((monitor, 1 if mode == "min" else -1), ("val/loss", 1))
                if name in metrics
            ]
            kept = rows[np.lexsort(costs[::-1])[0]]
        dropped[rows[rows != kept]] = True
    of_validation = {name: np.where(dropped, np.nan, metrics[name]) for name in names}
    return metrics | of_validation


def by_epoch(metrics: dict[str, np.ndarray], column: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the epochs that logged `column` and its mean in each, both empty if none did."""
    if column not in metrics or "epoch" not in metrics:
        return np.empty(0), np.empty(0)
    logged = ~np.isnan(metrics[column]) & ~np.isnan(metrics["epoch"])
    epochs, position = np.unique(metrics["epoch"][logged], return_inverse=True)
    return epochs, np.bincount(position, metrics[column][logged]) / np.bincount(position)


def by_step(metrics: dict[str, np.ndarray], column: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the optimizer steps that logged `column` and its value at each."""
    logged = ~np.isnan(metrics[column])
    return metrics["step"][logged], metrics[column][logged]
