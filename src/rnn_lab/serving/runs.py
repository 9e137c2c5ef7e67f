"""The runs that a server has loaded: their names, facts, predictions and explanations."""

from collections.abc import Callable, Sequence
from itertools import chain, count
from typing import TYPE_CHECKING, Any

import numpy as np

from rnn_lab.errors import CheckpointError
from rnn_lab.inference.prediction_files import shortest_floats
from rnn_lab.inference.predictor import SingleModel
from rnn_lab.inference.run_loader import load_run
from rnn_lab.iteration import pick_evenly
from rnn_lab.paths import local_path
from rnn_lab.reports.formatting import format_model, format_run, order_metrics
from rnn_lab.runs.result_json import read_result, recorded_options
from rnn_lab.runs.run_folder import run_folder
from rnn_lab.serving.batcher import Batcher
from rnn_lab.serving.config import ServeOptions

if TYPE_CHECKING:  # torch takes seconds to import, and an .onnx file does not need it
    from rnn_lab.inference.explanation import Explanation

# Options of a run that a client sees; others may have paths and addresses.
_SHOWN = (
    *("seed", "data.max_length", "data.tokenizer", "data.batch_size", "data.max_vocab_size"),
    *("optimizer.name", "optimizer.lr", "trainer.max_epochs"),
)
# Compiles, imports and allocates what the first request would wait for.
_WARM_UP = "a text"
_PERCENTILES = (10, 90)  # of the units, around their mean


class ServedRun:
    """A loaded run: its batcher predicts, and in another thread its explainer explains."""

    def __init__(self, name: str, predictor: SingleModel, batcher: Batcher) -> None:
        self.name = name
        self.predictor = predictor
        self.batcher = batcher
        self._explainer = predictor.explainer()
        warm_up = self.explain(_WARM_UP, None).states if predictor.can_explain else {}
        self._hidden_sizes = [states.shape[1] for states in warm_up.values()]  # of each gate
        self.about = _describe(name, predictor)

    def explain(self, text: str, label: str | None) -> "Explanation":
        """Explain the prediction for one text.

        Raises:
            ConfigError: the run has no class `label`, or only predicts.
        """
        return self._explainer.explain(text, label)

    def gate_values(self, units: int) -> int:
        """Return how many numbers `gates` gives for each token if it is asked for `units`."""
        return sum(min(units, hidden_size) for hidden_size in self._hidden_sizes)

    def prediction(self, probabilities: np.ndarray) -> dict[str, Any]:
        """Return the labels of one text and the probability of each class, float32 [classes]."""
        numbers = shortest_floats(probabilities)
        return {
            "label": self.predictor.class_names[int(probabilities.argmax())],
            "labels": self.predictor.predicted(probabilities),
            "probabilities": dict(zip(self.predictor.class_names, numbers, strict=True)),
        }

    def queued(self) -> SingleModel:
        """Return the predictor as one whose batches go through the queue of the batcher."""
        return _Queued(self.predictor, self.batcher)


class _Queued(SingleModel):
    """A run that a thread uses beside other requests."""

    def __init__(self, run: SingleModel, batcher: Batcher) -> None:
        self._run, self._batcher = run, batcher
        self.text_encoder, self.class_names = run.text_encoder, run.class_names
        self.path, self.read_info = run.path, run.read_info

    @property
    def cell(self) -> str:
        return self._run.cell

    @property
    def temperature(self) -> float:
        return self._run.temperature

    @property
    def thresholds(self) -> np.ndarray | None:
        return self._run.thresholds

    @property
    def label_separator(self) -> str:
        return self._run.label_separator

    def probabilities(self, texts: Sequence[np.ndarray]) -> np.ndarray:
        parts = self._batcher.submit(texts, bounded=False)
        return np.concatenate([part.result() for part in parts])


def load_served_runs(
    options: ServeOptions, observe: Callable[[str, int], None]
) -> dict[str, ServedRun]:
    """Load the runs of `options` by their names, the first of which is the default.

    `observe` is called with the name of a run and the number of texts of each batch.

    Raises:
        CheckpointError: one cannot be loaded; the message names it.
        ConfigError: this machine has no such device, or an extra is missing.
    """
    loaded: dict[str, ServedRun] = {}
    for run in options.run:
        name = unique_name(run, loaded)
        predictor = load_run(run, options.device)
        predictor.probabilities([predictor.encode(_WARM_UP)])
        batcher = Batcher(
            predictor,
            max_batch_size=options.max_batch_size,
            max_wait=options.max_wait_ms / 1000,
            max_queue=options.max_queue,
            observe=lambda texts, name=name: observe(name, texts),  # type: ignore[misc]
        )
        loaded[name] = ServedRun(name, predictor, batcher)
    return loaded


def unique_name(run: str, taken: Sequence[str] | dict[str, Any]) -> str:
    """Return a short name for a run: its folder, or its file without the ending.

    Where another run has that name, the file keeps its ending, or a number is added.
    """
    path = local_path(run).absolute()
    folder = run_folder(path)
    base, other = (path.stem, path.name) if folder is None else (folder.name, folder.name)
    names = chain([base, other], (f"{base}-{number}" for number in count(2)))
    return next(name for name in names if name not in taken)


def gates(explanation: "Explanation", units: int) -> list[dict[str, Any]]:
    """Return each gate and state over time: mean and percentiles of its units.

    With `units`, also the values of so many units, evenly spaced.
    """
    values = explanation.about["values"]
    found = []
    for key, states in explanation.states.items():  # float32 [time, hidden]
        layer, direction, gate = key.split("_", 2)
        low, high = np.percentile(states, _PERCENTILES, axis=1)
        chosen = pick_evenly(states.shape[1], units)
        title: str = values[gate]["title"]
        found.append(
            {
                "layer": int(layer),
                "backward": direction == "backward",
                "key": gate,
                "kind": values[gate]["kind"],
                "name": title.partition("$")[0].partition(":")[0].strip(),
                "ends": values[gate]["ends"],
                "mean": _rounded(states.mean(axis=1)),
                "low": _rounded(low),
                "high": _rounded(high),
                "units": chosen.tolist(),
                "values": [_rounded(row) for row in states[:, chosen]] if units else None,
            }
        )
    return found


def _rounded(values: np.ndarray) -> list[float]:
    return [round(value, 4) for value in values.tolist()]


def _describe(name: str, run: SingleModel) -> dict[str, Any]:
    """Return what a client sees of a run."""
    result: dict[str, Any] = {}
    options = _model_options(run)
    model = {"name": run.cell, "bidirectional": options.get("model.bidirectional")}
    description = f"{format_model({'model': model})}, {run.path.name}"
    if folder := run_folder(run.path):
        try:
            result = read_result(folder)
            description, options = format_run(result), recorded_options(result)
        except (CheckpointError, KeyError, TypeError):  # unfinished, or its result is damaged
            result = {}
    thresholds = run.thresholds
    return {
        "name": name,
        "cell": run.cell,
        "task": run.task,
        "classes": list(run.class_names),
        "temperature": run.temperature,
        "thresholds": None if thresholds is None else thresholds.tolist(),
        "explains": run.can_explain,
        "description": description,
        "metrics": {
            metric: result[metric]
            for metric in order_metrics(result)
            if isinstance(result[metric], int | float) and np.isfinite(result[metric])
        },
        "config": {
            option: value
            for option, value in options.items()
            if (option in _SHOWN or option.startswith("model."))
            and option != "model.init_from"  # a path
            and isinstance(value, str | int | float | bool | None)
        },
        "max_tokens": run.text_encoder.max_length,
    }


def _model_options(run: SingleModel) -> dict[str, Any]:
    config = getattr(run, "model_config", None)
    options = {} if config is None else config.model_dump()
    return {f"model.{option}": value for option, value in options.items()}
