"""metrics.csv: what a run logged, by epoch and by step."""

from pathlib import Path

import numpy as np

from rnn_lab.runs.csv_table import CsvTable

LEARNING_RATE, GRAD_NORM = "lr", "grad_norm"  # by step


def read_metrics(run_folder: Path, *, being_written: bool = False) -> dict[str, np.ndarray]:
    """Return each column of metrics.csv as float64 [rows], NaN where a cell is empty.

    With `being_written`, a truncated last line is ignored.
    """
    table = CsvTable(run_folder / "metrics.csv", ("step",), being_written=being_written)
    return {name: table.numbers(name, empty="nan") for name in table.columns}


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
