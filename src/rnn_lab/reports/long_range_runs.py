"""The runs of a long-range sweep, by model, distance and seed."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from rnn_lab.errors import CheckpointError
from rnn_lab.reports.formatting import model_words
from rnn_lab.reports.run_files import read_result

MODELS = ("rnn", "gru", "lstm")


@dataclass(frozen=True)
class LongRangeRun:
    """One finished run of the sweep."""

    folder: Path
    model: str  # what its line is called
    kind: str  # rnn, lstm or gru
    distance: int
    seed: int
    accuracy: float  # of the test split
    chance: float  # of one class in so many


@dataclass(frozen=True)
class Sweep:
    """The finished runs, by model, distance and seed, and what is not there."""

    runs: dict[tuple[str, int, int], LongRangeRun]
    unfinished: tuple[str, ...]  # folders without a result

    @property
    def models(self) -> list[str]:
        """The names of the lines: RNN, GRU, LSTM, and of each kind the smaller bias first."""
        named = {run.model: MODELS.index(run.kind) for run in self.runs.values()}
        return sorted(named, key=lambda model: (named[model], len(model), model))

    @property
    def distances(self) -> list[int]:
        """Every distance that some run has, ascending."""
        return sorted({distance for _, distance, _ in self.runs})

    @property
    def seeds(self) -> list[int]:
        """Every seed that some run has, ascending."""
        return sorted({seed for _, _, seed in self.runs})

    @property
    def gaps(self) -> list[tuple[str, int, int]]:
        """The combinations of the above that no finished run has."""
        grid = product(self.models, self.distances, self.seeds)
        return [place for place in grid if place not in self.runs]

    def accuracies(self, model: str, distance: int) -> np.ndarray:
        """Test accuracies, float64 [seeds that finished], which may be none."""
        found = (self.runs.get((model, distance, seed)) for seed in self.seeds)
        return np.array([run.accuracy for run in found if run is not None])


def read_sweep(folders: Sequence[Path]) -> Sweep:
    """Return the runs of `experiment=long_range` in these folders.

    Raises:
        CheckpointError: there is none, one is of other data, or two are the same run twice.
    """
    runs: dict[tuple[str, int, int], LongRangeRun] = {}
    unfinished = []
    for folder in folders:
        if not folder.is_dir():
            raise CheckpointError(f"{folder}: no such folder; give that of a sweep")
        for config in sorted(folder.glob("*/config")):
            if not (config.parent / "result.json").exists():
                unfinished.append(str(config.parent))
                continue
            run = _read_run(config.parent)
            place = run.model, run.distance, run.seed
            if place in runs:
                raise CheckpointError(
                    f"{run.folder}: {run.model} at distance {run.distance}, seed {run.seed} "
                    f"stands in {runs[place].folder} too; give one of them"
                )
            runs[place] = run
    if not runs:
        raise CheckpointError(f"{', '.join(map(str, folders))}: no finished run in it")
    return Sweep(runs, tuple(unfinished))


def _read_run(folder: Path) -> LongRangeRun:
    result = read_result(folder)
    if result["data"]["name"] != "long_range":
        raise CheckpointError(f"{folder}: a run of {result['data']['name']}, not of long_range")
    model = model_words(result)
    if (bias := result["model"].get("forget_bias")) is not None:
        model += f", forget bias {bias:g}"
    if result["model"].get("reset_after") is False:
        model += ", reset before"
    return LongRangeRun(
        folder,
        model,
        result["model"]["name"],
        result["data"]["options"]["distance"],
        result["seed"],
        result["test/accuracy"],
        1 / len(result["data"]["class_names"]),
    )
