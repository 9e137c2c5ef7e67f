"""Read the files of run folders into checked dictionaries and NumPy arrays.

A file that is missing, empty, truncated or malformed raises a CheckpointError, one line that names
the file.
"""

import contextlib
import csv
import io
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from rnn_lab.errors import CheckpointError, ConfigError
from rnn_lab.io.atomic import read_json, read_text
from rnn_lab.io.locks import is_locked
from rnn_lab.io.run_file import CHECKPOINT_DIR, is_sweep_dir
from rnn_lab.io.schema import SCHEMA_KEY, check_schema
from rnn_lab.paths import local_path
from rnn_lab.reports.untrusted import get_group
from rnn_lab.validation import flatten

Runs = str | Path | Sequence[str | Path]  # one run or several, or the folder of a sweep
JobStatus = Literal["finished", "pruned", "failed", "running", "unfinished"]
JobFile = Literal["job", "result", "pruned", "failure"]

TOP_LOSSES = "top_losses.csv"  # the test examples with the highest loss, and their texts
MAX_TOP_LOSSES = 100  # in it
RUN_PAGE, SWEEP_PAGE = "run.html", "sweep.html"  # which link to each other
CONFIG_DIR = ".hydra"  # of a run folder: the composed config and the overrides
JOB_LOCK = "job.lock"  # held by the process that runs the job
_RESULT_KEYS = ("model", "data", "seed", "synthetic", "best_epoch")
_OPTION_GROUPS = ("objective", "model", "loss", "optimizer", "scheduler", "trainer")
_LABEL, _PREDICTION, _PROBABILITY = "label_", "prediction_", "probability_"
# The first of them that exists decides: an earlier attempt can have left the others.
_STATUS: dict[JobFile, JobStatus] = {"result": "finished", "pruned": "pruned", "failure": "failed"}
# Any of these makes a folder a job. The first is written once the job holds its lock: Hydra's files
# are there before, when another process that starts a job would still look like one that died.
_JOB_FILES = (
    "job.json", "result.json", "pruned.json", "failure.json", "metrics.csv", CHECKPOINT_DIR,
)  # fmt: skip
_MAX_DEPTH = 4  # of job folders below the sweep


# ---- Jobs of a sweep. The sweep commands write these files and decide by them what is left to do;
# reports show them. Both use these functions, so that they never disagree on a job's status.


def job_file(folder: Path, file: JobFile) -> Path:
    """Return the path of a job's JSON file."""
    return folder / f"{file}.json"


def job_status(folder: Path) -> JobStatus:
    """Return the status of the job in `folder`, from the files there and its lock.

    "running" is a job whose lock is held; "unfinished" one whose process is gone.
    """
    status = _end_status(folder)
    if status is None and is_locked(folder / JOB_LOCK):
        return "running"
    return status or _end_status(folder) or "unfinished"  # it may have ended between the two looks


def _end_status(folder: Path) -> JobStatus | None:
    return next((_STATUS[file] for file in _STATUS if job_file(folder, file).exists()), None)


def read_job_file(folder: Path, file: JobFile) -> dict[str, Any]:
    """Return the content of a job's JSON file, {} where it is missing or damaged."""
    return read_json(job_file(folder, file)) or {}


def is_job_dir(folder: Path) -> bool:
    """Return whether a run started in `folder`."""
    return any((folder / name).exists() for name in _JOB_FILES)


def refuse_unfinished(run: str) -> None:
    """Raise a CheckpointError where `run` is the folder of a run that has not finished.

    A folder that has nothing but checkpoints, such as a copy, is accepted.
    """
    folder = local_path(run)
    if job_file(folder, "job").exists() and (status := job_status(folder)) != "finished":
        raise CheckpointError(
            f"{folder}: {status}; wait for its end or resume it, or name one of its checkpoints: "
            "<run dir>/checkpoints/last.ckpt"
        )


def find_job_dirs(sweep: Path, depth: int = _MAX_DEPTH) -> list[Path]:
    """Return the job folders below `sweep`, sorted by path; [] if it does not exist.

    Links are not followed. A slash in an override nests a job folder: `data.train_path=a/b.csv`.
    Within the folder of a job, and in hidden folders, there are none: other processes may be
    creating, finishing or removing what is there.
    """
    found: list[Path] = []
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for path in sweep.iterdir() if depth else []:
            if path.name.startswith(".") or path.is_symlink() or not path.is_dir():
                continue
            if is_job_dir(path):
                found.append(path)
            elif not (path / CONFIG_DIR).exists():
                found += find_job_dirs(path, depth - 1)
    return sorted(found)


def list_runs(run: Runs) -> list[str]:
    """Return the runs that an option `run` stands for: of the folder of a sweep, all of its runs.

    Raises:
        CheckpointError: a run of the sweep is not finished; names it.
        ConfigError: there is no run.
    """
    given = [run] if isinstance(run, str | Path) else list(run)
    if not given or not all(map(str, given)):
        raise ConfigError("run: give the folder or file of a finished run, or a list of them")
    return [one for each in given for one in _runs_of(str(each))]


def _runs_of(run: str) -> list[str]:
    folder = local_path(run)
    jobs = find_job_dirs(folder) if is_sweep_dir(folder) else []
    for job in jobs:
        if (status := job_status(job)) != "finished":
            raise CheckpointError(
                f"{job}: {status}; an ensemble of the sweep {run} needs all of its runs. Name "
                "those that you want: [<run dir>,<run dir>]"
            )
    return [str(job) for job in jobs] or [run]


# ---- result.json and the options in it


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
    groups = {name: result.get(name) for name in _OPTION_GROUPS}
    options = {name: group for name, group in groups.items() if isinstance(group, Mapping)}
    options["data"] = data.get("options") or {} if isinstance(data, Mapping) else {}
    return flatten({**options, "seed": result.get("seed")})


def recorded_mode(result: Mapping[str, Any]) -> Any:
    """Return whether a smaller or larger `monitored_metric` is better: the argument of metric_mode.

    A run of an earlier version recorded its option alone.
    """
    return result.get("monitored_mode") or get_group(result, "trainer").get("monitor_mode")


def option_key(value: Any) -> tuple[str, Any]:
    """Return a hashable key, equal for equal values of an option.

    1, true and "1" are three values; 1 and 1.0 are one, and so are a list and a tuple.
    """
    if isinstance(value, bool):
        return "bool", value
    if isinstance(value, int | float):
        return "number", value
    if value is None or isinstance(value, str):
        return type(value).__name__, value
    return "json", json.dumps(value, sort_keys=True, default=str)


def diff_options(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return (name, value in `a`, value in `b`) of every option that differs.

    Groups of options are compared under dotted names ("model.hidden_size"). An option that one of
    the two does not have counts as null.
    """
    first, second = flatten(a), flatten(b)
    return [
        (name, first.get(name), second.get(name))
        for name in dict.fromkeys([*first, *second])
        if option_key(first.get(name)) != option_key(second.get(name))
    ]


# ---- metrics.csv


def read_metrics(run_folder: Path, *, being_written: bool = False) -> dict[str, np.ndarray]:
    """Return each column of metrics.csv as float64 [rows], NaN where a cell is empty.

    With `being_written`, a truncated last line is ignored.
    """
    table = _Table(run_folder / "metrics.csv", ("step",), being_written=being_written)
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


# ---- predictions.csv


class HighLossExample(NamedTuple):
    """One example of the test split."""

    name: str  # where it came from: file and line
    label: str  # or several, joined with ", "
    prediction: str  # likewise
    probability: float  # of the prediction; see `probability_of`
    loss: float  # cross-entropy in nats


def format_labels(labels: np.ndarray, class_names: Sequence[str]) -> list[str]:
    """Return the name of each label, an index [examples]; several, [examples, classes], joined."""
    if labels.ndim == 1:
        return [class_names[label] for label in labels]
    return [", ".join(itertools.compress(class_names, row)) for row in labels]


def probability_of(predicted: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return the probability [examples] of what is predicted, of probabilities [examples, classes].

    Of any number of labels, [examples, classes], it is that all of them are right, if they are
    independent.
    """
    if predicted.ndim == 2:
        return np.where(predicted, probabilities, 1 - probabilities).prod(axis=1)
    return probabilities[np.arange(len(predicted)), predicted]


@dataclass(frozen=True)
class Predictions:
    """The predictions of the test split, one entry per example in every array."""

    class_names: tuple[str, ...]
    names: list[str]  # where each example came from: file and line
    # Each int64 [examples], an index into class_names; or, where a text has any number of labels,
    # bool [examples, classes].
    labels: np.ndarray
    predicted: np.ndarray
    lengths: np.ndarray  # int64 [examples], tokens
    losses: np.ndarray  # float64 [examples], cross-entropy in nats
    probabilities: np.ndarray  # float64 [examples, classes]

    @property
    def correct(self) -> np.ndarray:
        """Whether each prediction equals the label, or exactly the labels: bool [examples]."""
        is_equal: np.ndarray = self.predicted == self.labels
        return is_equal.reshape(len(self.names), -1).min(axis=1)

    @property
    def is_multilabel(self) -> bool:
        """Whether a text has any number of labels."""
        return self.labels.ndim == 2

    def format_labels(self, labels: np.ndarray) -> list[str]:
        """Return the names of `labels`, rows of one of the two arrays."""
        return format_labels(labels, self.class_names)


def read_predictions(run_folder: Path) -> Predictions:
    """Return predictions.csv. The order of its probability columns is that of the classes."""
    path = run_folder / "predictions.csv"
    table = _Table(path, ("name", "length", "loss"))
    columns = [name for name in table.columns if name.startswith(_PROBABILITY)]
    class_names = tuple(name.removeprefix(_PROBABILITY) for name in columns)
    if len(class_names) < 2:
        raise CheckpointError(f"{path}: has fewer than two columns {_PROBABILITY}<class>")
    class_index = {name: index for index, name in enumerate(class_names)}

    def classes(name: str) -> np.ndarray:
        found = np.array([class_index.get(cell, -1) for cell in table.columns[name]])
        if (found < 0).any():
            row = int(found.argmin())
            cell, known = table.columns[name][row], ", ".join(class_names)
            raise table.error(row, f"{name} {cell!r} is not one of {known}")
        return found

    def numbers(name: str) -> np.ndarray:
        found = table.numbers(name)
        if np.isnan(found).any():
            raise table.error(int(np.isnan(found).argmax()), f"{name} is not a number")
        return found

    labels, predicted = (
        np.stack([numbers(f"{kind}{name}") for name in class_names], axis=1) > 0
        if f"{_LABEL}{class_names[0]}" in table.columns
        else classes(kind.rstrip("_"))
        for kind in (_LABEL, _PREDICTION)
    )
    return Predictions(
        class_names=class_names,
        names=list(table.columns["name"]),
        labels=labels,
        predicted=predicted,
        lengths=numbers("length").astype(np.int64),
        losses=numbers("loss"),
        probabilities=np.stack([numbers(name) for name in columns], axis=1),
    )


# ---- top_losses.csv


class TopLoss(NamedTuple):
    """One row of top_losses.csv: a test example with a high loss, and its text."""

    example: HighLossExample
    text: str


def read_top_losses(run_folder: Path) -> list[TopLoss]:
    """Return top_losses.csv, the highest loss first."""
    table = _Table(run_folder / TOP_LOSSES, (*HighLossExample._fields, "text"))
    names, labels, predictions = (table.columns[name] for name in HighLossExample._fields[:3])
    numbers = (table.numbers(name).tolist() for name in HighLossExample._fields[3:])
    columns = zip(names, labels, predictions, *numbers, strict=True)
    examples = [HighLossExample(*row) for row in columns]
    return [TopLoss(*row) for row in zip(examples, table.columns["text"], strict=True)]


# ---- gradient_flow.csv


@dataclass(frozen=True)
class GradientFlowCurve:
    """The norm of dL/dh_t by distance from the end, measured at one optimizer step."""

    step: int  # optimizer steps done
    layer: int  # from 0, the lowest
    direction: str  # "forward" or "backward"
    distances: np.ndarray  # int64 [distances], time steps to the last one that the direction reads
    norms: np.ndarray  # float64 [distances], means over examples


def read_gradient_flow(run_folder: Path) -> list[GradientFlowCurve]:
    """Return gradient_flow.csv, the earliest step first; [] if the run did not measure it."""
    path = run_folder / "gradient_flow.csv"
    if not path.exists():
        return []
    table = _Table(path, ("step", "layer", "direction", "distance", "norm"))
    whole = (table.numbers(name).astype(np.int64) for name in ("step", "layer", "distance"))
    steps, layers, distances = whole
    norms = table.numbers("norm")
    rows: dict[tuple[int, int, str], list[int]] = {}
    keys = zip(steps.tolist(), layers.tolist(), table.columns["direction"], strict=True)
    for row, key in enumerate(keys):
        rows.setdefault(key, []).append(row)
    return [GradientFlowCurve(*key, distances[found], norms[found]) for key, found in rows.items()]


def by_place(flows: Iterable[GradientFlowCurve]) -> dict[tuple[int, str], list[GradientFlowCurve]]:
    """Group gradient flows by layer and direction, steps in the order given."""
    places: dict[tuple[int, str], list[GradientFlowCurve]] = {}
    for flow in flows:
        places.setdefault((flow.layer, flow.direction), []).append(flow)
    return places


# ---- Text and tables


class _Table:
    """The columns of a CSV file with at least one row."""

    def __init__(self, path: Path, required: Sequence[str], *, being_written: bool = False) -> None:
        text = _read(path)
        if being_written:
            text = text[: text.rfind("\n") + 1] or "\n"
        if not text.endswith("\n"):
            raise CheckpointError(f"{path}: truncated in its last line")
        # Of top_losses.csv, a cell can be a long text. The file is in memory already.
        csv.field_size_limit(max(csv.field_size_limit(), len(text)))
        reader = csv.reader(io.StringIO(text))
        header = next(reader)
        rows = [(reader.line_num, row) for row in reader]
        if not rows:
            raise CheckpointError(f"{path}: has no rows")
        for line, row in rows:
            if len(row) != len(header):
                raise CheckpointError(f"{path}:{line}: {len(row)} fields, expected {len(header)}")
        for name in required:
            if name not in header:
                raise CheckpointError(f"{path}: has no column {name!r}")
        self.path, self.lines = path, [line for line, _ in rows]
        cells = zip(*(row for _, row in rows), strict=True)
        self.columns = dict(zip(header, cells, strict=True))

    def numbers(self, name: str, *, empty: str = "") -> np.ndarray:
        """Return a column as float64 [rows], an empty cell as the number `empty`, if given."""
        values = []
        for row, cell in enumerate(self.columns[name]):
            try:
                values.append(float(cell or empty))
            except ValueError:
                raise self.error(row, f"{cell!r} is not a number") from None
        return np.array(values)

    def error(self, row: int, reason: str) -> CheckpointError:
        return CheckpointError(f"{self.path}:{self.lines[row]}: {reason}")


def _read(path: Path) -> str:
    try:
        text = read_text(path)
    except FileNotFoundError:
        hint = "is this the folder of a finished run?"
        raise CheckpointError(f"{path}: no such file; {hint}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error})") from None
    if not text.strip():
        raise CheckpointError(f"{path}: empty")
    return text
