"""Read the files of a run folder into checked dictionaries and NumPy arrays.

A file that is missing, empty, truncated or malformed raises a CheckpointError, one line that names
the file.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rnn_lab.errors import CheckpointError
from rnn_lab.io.atomic import read_text
from rnn_lab.io.schema import SCHEMA_KEY, check_schema
from rnn_lab.validation import flatten

CONFIG_DIR = ".hydra"  # of a run folder: the composed config and the overrides
_RESULT_KEYS = ("model", "data", "seed", "synthetic", "best_epoch")
_PREDICTION_COLUMNS = ("name", "label", "prediction", "length", "loss")
_PROBABILITY = "probability_"
_OPTION_GROUPS = ("model", "optimizer", "scheduler", "trainer")


@dataclass(frozen=True)
class Predictions:
    """The predictions of the test split, one entry per example in every array."""

    class_names: tuple[str, ...]
    names: list[str]  # where each example came from: file and line
    labels: np.ndarray  # int64 [examples], an index into class_names
    predicted: np.ndarray  # int64 [examples], an index into class_names
    lengths: np.ndarray  # int64 [examples], tokens
    losses: np.ndarray  # float64 [examples], cross-entropy in nats
    probabilities: np.ndarray  # float64 [examples, classes]

    @property
    def correct(self) -> np.ndarray:
        """Whether each prediction equals the label: bool [examples]."""
        return self.predicted == self.labels


@dataclass(frozen=True)
class GradientFlow:
    """The norm of dL/dh_t by distance from the end, measured at one optimizer step."""

    step: int  # optimizer steps done
    layer: int  # from 0, the lowest
    direction: str  # "forward" or "backward"
    distances: np.ndarray  # int64 [distances], time steps to the last one that the direction reads
    norms: np.ndarray  # float64 [distances], means over examples


def read_result(run_folder: Path) -> dict[str, Any]:
    """Return result.json: the metrics, options, data and timings of a run.

    Raises:
        CheckpointError: the file cannot be read, has another schema version, or lacks a key that
            every report needs.
    """
    path = run_folder / "result.json"
    result = read_object(path)
    check_schema(result.get(SCHEMA_KEY), str(path))
    for key in _RESULT_KEYS:
        if key not in result:
            raise CheckpointError(f"{path}: has no {key!r}")
    for key in ("model", "data"):
        if not isinstance(result[key], dict) or not isinstance(result[key].get("name"), str):
            raise CheckpointError(f"{path}: {key!r} has no 'name'")
    return result


def recorded_options(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options in a result.json under dotted names: {"model.hidden_size": 128, ...}."""
    data = result.get("data")
    options = {
        **{name: result[name] for name in _OPTION_GROUPS if isinstance(result.get(name), Mapping)},
        "data": data.get("options") or {} if isinstance(data, Mapping) else {},
        "seed": result.get("seed"),
    }
    return flatten(options)


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file.

    Raises:
        CheckpointError: the file cannot be read or does not contain one.
    """
    try:
        found = json.loads(_read(path))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: expected an object, found {type(found).__name__}")
    return found


def read_metrics(run_folder: Path, *, being_written: bool = False) -> dict[str, np.ndarray]:
    """Return each column of metrics.csv as float64 [rows], NaN where a cell is empty.

    With `being_written`, a truncated last line is ignored.
    """
    path = run_folder / "metrics.csv"
    header, rows = _read_table(path, being_written=being_written)
    if "step" not in header:
        raise CheckpointError(f"{path}: has no column 'step'")
    values = np.array([[_number(path, line, cell or "nan") for cell in row] for line, row in rows])
    return dict(zip(header, values.T, strict=True))


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


def read_predictions(run_folder: Path) -> Predictions:
    """Return predictions.csv. The order of its probability columns is that of the classes."""
    path = run_folder / "predictions.csv"
    header, rows = _read_table(path)
    column = {name: position for position, name in enumerate(header)}
    for name in _PREDICTION_COLUMNS:
        if name not in column:
            raise CheckpointError(f"{path}: has no column {name!r}")
    class_names = tuple(
        name.removeprefix(_PROBABILITY) for name in header if name.startswith(_PROBABILITY)
    )
    if len(class_names) < 2:
        raise CheckpointError(f"{path}: has fewer than two columns {_PROBABILITY}<class>")
    class_index = {name: index for index, name in enumerate(class_names)}

    def classes(name: str) -> np.ndarray:
        found = [class_index.get(row[column[name]], -1) for _, row in rows]
        if -1 in found:
            line, row = rows[found.index(-1)]
            raise CheckpointError(
                f"{path}:{line}: {name} {row[column[name]]!r} is not one of "
                + ", ".join(class_names)
            )
        return np.array(found, dtype=np.int64)

    def numbers(name: str) -> np.ndarray:
        found = np.array([_number(path, line, row[column[name]]) for line, row in rows])
        if np.isnan(found).any():
            line, _ = rows[int(np.isnan(found).argmax())]
            raise CheckpointError(f"{path}:{line}: {name} is not a number")
        return found

    return Predictions(
        class_names=class_names,
        names=[row[column["name"]] for _, row in rows],
        labels=classes("label"),
        predicted=classes("prediction"),
        lengths=numbers("length").astype(np.int64),
        losses=numbers("loss"),
        probabilities=np.stack([numbers(_PROBABILITY + name) for name in class_names], axis=1),
    )


def read_gradient_flow(run_folder: Path) -> list[GradientFlow]:
    """Return gradient_flow.csv, the earliest step first; [] if the run did not measure it."""
    path = run_folder / "gradient_flow.csv"
    if not path.exists():
        return []
    header, rows = _read_table(path)
    column = {name: position for position, name in enumerate(header)}
    for name in ("step", "layer", "direction", "distance", "norm"):
        if name not in column:
            raise CheckpointError(f"{path}: has no column {name!r}")
    curves: dict[tuple[int, int, str], list[tuple[int, float]]] = {}
    for line, row in rows:
        step, layer, distance = (
            int(_number(path, line, row[column[name]])) for name in ("step", "layer", "distance")
        )
        point = (distance, _number(path, line, row[column["norm"]]))
        curves.setdefault((step, layer, row[column["direction"]]), []).append(point)
    return [
        GradientFlow(
            *key,
            np.array([distance for distance, _ in points]),
            np.array([norm for _, norm in points]),
        )
        for key, points in curves.items()
    ]


def by_place(flows: Iterable[GradientFlow]) -> dict[tuple[int, str], list[GradientFlow]]:
    """Group gradient flows by layer and direction, steps in the order given."""
    places: dict[tuple[int, str], list[GradientFlow]] = {}
    for flow in flows:
        places.setdefault((flow.layer, flow.direction), []).append(flow)
    return places


def _read(path: Path) -> str:
    try:
        text = read_text(path)
    except FileNotFoundError:
        raise CheckpointError(
            f"{path}: no such file; is this the folder of a finished run?"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error})") from None
    if not text.strip():
        raise CheckpointError(f"{path}: empty")
    return text


def _read_table(
    path: Path, *, being_written: bool = False
) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the header of a CSV and its rows, at least one, each with its line number."""
    text = _read(path)
    if being_written:
        text = text[: text.rfind("\n") + 1] or "\n"
    if not text.endswith("\n"):
        raise CheckpointError(f"{path}: truncated in its last line")
    reader: Iterator[list[str]] = csv.reader(io.StringIO(text))
    header = next(reader)
    rows = [(reader.line_num, row) for row in reader]  # type: ignore[attr-defined]
    if not rows:
        raise CheckpointError(f"{path}: has no rows")
    for line, row in rows:
        if len(row) != len(header):
            raise CheckpointError(f"{path}:{line}: {len(row)} fields, expected {len(header)}")
    return header, rows


def _number(path: Path, line: int, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise CheckpointError(f"{path}:{line}: {text!r} is not a number") from None
